# SPDX-License-Identifier: Apache-2.0
"""What a command inherits: taken before we change it, given on as it was.

Python changes some of it before any line of ours runs, so /proc is asked where
it knows better. One thing cannot be known: whether SIGPIPE and SIGXFSZ were
ignored, because Python ignores both itself. They are taken for not ignored.
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


class Inheritance(NamedTuple):
    """All of a process that survives fork and exec, and that we would leave changed."""

    environ: Mapping[str, str]
    mask: frozenset[int]  # blocked signals
    ignored: frozenset[int]  # ignored signals
    memlock: tuple[int, int]  # RLIMIT_MEMLOCK, which libbpf raises for older kernels
    descriptors: tuple[int, ...]  # open, to be inherited
    directory: int  # a descriptor of the current one, which may have no name any more

    @classmethod
    def take(cls) -> Inheritance:
        """This process's; to be called before anything is opened or changed."""
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
        """In the child, while it still may."""
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, self.memlock)

    def restore_directory(self) -> None:
        """In the child: libbcc changes directories, and may not be able to come back.

        Root may be refused a directory of FUSE or NFS, so it is tried as the user too.
        """
        with suppress(OSError):
            os.fchdir(self.directory)

    def restore_signals(self) -> None:
        """In the child; a signal that has waited arrives here."""
        for number in signal.valid_signals() - _FIXED:
            ignored = int(number) in self.ignored
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    def hold_back_descriptors(self) -> None:
        """Whatever a library has opened since and forgot to hold back, stays with us."""
        for number in open_descriptors():
            if number not in self.descriptors:
                os.set_inheritable(number, False)

    def release_descriptors(self) -> None:
        """Once the command has them: that it alone decides when a pipe ends.

        Standard error stays ours too, for the report.
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
    """As it was passed to us: Python adds LC_CTYPE in the C locale (PEP 538)."""
    try:
        with open("/proc/self/environ", "rb") as file:
            data = file.read()
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(each).partition("=") for each in data.split(b"\0"))
    return {name: value for name, equals, value in pairs if name and equals}


def _held_directory() -> int:
    """Never as 0, 1 or 2, which the caller may have closed."""
    lowest = os.open(".", os.O_PATH | os.O_DIRECTORY)
    number = fcntl.fcntl(lowest, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
    os.close(lowest)
    return number


def open_descriptors() -> list[int]:
    """This process's, in order."""
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return [0, 1, 2]
    return sorted(number for number in numbers if _is_open(number))


def _is_open(number: int) -> bool:
    """Not so the one that listed the directory."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
