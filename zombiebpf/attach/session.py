# SPDX-License-Identifier: Apache-2.0
"""Observe what already runs, until somebody or something ends it."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from enum import Enum
from typing import Optional, Protocol

from zombiebpf.analysis import Join, Meta
from zombiebpf.attach.processes import is_same
from zombiebpf.attach.selection import Request, Selected, select
from zombiebpf.attach.takeover import TakenOver
from zombiebpf.attribution import Rules
from zombiebpf.errors import UsageError
from zombiebpf.inheritance import Inheritance
from zombiebpf.kernel.observer import Observer
from zombiebpf.life import Life
from zombiebpf.observe import describe
from zombiebpf.pipeline import Pipeline

_POLL_S = 0.02  # the ring buffer holds seconds of the fastest storm
_ENDING: set[int] = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
REPORT_NOW = signal.SIGUSR1


class Ended(Enum):
    """Why an observation came to its end."""

    SIGNAL = "a signal"
    DURATION = "its duration is over"
    ALL = "all that was attached to has ended"
    ENOUGH = "nobody reads"


class Sink(Protocol):
    """What is told while it runs."""

    def ended(self, lives: Sequence[Life], joins: Sequence[Join]) -> None:
        """What has ended since the last call."""

    def begun(self, session: Session) -> None:
        """What existed has been taken over."""

    def look(self, session: Session) -> bool:
        """Called some fifty times a second; False if nobody wants more."""

    def report(self, session: Session) -> None:
        """SIGUSR1: report now, go on."""


class Session:
    """One observation of what `request` means; `selected` is what it meant a moment ago."""

    def __init__(
        self,
        observer: Observer,
        request: Request,
        selected: Selected,
        command: Sequence[str],
        sink: Sink,
        rules: Optional[Rules] = None,
    ) -> None:
        self._observer = observer
        self._request = request
        self._selected = selected
        self._command = command
        self._sink = sink
        taken = TakenOver(getattr(observer, "pythons", None))
        self._pipeline = Pipeline(observer, sink, rules, taken.completed)
        self._ended_ns: Optional[int] = None
        self.started_ns = time.monotonic_ns()
        self.started_wall = time.time()

    def run(self, duration_s: float, inherited: Inheritance) -> Ended:
        """To its end; all that is left is given to the sink then.

        UsageError if what was asked for is gone before it could be taken over.
        """
        ending = _ENDING - inherited.ignored
        signal.pthread_sigmask(signal.SIG_BLOCK, ending | {REPORT_NOW})
        try:
            self._take_over()
            self._sink.begun(self)
            ended = self._follow(duration_s, ending | {REPORT_NOW})
            self._pipeline.drain_all()
            self._ended_ns = time.monotonic_ns()
            self._pipeline.finish()
            self._sink.look(self)
        finally:
            while signal.sigtimedwait(ending, 0) is not None:
                pass  # asked for more than once
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ending - inherited.mask)
        return ended

    def _take_over(self) -> None:
        before, self._selected = self._selected, select(self._request)
        if before.starts != self._selected.starts:
            raise UsageError("a process that was asked for has ended, its number is another's")
        self._observer.take_over(self._selected.selection)
        self._pipeline.drain()
        begun = {life.pid: life.start_ns for life in self.unfinished}
        for pid in self._request.pids:
            if pid not in begun or not is_same(pid, begun[pid]):
                raise UsageError(f"the process {pid} ended before it could be attached to")
        if not begun and not self._may_come():
            raise UsageError("all that was selected ended before it could be attached to")

    def _follow(self, duration_s: float, watched: set[int]) -> Ended:
        deadline = self.started_ns / 1e9 + duration_s
        while True:
            busy = self._pipeline.drain()
            if not self._sink.look(self):
                return Ended.ENOUGH
            left = deadline - time.monotonic()
            if left <= 0:
                return Ended.DURATION
            if not busy and not self._pipeline.alive and not self._may_come():
                return Ended.ALL
            received = signal.sigtimedwait(watched, 0 if busy else min(left, _POLL_S))
            if received is None:
                continue
            if received.si_signo != REPORT_NOW:
                return Ended.SIGNAL
            self._pipeline.drain_all()
            self._sink.report(self)

    def _may_come(self) -> bool:
        """Whether a process can come that is none's child: into a cgroup that is there."""
        selected = self._selected
        return selected.selection.everything or any(each.is_dir() for each in selected.places)

    # what is known

    @property
    def unfinished(self) -> list[Life]:
        """Lives that go on, in the order they were met."""
        return list(self._pipeline.unfinished)

    @property
    def alive(self) -> int:
        return self._pipeline.alive

    def lost(self) -> int:
        """Records."""
        return sum(self._observer.lost().values())

    def meta(self) -> Meta:
        """As of now, or of the end."""
        ended_ns = self._ended_ns or time.monotonic_ns()
        return describe(self._observer, self._command, self.started_ns, ended_ns, self.started_wall)


def birth(life: Life) -> tuple[int, int]:
    """The order of reports: what existed before comes first, by its start."""
    return life.fork_ns or 0, life.start_ns
