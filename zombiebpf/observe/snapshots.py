# SPDX-License-Identifier: Apache-2.0
"""Complete the events of the attach scan from /proc: command lines, comms, interpreters."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Union, cast

from zombiebpf.attach.processes import PROC, arguments, is_same, read_stat
from zombiebpf.kernel.interpreters import InterpreterRegistry
from zombiebpf.model import wire
from zombiebpf.model.events import Fork, Snapshot, SnapshotFlags
from zombiebpf.model.wire import Records


class SnapshotCompleter:
    """Completes the snapshots of processes that ran before zombiebpf attached."""

    def __init__(self, registry: InterpreterRegistry, proc: Path = PROC) -> None:
        """`registry` learns which of the processes are Python."""
        self._registry = registry
        self._proc = proc
        self._ready: dict[Snapshot, Snapshot] = {}
        self._registered_ns = 0  # CLOCK_MONOTONIC, of the latest registration

    def prepare(self, records: Records) -> None:
        """Look at the processes of a batch, before anything is made of it."""
        has_snapshot = wire.SNAPSHOT in records.kinds
        if not has_snapshot and not (records and records.ns(0) < self._registered_ns):
            return
        events = [
            cast(Union[Fork, Snapshot], each) for each in records.events(wire.FORK, wire.SNAPSHOT)
        ]
        parents = {
            event.parent_pid if isinstance(event, Snapshot) else event.forker_pid
            for event in events
        }
        for event in events:
            if isinstance(event, Snapshot):
                self._ready[event] = self._complete_snapshot(event, event.pid in parents)
            elif event.ns < self._registered_ns and self._registry.register_fork(
                event.forker_pid, event.pid, event.ns
            ):
                self._registered_ns = time.monotonic_ns()  # the child may have forked meanwhile

    def completed(self, event: Snapshot) -> Snapshot:
        """Return a snapshot of the prepared batch with command line and parent's comm."""
        return self._ready.pop(event, event)

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
