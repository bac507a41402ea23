# SPDX-License-Identifier: Apache-2.0
"""Stand between a command and whoever signals us, until it has ended.

Signals of the terminal and of `kill %1` reach the command by themselves: it is
in our process group. What is sent to us alone is meant for the command, and
passed on. Stopping (Ctrl-Z) is mirrored: the shell watches us.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Callable, Optional

from zombiebpf.command import exit_code_of
from zombiebpf.inheritance import Inheritance
from zombiebpf.sentinel import Sentinel

# Left as they are: own faults, what cannot be blocked, what the terminal stops a
# background group with, and what Python ignores.
_LEFT = {
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGKILL,
    signal.SIGPIPE,
    signal.SIGSEGV,
    signal.SIGSTOP,
    signal.SIGSYS,
    signal.SIGTRAP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGXFSZ,
}
WATCHED: frozenset[int] = frozenset(signal.valid_signals() - _LEFT)
ENDING: frozenset[int] = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})

_STOP_S = 1.0  # within which a command stops after it was told to, having tidied its terminal


class Supervision:
    """A context manager: within it no watched signal does anything but come here.

    `is_observed` tells whether a PID is the command or a descendant of it.
    `exit_code` is the command's, as a shell would give it, once it has ended.
    """

    def __init__(self, inherited: Inheritance, is_observed: Callable[[int], bool]) -> None:
        self._inherited = inherited
        self._is_observed = is_observed
        self._pid = 0  # the command's
        self._stopped_by = 0  # the signal, while the command is stopped
        self._told_to_stop = 0.0  # when we were, too
        self.exit_code: Optional[int] = None

    def __enter__(self) -> Supervision:
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        self._sentinel = Sentinel()
        return self

    def __exit__(self, *_: object) -> None:
        """Afterwards only what asks us to end does anything; what came before is forgotten."""
        self._sentinel.stop()
        while signal.sigtimedwait(WATCHED, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING - self._inherited.mask)

    def watch(self, pid: int) -> None:
        """`pid` is the command."""
        self._pid = pid

    def step(self, timeout_s: float) -> None:
        """Take at most one signal, and do with it what is to be done."""
        received = signal.sigtimedwait(WATCHED, timeout_s)
        if received is None:
            return
        number = received.si_signo
        if number == signal.SIGCHLD:
            self._look_after_children()
        elif self._is_for_command(received):
            with suppress(OSError):  # it may have become another user's
                os.kill(self._pid, number)
        if number == signal.SIGTSTP:
            self._told_to_stop = time.monotonic()
        elif number == signal.SIGCONT:
            self._stopped_by = 0
        self._stop_if_due()

    def step_after(self, timeout_s: float) -> bool:
        """When the command has ended: whether somebody asked us to end as well."""
        received = signal.sigtimedwait(WATCHED, timeout_s)
        if received is None:
            return False
        if received.si_signo == signal.SIGCHLD:
            self._look_after_children()
        elif received.si_signo == signal.SIGTSTP:
            self._stop(signal.SIGTSTP)
        elif received.si_signo in ENDING - self._inherited.ignored:
            return not (_sent_by_process(received) and self._is_observed(received.si_pid))
        return False

    def _look_after_children(self) -> None:
        """One SIGCHLD may stand for many. We may have adopted some, as PID 1 for example."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                self._sentinel.note_reaped(pid)
                if pid == self._pid:
                    self.exit_code = exit_code_of(status)
        if self.exit_code is not None:
            return
        changed = os.waitid(os.P_PID, self._pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
        if changed is not None:
            self._stopped_by = changed.si_status if changed.si_code == os.CLD_STOPPED else 0

    def _is_for_command(self, received: signal.struct_siginfo) -> bool:
        """Whether it is meant for the command and has not reached it."""
        number = received.si_signo
        if self._sentinel.has_seen(number):
            return False
        if _sent_by_process(received):
            return not self._is_observed(received.si_pid)
        # From the kernel: an alarm outlives an exec (`alarm 10; exec zombiebpf run ...`),
        # and a terminal that goes away tells the leader of its session only.
        return number == signal.SIGALRM or (number == signal.SIGHUP and os.getsid(0) == os.getpid())

    def _stop_if_due(self) -> None:
        """Stop as the command did, if whoever told it so told us, or nobody else can tell."""
        if not self._stopped_by or self.exit_code is not None:
            return
        told = time.monotonic() - self._told_to_stop < _STOP_S
        if told or _lead_foreground():
            self._stop(self._stopped_by)

    def _stop(self, number: int) -> None:
        if number in self._inherited.ignored or signal.SIGCONT in signal.sigpending():
            return
        self._told_to_stop = 0.0
        os.kill(os.getpid(), number)  # one with the terminal's, if that is still to come
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})  # returns when we are continued
        signal.pthread_sigmask(signal.SIG_BLOCK, {number} & WATCHED)


def _sent_by_process(received: signal.struct_siginfo) -> bool:
    """SI_USER, SI_QUEUE, SI_TKILL: not by the kernel, that is not by the terminal."""
    return received.si_code <= 0


def _lead_foreground() -> bool:
    """Whether a shell with job control waits for us, and for us alone, at the terminal."""
    if os.getpgrp() != os.getpid() or os.getsid(0) == os.getpid():
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
