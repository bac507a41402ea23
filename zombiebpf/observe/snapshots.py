# SPDX-License-Identifier: Apache-2.0
"""Complete the events of the attach scan from /proc: command lines, comms, interpreters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from zombiebpf.attach.processes import PROC, arguments, is_same, read_stat
from zombiebpf.kernel.interpreters import InterpreterRegistry
from zombiebpf.model.events import Event, Fork, Snapshot, SnapshotFlags


class SnapshotCompleter:
    """A filter that completes the events of processes that ran before zombiebpf attached."""

    def __init__(self, registry: InterpreterRegistry, proc: Path = PROC) -> None:
        """`registry` learns which of the processes are Python."""
        self._registry = registry
        self._proc = proc
        self._registered_ns = 0  # CLOCK_MONOTONIC, of the latest registration

    def complete(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return the events, with command line and parent's comm in each Snapshot."""
        has_snapshot = any(event.__class__ is Snapshot for event in events)
        if not has_snapshot and not (events and events[0].ns < self._registered_ns):
            return events
        parents = {_parent(event) for event in events}
        completed = []
        for event in events:
            if isinstance(event, Snapshot):
                event = self._complete_snapshot(event, event.pid in parents)
            elif (
                isinstance(event, Fork)
                and event.ns < self._registered_ns
                and self._registry.register_fork(event.forker_pid, event.pid, event.ns)
            ):
                self._registered_ns = time.monotonic_ns()  # the child may have forked meanwhile
            completed.append(event)
        return completed

    def _complete_snapshot(self, event: Snapshot, has_children: bool) -> Snapshot:
        comm = None
        if event.parent_pid and is_same(event.parent_pid, event.parent_start_ns, self._proc):
            stat = read_stat(event.parent_pid, self._proc)
            comm = None if stat is None else stat.comm
        argv = None
        if event.pid and not event.flags & SnapshotFlags.EXITING:
            argv = arguments(event.pid, self._proc)
            if not is_same(event.pid, event.start_ns, self._proc):
                argv = None  # it has exited, and its PID is free or another process's
            known = argv is not None and self._registry.register(
                event.pid, event.tgid, has_children
            )
            if argv is None or not (known or arguments(event.pid, self._proc)):
                self._registry.note_exited(event.pid)
            self._registered_ns = time.monotonic_ns()
        return event._replace(parent_comm=comm, argv=argv)


def _parent(event: Event) -> Optional[int]:
    if isinstance(event, Snapshot):
        return event.parent_pid
    return event.forker_pid if isinstance(event, Fork) else None
