# SPDX-License-Identifier: Apache-2.0
"""What is a thread doing just now? The probes' own note where it is Python, else /proc."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Optional

from zombiebpf.kernel.calls import syscall_names
from zombiebpf.kernel.loaded import Probes


class Doing(NamedTuple):
    """One look at a thread."""

    comm: Optional[str]
    syscall: Optional[str]  # it is blocked in; None: it runs
    since_ns: Optional[int]  # CLOCK_MONOTONIC; None: not known
    stack_id: int  # 0: none


def look_at(probes: Probes, pid: int, tid: int, kernel_tids: bool) -> Optional[Doing]:
    """None: it is gone, or may not be looked at.

    `kernel_tids`: `tid` is also the kernel's own number, by which the probes have their notes.
    """
    try:
        task = Path(f"/proc/{pid}/task/{tid}")
        comm = (task / "comm").read_bytes().rstrip(b"\n").decode("utf-8", "surrogateescape")
        first, *_ = (task / "syscall").read_text().split()
    except (OSError, ValueError):
        return None
    if first == "running":
        return Doing(comm, None, None, 0)
    if first == "-1":
        return Doing(comm, "(in the kernel)", None, 0)  # a fault, or stopped
    number = int(first)
    name = syscall_names().get(number, f"syscall_{number}")
    note = _note(probes, tid) if kernel_tids else None
    if note is None or note.syscall != number:
        return Doing(comm, name, None, 0)
    return Doing(comm, name, note.ns, note.stack_id)


def _note(probes: Probes, tid: int) -> Any:
    """The entry of the probes' table `blocks`: where it went to sleep."""
    blocks = probes["blocks"]
    try:
        return blocks[blocks.Key(tid)]
    except KeyError:
        return None
