# SPDX-License-Identifier: Apache-2.0
"""Observe a command from its first instruction to the last reap."""

from __future__ import annotations

import os
import platform
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Optional

import zombiebpf
from zombiebpf import command
from zombiebpf.analysis import Analysis, Meta
from zombiebpf.kernel import machine
from zombiebpf.kernel.observer import Observer
from zombiebpf.life import Life
from zombiebpf.lifecycle import Lifecycle

_POLL_S = 0.02  # the ring buffer holds seconds of the fastest storm

# From a terminal these reach the whole process group, so CMD too; sent by kill(1)
# to us alone, they are meant for it.
_FORWARDED = command.signal_set(
    ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM"]
)
_ENDS_LINGER = command.signal_set(["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])


class CommandRun:
    """One observed run of a command.

    `exit_code` is the command's, as a shell would give it, once it has ended.
    """

    def __init__(self, observer: Observer, signals: command.Signals) -> None:
        self._observer = observer
        self._signals = signals
        self._lifecycle = Lifecycle(machine.syscall_names(), machine.Cgroups().path)
        self._lives: list[Life] = []
        self._watched = _FORWARDED | {signal.SIGCHLD}
        self.exit_code: Optional[int] = None

    def run(
        self,
        argv: Sequence[str],
        program: str,
        user: Optional[command.User],
        environ: Mapping[str, str],
        linger_s: float,
    ) -> Analysis:
        """Start it, wait for it, follow for `linger_s` what it left behind."""
        started = time.monotonic_ns()
        signal.pthread_sigmask(signal.SIG_BLOCK, self._watched)
        try:
            with self._observer.following_forks():
                pid = command.start(argv, program, user, environ, self._signals)
            self._until_dead(pid)
            self._linger(linger_s)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._watched)
        ended = time.monotonic_ns()
        lives = self._lives + self._lifecycle.finish()
        lives.sort(key=lambda life: life.fork_ns or 0)
        return Analysis(self._meta(argv, started, ended), lives)

    def _until_dead(self, pid: int) -> None:
        while True:
            busy = self._drain()
            received = signal.sigtimedwait(self._watched, 0 if busy else _POLL_S)
            if received is None:
                continue
            if received.si_signo == signal.SIGCHLD:
                reaped, status = os.waitpid(pid, os.WNOHANG)
                if reaped:
                    self.exit_code = command.exit_code_of(status)
                    return
            elif received.si_code <= 0:  # SI_USER, SI_QUEUE, SI_TKILL: by a process
                os.kill(pid, received.si_signo)

    def _linger(self, seconds: float) -> None:
        """Until every life has ended, the time is over or the user has enough."""
        deadline = time.monotonic() + seconds
        while self._drain() or self._lifecycle.alive:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            received = signal.sigtimedwait(self._watched, min(left, _POLL_S))
            if received is not None and received.si_signo in _ENDS_LINGER:
                break
        while self._drain():
            pass

    def _drain(self) -> bool:
        """Read one batch; whether there was any."""
        events = self._observer.read()
        if events:
            self._lives += self._lifecycle.feed(events)
        return bool(events)

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
