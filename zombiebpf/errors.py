# SPDX-License-Identifier: Apache-2.0
"""Errors that are shown to the user as one line, with the fix, and the exit codes."""

from __future__ import annotations

from typing import Optional

EXIT_EXPECTATION = 1  # a scenario's expectation was not met
EXIT_USAGE = 2
EXIT_FAILURE = 70  # sysexits.h EX_SOFTWARE: zombiebpf failed, not the observed command
EXIT_PRIVILEGE = 77  # sysexits.h EX_NOPERM
EXIT_NOT_EXECUTABLE = 126  # like env(1) and the shell
EXIT_NOT_FOUND = 127
EXIT_SIGNAL = 128  # + the signal's number, like the shell


class ZombiebpfError(Exception):
    """A failure of zombiebpf: `what` is one line for the user, `fix` what to do about it."""

    exit_code = EXIT_FAILURE

    def __init__(self, what: str, fix: Optional[str] = None) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what} ({self.fix})" if self.fix else self.what


class PrivilegeError(ZombiebpfError):
    """A lack of privilege: observing needs root or CAP_BPF and CAP_PERFMON."""

    exit_code = EXIT_PRIVILEGE


class UsageError(ZombiebpfError):
    """A request that cannot be fulfilled as it was given."""

    exit_code = EXIT_USAGE


class CommandError(ZombiebpfError):
    """A command that could not be started; `exit_code` is what a shell would exit with."""

    def __init__(self, what: str, exit_code: int) -> None:
        super().__init__(what)
        self.exit_code = exit_code


class Interrupted(BaseException):
    """A signal that asked zombiebpf itself to end, while it starts or reports.

    Derived from BaseException, so that no `except Exception` takes it for a failure.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = EXIT_SIGNAL + number
