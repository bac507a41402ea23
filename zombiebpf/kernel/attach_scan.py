# SPDX-License-Identifier: Apache-2.0
"""Follow running processes: give the probes the selection and have them scan all processes.

The probes walk the kernel's own list of processes: /proc has start times of only 10 ms
resolution and no order with the events. probes/attach_scan.bpf.c explains why the scan
misses no process.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import NamedTuple

from zombiebpf.bpf.loaded import Probes
from zombiebpf.errors import ZombiebpfError
from zombiebpf.kernel.hooks import Choice, Kernel

# Bits of `selection` and states of `scans`, in probes/attach_scan.h.
_ALL, _CGROUPS, _SCANNING = 1, 2, 4
_ASKED, _DONE = 1, 2

_MAX_CALLS = 1_000_000  # of the probe, some 32 processes each
_MAX_PASSES = 64

# (program, tracepoint); the last is also needed after the scan if cgroups are selected
_DURING_SCAN = (
    ("on_scan_exit", "sched_process_exit"),
    ("on_scan_fork", "sched_process_fork"),
    ("on_scan_step", "sched_process_wait"),
)
_CGROUP_MOVE = ("on_scan_move", "cgroup_attach_task")


class Selection(NamedTuple):
    """The processes to follow, each with all its descendants."""

    pids: Collection[int] = ()  # in the observer's PID namespace
    cgroups: Collection[int] = ()  # ids of the unified hierarchy, with all cgroups below them
    everything: bool = False  # except the observer and kernel threads


def programs(kernel: Kernel, choices: Mapping[str, Choice]) -> list[tuple[str, str]]:
    """Return (function, tracepoint) of the programs to attach before all others."""
    # a function probe of the fact does the same itself
    inlined = {f"on_scan_{fact}" for fact, choice in choices.items() if choice.attach_kind}
    wanted = [each for each in _DURING_SCAN if each[0] not in inlined]
    if kernel.has_tracepoint(_CGROUP_MOVE[1]):
        wanted.append(_CGROUP_MOVE)
    return wanted


def scan(probes: Probes, selection: Selection) -> None:
    """Follow the selected processes that run now; Snapshot events report them.

    Raise ZombiebpfError if the kernel's list of processes could not be walked.
    """
    one = probes["wanted"].Leaf(1)
    for pid in selection.pids:
        probes["wanted"][probes["wanted"].Key(pid)] = one
    for number in selection.cgroups:
        probes["wanted_cgroups"][probes["wanted_cgroups"].Key(number)] = one
    mode = _ALL * selection.everything | _CGROUPS * bool(selection.cgroups)
    _set_mode(probes, mode | _SCANNING)
    try:
        for _ in range(_MAX_PASSES):
            if not _walk(probes):  # children may precede their parents in the list
                break
    finally:
        _set_mode(probes, mode)
        for function, _ in _DURING_SCAN:
            probes.detach(function)
        if not selection.cgroups:
            probes.detach(_CGROUP_MOVE[0])


def _set_mode(probes: Probes, mode: int) -> None:
    table = probes["selection"]
    table[table.Key(0)] = table.Leaf(mode)


def _walk(probes: Probes) -> int:
    """Walk all processes once; return how many were newly followed."""
    table = probes["scans"]
    table[table.Key(0)] = table.Leaf(0, 0, 0, _ASKED, os.getpid(), 0, 0, 0)
    for _ in range(_MAX_CALLS):
        with suppress(ChildProcessError):  # do_wait() calls the probe even if it fails
            os.waitid(os.P_PID, os.getpid(), os.WEXITED | os.WNOHANG)
        scan = table[table.Key(0)]
        if scan.state == _DONE:
            return int(scan.found)
    raise ZombiebpfError(
        "the machine's processes could not be walked through: "
        f"{scan.seen} were seen, {scan.restarts} restarts",
        "report this with the output of `zombiebpf doctor`",
    )
