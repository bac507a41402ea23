# SPDX-License-Identifier: Apache-2.0
"""Pass signals on to the observed command until it has exited.

Signals from the terminal and from `kill %1` reach the command by themselves: it is in the
process group of zombiebpf. A signal that was sent to zombiebpf alone is meant for the
command, and is passed on. zombiebpf stops (Ctrl-Z) and continues together with the
command, because the shell watches zombiebpf.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Callable, Optional

from zombiebpf.command.group_signals import GroupSignalDetector
from zombiebpf.command.inherited import InheritedState
from zombiebpf.command.start import exit_code_of

# Faults of zombiebpf itself, signals that cannot be blocked, those by which the terminal
# stops a background group, and those that Python ignores.
_NOT_HANDLED = {
    signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGKILL, signal.SIGPIPE,
    signal.SIGSEGV, signal.SIGSTOP, signal.SIGSYS, signal.SIGTRAP, signal.SIGTTIN, signal.SIGTTOU,
    signal.SIGXFSZ,
}  # fmt: skip
HANDLED: frozenset[int] = frozenset(signal.valid_signals() - _NOT_HANDLED)
TERMINATION = frozenset[int]({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})

_STOP_S = 1.0  # how long a command may take to restore its terminal and stop after SIGTSTP


class Supervision:
    """A context in which the signals in HANDLED are blocked and handled by its methods.

    `is_observed` returns whether a PID is the command or a descendant of it. `exit_code`
    is a shell's exit code for the command once it has exited, None before.
    """

    def __init__(self, inherited: InheritedState, is_observed: Callable[[int], bool]) -> None:
        self._inherited = inherited
        self._is_observed = is_observed
        self._pid = 0  # of the command
        self._stopped_by = 0  # the signal, while the command is stopped
        self._stop_requested_s = 0.0  # time.monotonic() of the latest SIGTSTP
        self.exit_code: Optional[int] = None

    def __enter__(self) -> Supervision:
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        self._detector = GroupSignalDetector()
        return self

    def __exit__(self, *_: object) -> None:
        """Drop pending signals and unblock those that end zombiebpf; the others stay blocked."""
        self._detector.stop()
        while signal.sigtimedwait(HANDLED, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINATION - self._inherited.mask)

    def supervise(self, pid: int) -> None:
        """Set the PID of the command, a child of this process."""
        self._pid = pid

    def handle_signal(self, timeout_s: float) -> None:
        """Wait for at most one signal and handle it: pass it on, reap, or stop."""
        received = signal.sigtimedwait(HANDLED, timeout_s)
        if received is None:
            return
        number = received.si_signo
        if number == signal.SIGCHLD:
            self._reap_children()
        elif self._is_for_command(received):
            with suppress(OSError):  # the command may have become another user's
                os.kill(self._pid, number)
        if number == signal.SIGTSTP:
            self._stop_requested_s = time.monotonic()
        elif number == signal.SIGCONT:
            self._stopped_by = 0
        self._mirror_stop()

    def end_requested(self, timeout_s: float) -> bool:
        """Wait for at most one signal after the command has exited.

        Return whether it asks zombiebpf to end as well: sent by no observed process.
        """
        received = signal.sigtimedwait(HANDLED, timeout_s)
        if received is None:
            return False
        if received.si_signo == signal.SIGCHLD:
            self._reap_children()
        elif received.si_signo == signal.SIGTSTP:
            self._stop(signal.SIGTSTP)
        elif received.si_signo in TERMINATION - self._inherited.ignored:
            return not (_sent_by_process(received) and self._is_observed(received.si_pid))
        return False

    def _reap_children(self) -> None:
        """Reap all zombies, adopted ones too: one SIGCHLD may stand for several children."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                self._detector.child_was_reaped(pid)
                if pid == self._pid:
                    self.exit_code = exit_code_of(status)
        if self.exit_code is not None:
            return
        changed = os.waitid(os.P_PID, self._pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
        if changed is not None:
            self._stopped_by = changed.si_status if changed.si_code == os.CLD_STOPPED else 0

    def _is_for_command(self, received: signal.struct_siginfo) -> bool:
        """Return whether the signal is meant for the command and has not reached it."""
        number = received.si_signo
        if self._detector.was_sent_to_group(number):
            return False
        if _sent_by_process(received):
            return not self._is_observed(received.si_pid)
        # From the kernel: an alarm outlives an exec (`alarm 10; exec zombiebpf run ...`),
        # and a terminal that hangs up signals only the leader of its session.
        return number == signal.SIGALRM or (number == signal.SIGHUP and os.getsid(0) == os.getpid())

    def _mirror_stop(self) -> None:
        """Stop like the command did, if zombiebpf was asked to as well or a shell waits for it."""
        if not self._stopped_by or self.exit_code is not None:
            return
        requested = time.monotonic() - self._stop_requested_s < _STOP_S
        if requested or _is_foreground_leader():
            self._stop(self._stopped_by)

    def _stop(self, number: int) -> None:
        if number in self._inherited.ignored or signal.SIGCONT in signal.sigpending():
            return
        self._stop_requested_s = 0.0
        os.kill(os.getpid(), number)  # merges with the terminal's, if that is still to come
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})  # returns at SIGCONT
        signal.pthread_sigmask(signal.SIG_BLOCK, {number} & HANDLED)


def _sent_by_process(received: signal.struct_siginfo) -> bool:
    """Return whether a process sent it (SI_USER, SI_QUEUE, SI_TKILL), not the kernel."""
    return received.si_code <= 0


def _is_foreground_leader() -> bool:
    """Return whether a shell with job control waits for this process alone at the terminal."""
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
