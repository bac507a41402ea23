# SPDX-License-Identifier: Apache-2.0
"""The process state that the observed command inherits, captured before zombiebpf changes it.

Python changes some of it before it runs any code of zombiebpf; /proc still has the
original environment. Whether SIGPIPE and SIGXFSZ were ignored cannot be known, because
Python ignores both itself: they are assumed not to be.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

_UNKNOWN = {signal.SIGPIPE, signal.SIGXFSZ}
_FIXED = {signal.SIGKILL, signal.SIGSTOP}
_STDERR = 2


class InheritedState(NamedTuple):
    """The state that survives fork and exec, and that zombiebpf would leave changed."""

    environ: Mapping[str, str]
    mask: frozenset[int]  # the blocked signals
    ignored: frozenset[int]  # the ignored signals
    memlock: tuple[int, int]  # RLIMIT_MEMLOCK: libbpf raises it on older kernels
    descriptors: tuple[int, ...]  # the open ones that a child inherits
    directory: int  # a descriptor: the current directory may have been deleted

    @classmethod
    def capture(cls) -> InheritedState:
        """Return the state of this process. Call it before anything is opened or changed."""
        ignored = {
            int(number)
            for number in signal.valid_signals() - _UNKNOWN
            if signal.getsignal(number) is signal.SIG_IGN
        }
        return cls(
            _environment(),
            frozenset(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])),
            frozenset(ignored),
            resource.getrlimit(resource.RLIMIT_MEMLOCK),
            tuple(number for number in open_descriptors() if os.get_inheritable(number)),
            _held_directory(),
        )

    def restore_limits(self) -> None:
        """Restore RLIMIT_MEMLOCK. Call it in the child, before it gives up its privilege."""
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, self.memlock)

    def restore_directory(self) -> None:
        """Restore the current directory, which libbcc may have changed. Call it in the child.

        FUSE and NFS may refuse a directory to root, so call it as the command's user too.
        """
        with suppress(OSError):
            os.fchdir(self.directory)

    def restore_signals(self) -> None:
        """Restore handlers and mask in the child; a pending signal is delivered here."""
        for number in signal.valid_signals() - _FIXED:
            ignored = int(number) in self.ignored
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    def hold_back_descriptors(self) -> None:
        """Set close-on-exec on whatever a library has opened without it since capture()."""
        for number in open_descriptors():
            if number not in self.descriptors:
                os.set_inheritable(number, False)

    def release_descriptors(self) -> None:
        """Close the inherited descriptors except stderr, where the report goes.

        Call it once the command runs: then the command alone decides when a pipe ends.
        """
        null = os.open(os.devnull, os.O_RDWR)
        for number in self.descriptors:
            if number < _STDERR:
                os.dup2(null, number, inheritable=False)
            elif number > _STDERR:
                with suppress(OSError):
                    os.close(number)
        os.close(null)


def _environment() -> dict[str, str]:
    """Return the environment as it was at exec: Python adds LC_CTYPE in the C locale (PEP 538)."""
    try:
        with open("/proc/self/environ", "rb") as file:
            data = file.read()
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(each).partition("=") for each in data.split(b"\0"))
    return {name: value for name, equals, value in pairs if name and equals}


def _held_directory() -> int:
    """Open the current directory, not as 0, 1 or 2, which the caller may have closed."""
    lowest = os.open(".", os.O_PATH | os.O_DIRECTORY)
    number = fcntl.fcntl(lowest, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
    os.close(lowest)
    return number


def leave_deleted_directory() -> None:
    """Change to / if the current directory was deleted: libbcc and the shell fail in it."""
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir("/")


def open_descriptors() -> list[int]:
    """Return the open descriptors of this process, sorted."""
    try:
        numbers = sorted(map(int, os.listdir("/proc/self/fd")))
    except OSError:
        return [0, 1, 2]
    found = []
    for number in numbers:
        with suppress(OSError):  # the descriptor that listed the directory is closed again
            os.fstat(number)
            found.append(number)
    return found
