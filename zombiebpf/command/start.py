# SPDX-License-Identifier: Apache-2.0
"""Start a command exactly as it would run without zombiebpf."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn, Optional

from zombiebpf.command.inherited import InheritedState
from zombiebpf.command.user import User, groups_of
from zombiebpf.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_SIGNAL, CommandError

_SHELL = "/bin/sh"
_SEARCH_ON = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)


def require_program(name: str, environ: Mapping[str, str]) -> None:
    """Raise CommandError, with the shell's exit code, if execvp(3) cannot find or run `name`.

    This process may have more rights than the command's user: only the exec itself proves it.
    """
    files = [path for path in _candidates(name, environ) if os.path.isfile(path)]
    if any(os.access(path, os.X_OK) for path in files):
        return
    if "/" in name and os.path.isdir(name):
        raise CommandError(f"{name}: is a directory", EXIT_NOT_EXECUTABLE)
    if files:
        raise CommandError(f"{name}: is not executable", EXIT_NOT_EXECUTABLE)
    raise CommandError(f"{name}: command not found", EXIT_NOT_FOUND)


def start(
    argv: Sequence[str], user: Optional[User], environ: Mapping[str, str], inherited: InheritedState
) -> int:
    """Fork and exec `argv` as `user` (None: as this process). Return the PID once it runs.

    Raise CommandError if the kernel refuses the program or the change of user; nothing is
    left running then.
    """
    inherited.hold_back_descriptors()
    reading, writing = os.pipe()  # close-on-exec: it stays empty if the exec succeeds
    pid = os.fork()
    if pid == 0:
        _exec_in_child(argv, user, environ, inherited, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        failure = pipe.read()
    if failure:
        os.waitpid(pid, 0)
        code, _, what = failure.decode(errors="replace").partition(" ")
        raise CommandError(f"{argv[0]}: {what}", int(code))
    return pid


def _exec_in_child(
    argv: Sequence[str],
    user: Optional[User],
    environ: Mapping[str, str],
    inherited: InheritedState,
    failure_pipe: int,
) -> NoReturn:
    code, what = EXIT_NOT_EXECUTABLE, "ended before its exec"
    try:
        inherited.restore_limits()
        inherited.restore_directory()
        if user is not None:
            _change_user(user)
            inherited.restore_directory()
        inherited.restore_signals()
        _exec(argv, environ)
    except CommandError as error:
        code, what = error.exit_code, error.what
    except OSError as error:
        what = str(error.strerror)
    except BaseException as error:
        what = f"{type(error).__name__}: {error}"
    finally:
        os.write(failure_pipe, f"{code} {what}".encode(errors="replace"))
        os._exit(code)


def _change_user(user: User) -> None:
    try:
        os.setgroups(groups_of(user))
        os.setgid(user.gid)
        os.setuid(user.uid)
    except OSError as error:
        raise CommandError(
            f"cannot become {user.name}: {error.strerror}", EXIT_NOT_EXECUTABLE
        ) from None


def _exec(argv: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Do what execvp(3) does: unlike os.execvp(), run a script without #! by the shell."""
    refusal: Optional[CommandError] = None
    for path in _candidates(argv[0], environ):
        try:
            os.execve(path, list(argv), dict(environ))
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                os.execve(_SHELL, [_SHELL, path, *argv[1:]], dict(environ))
            if error.errno not in _SEARCH_ON:
                raise
            if error.errno == errno.EACCES:
                refusal = CommandError(str(error.strerror), EXIT_NOT_EXECUTABLE)
            elif os.path.isfile(path) and refusal is None:
                refusal = CommandError("the interpreter it names was not found", EXIT_NOT_FOUND)
    raise refusal or CommandError("command not found", EXIT_NOT_FOUND)


def _candidates(name: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the files that execvp(3) tries, in its order; an empty entry of PATH is `.`."""
    if "/" in name:
        yield name
    elif name:
        for directory in environ.get("PATH", os.defpath).split(":"):
            yield os.path.join(directory, name)


def exit_code_of(status: int) -> int:
    """Return a shell's exit code for a wait status: the exit status, or 128 + the signal."""
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    return EXIT_SIGNAL + os.WTERMSIG(status)
