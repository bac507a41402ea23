# SPDX-License-Identifier: Apache-2.0
"""What only /proc tells of processes that existed before, added to the events that tell of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Protocol

from zombiebpf.attach.processes import PROC, arguments, is_same, read_stat
from zombiebpf.events import Event, Existing, ExistingFlags, Fork


class Interpreters(Protocol):
    """zombiebpf.kernel.pythons.Pythons: what it is told of."""

    def register(self, pid: int, tgid: Optional[int], has_children: bool) -> bool:
        """It runs; `tgid` is its number in the machine's first PID namespace."""

    def gone(self, pid: int) -> None:
        """It ran when it was taken over, and does not any more."""

    def born(self, forker: int, child: int, ns: int) -> bool:
        """A fork, CLOCK_MONOTONIC ns. Whether it was before its forker was told of."""


class TakenOver:
    """Put between the observer and the lifecycle."""

    def __init__(self, pythons: Optional[Interpreters] = None, proc: Path = PROC) -> None:
        self._pythons = pythons
        self._proc = proc
        self._told_ns = 0  # when the latest of them was

    def completed(self, events: Sequence[Event]) -> Sequence[Event]:
        """The same events; those of processes taken over with their command lines."""
        has_existing = any(event.__class__ is Existing for event in events)
        if not has_existing and not (events and events[0].ns < self._told_ns):
            return events
        parents = {_parent(event) for event in events}
        completed = []
        for event in events:
            if isinstance(event, Existing):
                event = self._complete(event, event.pid in parents)
            elif isinstance(event, Fork) and event.ns < self._told_ns:
                self._take_fork(event)
            completed.append(event)
        return completed

    def _take_fork(self, event: Fork) -> None:
        pythons = self._pythons
        if pythons is not None and pythons.born(event.forker_pid, event.pid, event.ns):
            self._told_ns = time.monotonic_ns()  # what the child has forked meanwhile is next

    def _complete(self, event: Existing, has_children: bool) -> Existing:
        comm = None
        if event.parent_pid and is_same(event.parent_pid, event.parent_start_ns, self._proc):
            stat = read_stat(event.parent_pid, self._proc)
            comm = None if stat is None else stat.comm
        argv = None
        if event.pid and not event.flags & ExistingFlags.EXITING:
            argv = arguments(event.pid, self._proc)
            if not is_same(event.pid, event.start_ns, self._proc):
                argv = None  # it has ended, and its number is free or another's
            if self._pythons is not None:
                known = argv is not None and self._pythons.register(
                    event.pid, event.tgid, has_children
                )
                if argv is None or not (known or arguments(event.pid, self._proc)):
                    self._pythons.gone(event.pid)
                self._told_ns = time.monotonic_ns()
        return event._replace(parent_comm=comm, argv=argv)


def _parent(event: Event) -> Optional[int]:
    if isinstance(event, Existing):
        return event.parent_pid
    return event.forker_pid if isinstance(event, Fork) else None
