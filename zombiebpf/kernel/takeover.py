# SPDX-License-Identifier: Apache-2.0
"""Take over what exists already: tell the probes what is selected, and have them look.

The probes walk the machine's own list of processes, because /proc gives a start
time to 10 ms only, and nothing of /proc is in order with the events. How no
process falls between is told in probes/takeover.bpf.c.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import NamedTuple

from zombiebpf.errors import ZombiebpfError
from zombiebpf.kernel.hooks import Choice, Kernel
from zombiebpf.kernel.loaded import Probes

# in probes/takeover.h
_ALL, _CGROUPS, _TAKING = 1, 2, 4
_ASKED, _DONE = 1, 2

_MOST_CALLS = 1_000_000  # of some 32 processes each
_MOST_PASSES = 64

# function, tracepoint: those that are needed while it lasts, and afterwards too
_WHILE = (
    ("on_takeover_exit", "sched_process_exit"),  # where functions tell of it, part of their program
    ("on_takeover_fork", "sched_process_fork"),
    ("on_takeover_step", "sched_process_wait"),
)
_MOVE = ("on_takeover_move", "cgroup_attach_task")


class Selection(NamedTuple):
    """What is to be followed, each with all its descendants."""

    pids: Collection[int] = ()  # as our PID namespace has them
    cgroups: Collection[int] = ()  # ids of the unified hierarchy; all below them too
    everything: bool = False  # but us and kernel threads


def programs(kernel: Kernel, choices: Mapping[str, Choice]) -> list[tuple[str, str]]:
    """(function, tracepoint) to be attached before all others."""
    inlined = {f"on_takeover_{fact}" for fact, choice in choices.items() if choice.way}
    wanted = [each for each in _WHILE if each[0] not in inlined]
    if kernel.has_tracepoint(_MOVE[1]):
        wanted.append(_MOVE)
    return wanted


def take_over(probes: Probes, selection: Selection) -> None:
    """Follow all that exists and is selected, from now on; it is told by Existing events."""
    one = probes["wanted"].Leaf(1)
    for pid in selection.pids:
        probes["wanted"][probes["wanted"].Key(pid)] = one
    for number in selection.cgroups:
        probes["wanted_cgroups"][probes["wanted_cgroups"].Key(number)] = one
    mode = _ALL * selection.everything | _CGROUPS * bool(selection.cgroups)
    _set_mode(probes, mode | _TAKING)
    try:
        for _ in range(_MOST_PASSES):
            if not _walk(probes):  # children may precede their parents in the list
                break
    finally:
        _set_mode(probes, mode)
        for function, _ in _WHILE:
            probes.detach(function)
        if not selection.cgroups:
            probes.detach(_MOVE[0])


def _set_mode(probes: Probes, mode: int) -> None:
    table = probes["selection"]
    table[table.Key(0)] = table.Leaf(mode)


def _walk(probes: Probes) -> int:
    """Once over all processes; how many were found that were not followed yet."""
    table = probes["tours"]
    table[table.Key(0)] = table.Leaf(0, 0, 0, _ASKED, os.getpid(), 0, 0, 0)
    for _ in range(_MOST_CALLS):
        with suppress(ChildProcessError):  # but do_wait() has been entered: the probe's call
            os.waitid(os.P_PID, os.getpid(), os.WEXITED | os.WNOHANG)
        tour = table[table.Key(0)]
        if tour.state == _DONE:
            return int(tour.found)
    raise ZombiebpfError(
        "the machine's processes could not be walked through: "
        f"{tour.seen} were seen, {tour.restarts} restarts",
        "report this with the output of `zombiebpf doctor`",
    )
