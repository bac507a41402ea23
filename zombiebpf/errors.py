# SPDX-License-Identifier: Apache-2.0
"""The errors a user meets: what failed, why, and what to do about it."""

from __future__ import annotations

from typing import Optional

EXIT_EXPECTATION = 1  # a scenario's expectation was not met
EXIT_USAGE = 2
EXIT_FAILURE = 70  # sysexits.h EX_SOFTWARE: we failed, not what was observed
EXIT_PRIVILEGE = 77  # sysexits.h EX_NOPERM
EXIT_NOT_EXECUTABLE = 126  # as env(1) and the shell have it
EXIT_NOT_FOUND = 127
EXIT_SIGNAL = 128  # + the signal's number, as the shell has it


class ZombiebpfError(Exception):
    """One line for the user, with the cure when there is one."""

    exit_code = EXIT_FAILURE

    def __init__(self, what: str, cure: Optional[str] = None) -> None:
        super().__init__(what)
        self.what = what
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.what} ({self.cure})" if self.cure else self.what


class PrivilegeError(ZombiebpfError):
    """Not enough privilege to observe."""

    exit_code = EXIT_PRIVILEGE


class UsageError(ZombiebpfError):
    """What was asked for cannot be meant."""

    exit_code = EXIT_USAGE


class CommandError(ZombiebpfError):
    """CMD could not be started; the exit code is the shell's for that case."""

    def __init__(self, what: str, exit_code: int) -> None:
        super().__init__(what)
        self.exit_code = exit_code


class Interrupted(BaseException):
    """A signal asked zombiebpf itself to end: while it starts, or while it reports.

    No Exception, so that nothing takes it for a failure.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = EXIT_SIGNAL + number
