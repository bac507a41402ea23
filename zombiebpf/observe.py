# SPDX-License-Identifier: Apache-2.0
"""Observe a command from its first instruction to the last reap."""

from __future__ import annotations

import functools
import gc
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Callable, Optional

import zombiebpf
from zombiebpf import command
from zombiebpf.analysis import Analysis, Join, Meta
from zombiebpf.attribution import Rules
from zombiebpf.inheritance import Inheritance
from zombiebpf.kernel.observer import Observer
from zombiebpf.life import Life
from zombiebpf.pipeline import Collected, Pipeline
from zombiebpf.supervision import Supervision
from zombiebpf.trace import Rotation, TraceWriter
from zombiebpf.user import User

_POLL_S = 0.02  # the ring buffer holds seconds of the fastest storm
_RECENT_NS = 1_000_000_000  # within which a signal's dead sender is looked for


@contextmanager
def _no_collector() -> Iterator[None]:
    """Without Python's cycle collector: lives have no cycles, and it would walk them all."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _slept_ns() -> int:
    """CLOCK_BOOTTIME - CLOCK_MONOTONIC; the time between the two looks is not slept."""
    return max(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns(), 0)


def describe(
    observer: Observer, argv: Sequence[str], started_ns: int, ended_ns: int, wall: float
) -> Meta:
    """How it was observed, so far. `wall`: seconds since the epoch at `started_ns`."""
    lost = observer.lost()
    return Meta(
        version=zombiebpf.__version__,
        kernel=platform.release(),
        hooks=observer.hooks,
        precision=observer.precision,
        started_ns=started_ns,
        ended_ns=ended_ns,
        command=argv,
        lost_events=sum(lost.values()),
        lost_by={cause: count for cause, count in lost.items() if count},
        started_wall=wall,
        boottime_offset_ns=_slept_ns(),
    )


class _Run(Collected):
    """All that has ended, kept for the report and, where asked for, saved."""

    def __init__(self) -> None:
        super().__init__()
        self.trace: Optional[TraceWriter] = None

    def ended(self, lives: Sequence[Life], joins: Sequence[Join]) -> None:
        super().ended(lives, joins)
        if self.trace is not None:
            self.trace.add(lives, joins)


class CommandRun:
    """One observed run of a command.

    `exit_code` is the command's, as a shell would give it, once it has ended.
    """

    def __init__(
        self, observer: Observer, inherited: Inheritance, rules: Optional[Rules] = None
    ) -> None:
        self._observer = observer
        self._inherited = inherited
        self._kept = _Run()
        self._pipeline = Pipeline(observer, self._kept, rules)
        self._save: Optional[Callable[[Meta], TraceWriter]] = None
        self._meta: Callable[[], Meta] = lambda: describe(observer, (), 0, 0, 0.0)
        self._failure: Optional[Exception] = None
        self.exit_code: Optional[int] = None

    def save(
        self, path: str, rotate: Optional[Rotation], force: bool, warn: Callable[[str], None]
    ) -> None:
        """Write a trace of the run. What cannot be written is told by run()."""
        self._save = functools.partial(TraceWriter, path, force=force, rotate=rotate, warn=warn)

    def run(
        self,
        argv: Sequence[str],
        user: Optional[User],
        environ: Mapping[str, str],
        linger_s: float,
    ) -> Analysis:
        """Start it, wait for it, follow for `linger_s` what it left behind.

        CommandError if it does not start, UsageError if the trace cannot be made. If it is
        we who fail, it is still waited for, and then the failure is raised.
        """
        path = environ.get("PATH", "")
        self._observer.expect_pythons(path.split(":"), shutil.which(argv[0], path=path))
        started, wall = time.monotonic_ns(), time.time()
        self._meta = lambda: describe(self._observer, argv, started, time.monotonic_ns(), wall)
        with ExitStack() as stack:
            if self._save is not None:
                self._kept.trace = stack.enter_context(self._save(self._meta()))
            return self._run(argv, user, environ, linger_s)

    def _run(
        self,
        argv: Sequence[str],
        user: Optional[User],
        environ: Mapping[str, str],
        linger_s: float,
    ) -> Analysis:
        with _no_collector(), Supervision(self._inherited, self._is_observed) as supervision:
            with self._observer.following_forks():
                supervision.watch(command.start(argv, user, environ, self._inherited))
            self._inherited.release_descriptors()
            while supervision.exit_code is None:
                busy = self._drain()
                supervision.step(0 if busy else _POLL_S)
            self.exit_code = supervision.exit_code
            self._linger(linger_s, supervision)
        if self._failure is not None:
            raise self._failure
        meta = self._meta()
        self._pipeline.finish()
        if self._kept.trace is not None:
            self._kept.trace.close(meta)
        lives, joins = self._kept.lives, self._kept.joins
        lives.sort(key=lambda life: life.fork_ns or 0)
        joins.sort(key=lambda join: join.began_ns or 0)
        return Analysis(meta, lives, joins)

    def _linger(self, seconds: float, supervision: Supervision) -> None:
        """Until every life has ended, the time is over or the user has enough."""
        if self._failure is not None:
            return
        deadline = time.monotonic() + seconds
        while self._drain() or self._pipeline.alive:
            left = deadline - time.monotonic()
            if left <= 0 or supervision.step_after(min(left, _POLL_S)):
                break
        now = time.monotonic_ns()
        while self._drain() and self._pipeline.read_to_ns < now:
            pass  # what is left behind may fork faster than we read

    def _drain(self) -> bool:
        """Read one batch; whether there was any."""
        if self._failure is not None:
            return False
        try:
            found = self._pipeline.drain()
            trace = self._kept.trace
            if trace is not None and trace.due:
                trace.flush(self._pipeline.unfinished, self._meta())
        except Exception as error:
            self._failure = error
            return False
        return found

    def _is_observed(self, pid: int) -> bool:
        """Whether this is the command or a descendant, dead perhaps since a moment."""
        now = time.monotonic_ns()
        while self._drain() and self._pipeline.read_to_ns < now:
            pass
        if any(life.pid == pid for life in self._pipeline.unfinished):
            return True
        for life in reversed(self._kept.lives):
            if life.reap_ns is not None and life.reap_ns < now - _RECENT_NS:
                break
            if life.pid == pid:
                return True
        return False
