# SPDX-License-Identifier: Apache-2.0
"""Start a command as if we were not there: as its user, with its signals and environment."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn, Optional

from zombiebpf.errors import (
    EXIT_NOT_EXECUTABLE,
    EXIT_NOT_FOUND,
    CommandError,
    UsageError,
)

_SUDO = ("SUDO_COMMAND", "SUDO_GID", "SUDO_UID", "SUDO_USER", "SUDO_HOME")


class User(NamedTuple):
    """Whom a command runs as."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


def user_named(name: str) -> User:
    """By name or number. UsageError if there is none."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        raise UsageError(f"no user {name!r} on this machine") from None
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)


def invoking_user(environ: Mapping[str, str]) -> Optional[User]:
    """Who called sudo; None when nobody did, or root itself."""
    uid = environ.get("SUDO_UID", "")
    if os.geteuid() != 0 or not uid.isdigit() or int(uid) == 0:
        return None
    return user_named(uid)


def environment_of(user: Optional[User], environ: Mapping[str, str]) -> dict[str, str]:
    """What `user` would have without sudo; everything stays for None."""
    result = dict(environ)
    if user is None:
        return result
    for name in _SUDO:
        result.pop(name, None)
    result.update(HOME=user.home, USER=user.name, LOGNAME=user.name, SHELL=user.shell)
    if "MAIL" in result:
        result["MAIL"] = f"/var/mail/{user.name}"
    return result


def find_program(name: str, environ: Mapping[str, str]) -> str:
    """The file that execvp(3) would take. CommandError with the shell's exit codes."""
    path = environ.get("PATH", os.defpath)
    found = name if "/" in name else shutil.which(name, path=path)
    if found is None or not os.path.exists(found):
        raise CommandError(f"{name}: command not found", EXIT_NOT_FOUND)
    if os.path.isdir(found) or not os.access(found, os.X_OK):
        raise CommandError(f"{name}: cannot be executed", EXIT_NOT_EXECUTABLE)
    return found


class Signals(NamedTuple):
    """Dispositions and mask that a command must start with."""

    mask: frozenset[signal.Signals]
    ignored: frozenset[int]

    @classmethod
    def inherited(cls) -> Signals:
        """As this process got them; to be called before any is changed.

        Python itself ignores SIGPIPE and SIGXFSZ, so these are taken for default.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        ignored = {
            number
            for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}
            if signal.getsignal(number) is signal.SIG_IGN
        }
        return cls(
            frozenset(each for each in mask if isinstance(each, signal.Signals)),
            frozenset(int(number) for number in ignored),
        )


def start(
    argv: Sequence[str],
    program: str,
    user: Optional[User],
    environ: Mapping[str, str],
    signals: Signals,
) -> int:
    """Fork and exec; returns the PID once the program runs.

    CommandError if the kernel refuses the program (then nothing is left running),
    or the change of user.
    """
    failing, told = os.pipe()  # close-on-exec: read to its end it is empty
    pid = os.fork()
    if pid == 0:
        _become(argv, program, user, environ, signals, told)
    os.close(told)
    with os.fdopen(failing, "rb") as pipe:
        failure = pipe.read()
    if failure:
        os.waitpid(pid, 0)
        number, _, what = failure.decode().partition(" ")
        code = EXIT_NOT_FOUND if int(number) == errno.ENOENT else EXIT_NOT_EXECUTABLE
        raise CommandError(f"{argv[0]}: {what}{os.strerror(int(number))}", code)
    return pid


def _become(
    argv: Sequence[str],
    program: str,
    user: Optional[User],
    environ: Mapping[str, str],
    signals: Signals,
    told: int,
) -> NoReturn:
    what = ""
    try:
        _restore(signals)
        if user is not None:
            what = f"cannot become {user.name}: "
            os.initgroups(user.name, user.gid)
            os.setgid(user.gid)
            os.setuid(user.uid)
            what = ""
        os.execve(program, list(argv), dict(environ))
    except OSError as error:
        os.write(told, f"{error.errno} {what}".encode())
    finally:
        os._exit(EXIT_NOT_EXECUTABLE)


def _restore(signals: Signals) -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        ignored = int(number) in signals.ignored
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, signals.mask)


def exit_code_of(status: int) -> int:
    """What a shell would say: the exit status, or 128 + the signal."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def signal_set(names: Iterable[str]) -> set[signal.Signals]:
    return {signal.Signals[name] for name in names}
