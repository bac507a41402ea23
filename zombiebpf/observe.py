# SPDX-License-Identifier: Apache-2.0
"""Observe a command from its first instruction to the last reap."""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Optional

import zombiebpf
from zombiebpf import command
from zombiebpf.analysis import Analysis, Meta
from zombiebpf.inheritance import Inheritance
from zombiebpf.kernel import machine
from zombiebpf.kernel.observer import Observer
from zombiebpf.life import Life
from zombiebpf.lifecycle import Lifecycle
from zombiebpf.supervision import Supervision
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


class CommandRun:
    """One observed run of a command.

    `exit_code` is the command's, as a shell would give it, once it has ended.
    """

    def __init__(self, observer: Observer, inherited: Inheritance) -> None:
        self._observer = observer
        self._inherited = inherited
        self._lifecycle = Lifecycle(machine.syscall_names(), machine.Cgroups().path)
        self._lives: list[Life] = []
        self._read_to_ns = 0
        self._failure: Optional[Exception] = None
        self.exit_code: Optional[int] = None

    def run(
        self,
        argv: Sequence[str],
        user: Optional[User],
        environ: Mapping[str, str],
        linger_s: float,
    ) -> Analysis:
        """Start it, wait for it, follow for `linger_s` what it left behind.

        CommandError if it does not start. If it is we who fail, it is still
        waited for, and then the failure is raised.
        """
        started = time.monotonic_ns()
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
        ended = time.monotonic_ns()
        lives = self._lives + self._lifecycle.finish()
        lives.sort(key=lambda life: life.fork_ns or 0)
        return Analysis(self._meta(argv, started, ended), lives)

    def _linger(self, seconds: float, supervision: Supervision) -> None:
        """Until every life has ended, the time is over or the user has enough."""
        if self._failure is not None:
            return
        deadline = time.monotonic() + seconds
        while self._drain() or self._lifecycle.alive:
            left = deadline - time.monotonic()
            if left <= 0 or supervision.step_after(min(left, _POLL_S)):
                break
        now = time.monotonic_ns()
        while self._drain() and self._read_to_ns < now:
            pass  # what is left behind may fork faster than we read

    def _drain(self) -> bool:
        """Read one batch; whether there was any."""
        if self._failure is not None:
            return False
        try:
            events = self._observer.read()
            if events:
                self._lives += self._lifecycle.feed(events)
                self._read_to_ns = events[-1].ns
        except Exception as error:
            self._failure = error
            return False
        return bool(events)

    def _is_observed(self, pid: int) -> bool:
        """Whether this is the command or a descendant, dead perhaps since a moment."""
        now = time.monotonic_ns()
        while self._drain() and self._read_to_ns < now:
            pass
        if any(life.pid == pid for life in self._lifecycle.unfinished):
            return True
        for life in reversed(self._lives):
            if life.reap_ns is not None and life.reap_ns < now - _RECENT_NS:
                break
            if life.pid == pid:
                return True
        return False

    def _meta(self, argv: Sequence[str], started_ns: int, ended_ns: int) -> Meta:
        lost = self._observer.lost()
        return Meta(
            version=zombiebpf.__version__,
            kernel=platform.release(),
            hooks=self._observer.hooks,
            precision=self._observer.precision,
            started_ns=started_ns,
            ended_ns=ended_ns,
            command=argv,
            lost_events=sum(lost.values()),
            lost_by={cause: count for cause, count in lost.items() if count},
        )
