# SPDX-License-Identifier: Apache-2.0
"""Sample what a thread is doing, from /proc and, if it is Python, from the probes' table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Optional

from zombiebpf.bpf.loaded import Probes
from zombiebpf.kernel.syscalls import syscall_names


class ThreadActivity(NamedTuple):
    """One sample of a thread."""

    comm: Optional[str]
    syscall: Optional[str]  # that it is blocked in; None: it runs
    since_ns: Optional[int]  # when it blocked, CLOCK_MONOTONIC; None: unknown
    stack_id: int  # 0: none


def look_at(probes: Probes, pid: int, tid: int, kernel_tids: bool) -> Optional[ThreadActivity]:
    """Sample a thread. Return None if it does not exist or /proc may not be read.

    `kernel_tids`: `tid` is also its number in the first PID namespace, the key of the table.
    """
    try:
        task = Path(f"/proc/{pid}/task/{tid}")
        comm = (task / "comm").read_bytes().rstrip(b"\n").decode("utf-8", "surrogateescape")
        first, *_ = (task / "syscall").read_text().split()
    except (OSError, ValueError):
        return None
    if first == "running":
        return ThreadActivity(comm, None, None, 0)
    if first == "-1":
        return ThreadActivity(comm, "(in the kernel)", None, 0)  # a fault, or stopped
    number = int(first)
    name = syscall_names().get(number, f"syscall_{number}")
    block = _block(probes, tid) if kernel_tids else None
    if block is None or block.syscall != number:
        return ThreadActivity(comm, name, None, 0)
    return ThreadActivity(comm, name, block.ns, block.stack_id)


def _block(probes: Probes, tid: int) -> Any:
    """Return the entry of the probes' table `blocks`: where the thread went to sleep."""
    blocks = probes["blocks"]
    try:
        return blocks[blocks.Key(tid)]
    except KeyError:
        return None
