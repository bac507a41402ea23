# SPDX-License-Identifier: Apache-2.0
"""Joins: a thread waited for a child process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

from zombiebpf.model.life import Actor
from zombiebpf.model.stack import Frame, Stack


class Child(NamedTuple):
    """A process that was waited for."""

    pid: int
    start_ns: Optional[int]  # None: unknown which process of this PID it was


class Join(NamedTuple):
    """A call in which a thread waited for one or more children. None: not observed."""

    pid: Optional[int]
    tid: Optional[int]
    child_pid: Optional[int]  # None: several, or unknown
    timeout_s: Optional[float]  # None: none was given
    began_ns: Optional[int]
    ended_ns: Optional[int]  # None: it has not returned
    # reaped: this call reaped it. timeout: the call ended before the child. already_reaped: an
    # earlier call of the same process did. stolen: another call did. interrupted: none did.
    returned: Optional[str]
    kind: Optional[str] = None  # "Process.join", "Popen.wait", "Pool.join", "os.waitpid"...
    children: Sequence[Child] = ()  # all of them
    blocked_ns: Optional[int] = None  # time off the CPU between began and ended
    by: Optional[Actor] = None  # the reaper, unless it was this thread
    stack: Optional[Stack] = None
    site: Optional[Frame] = None  # the innermost frame of the user's own code
