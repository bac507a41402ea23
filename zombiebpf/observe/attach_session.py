# SPDX-License-Identifier: Apache-2.0
"""Observe running processes until they exit, a time is over, or a signal arrives."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import Optional, Protocol

from zombiebpf.attach.processes import is_same
from zombiebpf.attach.selection import ResolvedSelection, SelectionRequest, select
from zombiebpf.attribution.rules.matching import Rules
from zombiebpf.command.inherited import InheritedState
from zombiebpf.command.supervision import TERMINATION
from zombiebpf.errors import UsageError
from zombiebpf.kernel.observer import Observer
from zombiebpf.model.analysis import Meta
from zombiebpf.model.life import LifeRow
from zombiebpf.observe.meta import describe
from zombiebpf.observe.pipeline import Pipeline
from zombiebpf.observe.sinks import Sink
from zombiebpf.observe.snapshots import SnapshotCompleter

REPORT_NOW = signal.SIGUSR1


class SessionListener(Sink, Protocol):
    """A sink that is also called as the session goes on."""

    def attached(self, session: AttachSession) -> None:
        """Take note that all selected processes are followed now."""

    def update(self, session: AttachSession) -> bool:
        """Show the state of the session, at each read. Return False to end the session."""

    def report(self, session: AttachSession) -> None:
        """Report now, at SIGUSR1; the session goes on."""


class AttachSession:
    """One observation of the processes that `request` selects.

    `selected` is what the request selected a moment ago, before the probes were attached.
    """

    def __init__(
        self,
        observer: Observer,
        request: SelectionRequest,
        selected: ResolvedSelection,
        command: Sequence[str],
        listener: SessionListener,
        rules: Rules,
    ) -> None:
        self._observer = observer
        self._request = request
        self._selected = selected
        self._command = command
        self._listener = listener
        completer = SnapshotCompleter(observer.interpreters)
        self._pipeline = Pipeline(observer, listener, rules, completer.prepare, completer.completed)
        self._ended_ns: Optional[int] = None
        self.started_ns = time.monotonic_ns()  # CLOCK_MONOTONIC
        self._wall = time.time()

    def run(self, duration_s: float, inherited: InheritedState) -> None:
        """Observe until the end, and give the listener what is unfinished then.

        The end is a termination signal, `duration_s`, the exit of all processes, or
        update() returning False. Raise UsageError if a requested process exited before
        the probes could follow it.
        """
        ending = TERMINATION - inherited.ignored
        signal.pthread_sigmask(signal.SIG_BLOCK, ending | {REPORT_NOW})
        try:
            self._attach()
            self._listener.attached(self)
            self._follow(duration_s, ending | {REPORT_NOW})
            self._pipeline.drain_all()
            self._ended_ns = time.monotonic_ns()
            self._pipeline.finish()
            self._listener.update(self)
        finally:
            while signal.sigtimedwait(ending, 0) is not None:
                pass  # asked for more than once
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ending - inherited.mask)

    def _attach(self) -> None:
        before, self._selected = self._selected, select(self._request)
        if before.start_ticks != self._selected.start_ticks:
            raise UsageError("a process that was asked for has ended, its number is another's")
        self._observer.attach_to(self._selected.selection)
        self._pipeline.drain()
        followed = {life.pid: life.start_ns for life in self.unfinished}
        for pid in self._request.pids:
            if pid not in followed or not is_same(pid, followed[pid]):
                raise UsageError(f"the process {pid} ended before it could be attached to")
        if not followed and not self._more_may_come():
            raise UsageError("all that was selected ended before it could be attached to")

    def _follow(self, duration_s: float, signals: frozenset[int]) -> None:
        deadline = self.started_ns / 1e9 + duration_s
        while True:
            busy = self._pipeline.drain()
            if not self._listener.update(self):
                return
            left = deadline - time.monotonic()
            if left <= 0 or not (busy or self._pipeline.alive or self._more_may_come()):
                return
            received = signal.sigtimedwait(signals, min(left, self._pipeline.poll_s))
            if received is None:
                continue
            if received.si_signo != REPORT_NOW:
                return
            self._pipeline.drain_all()
            self._listener.report(self)

    def _more_may_come(self) -> bool:
        """Return whether a process may join that no followed one forks: while its cgroup exists."""
        selected = self._selected
        return selected.selection.everything or any(each.is_dir() for each in selected.directories)

    @property
    def unfinished(self) -> list[LifeRow]:
        """Records, as they are now, of processes that have not been reaped, in fork order."""
        return list(self._pipeline.unfinished)

    def changed(self, before_ns: int) -> Sequence[LifeRow]:
        """Return the unfinished records that have changed since the last call.

        Without those forked after `before_ns`, most of which end soon.
        """
        return self._pipeline.changed(before_ns)

    @property
    def zombies(self) -> list[LifeRow]:
        """Records of the processes that are zombies now, in fork order."""
        return self._pipeline.zombies

    @property
    def alive(self) -> int:
        """The number of processes that have not been reaped."""
        return self._pipeline.alive

    @property
    def lost(self) -> int:
        """The number of records lost so far."""
        return sum(self._observer.lost().values())

    def meta(self) -> Meta:
        """Describe the observation so far, or all of it once it has ended."""
        ended_ns = self._ended_ns or time.monotonic_ns()
        return describe(self._observer, self._command, self.started_ns, ended_ns, self._wall)
