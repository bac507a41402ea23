# SPDX-License-Identifier: Apache-2.0
"""A process's life as it was observed: what every report is made from.

None is "not seen", never "zero"; `Life.unseen` says why. All `*_ns` fields are
CLOCK_MONOTONIC nanoseconds, `start_ns` alone is CLOCK_BOOTTIME.
"""

from __future__ import annotations

import enum
import os
import signal as signal_module
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from zombiebpf.stack import Frame, Stack


class State(enum.Enum):
    RUNNING = "running"
    ZOMBIE = "zombie"
    REAPED = "reaped"


class ReapedBy(enum.Enum):
    PARENT = "parent"  # the one it had from birth
    ADOPTER = "adopter"  # the one it was reparented to
    TRACER = "tracer"
    KERNEL = "kernel"  # nobody waited: SIGCHLD ignored or SA_NOCLDWAIT
    UNSEEN = "unseen"


class AdopterKind(enum.Enum):
    SUBREAPER = "subreaper"
    INIT = "init"  # of the PID namespace
    THREAD = "thread"  # a sibling thread of the dead parent: no orphaning


class Actor(NamedTuple):
    """A thread that did something to a process."""

    pid: int
    tid: Optional[int]
    comm: Optional[str]


class PidNamespace(NamedTuple):
    inum: int
    pid: int  # the process's PID in it


class Execution(NamedTuple):
    ns: int
    filename: Optional[str]


class Reparenting(NamedTuple):
    ns: int
    from_: Actor
    to: Actor
    kind: AdopterKind
    while_zombie: bool
    exact: bool  # False: `ns` is an upper bound


class ReapCall(NamedTuple):
    """The call the reaper stood in."""

    syscall: Optional[str]  # "wait4", "waitid", "syscall_426"...
    options: Optional[int]
    began_ns: Optional[int]  # do_wait() entered
    blocked_ns: Optional[int]  # reap - began
    kind: Optional[str] = None  # "join", "atexit"...: the attribution rule that held
    stack: Optional[Stack] = None  # the reaper's
    site: Optional[Frame] = None  # the innermost frame of the user's own code


class Activity(NamedTuple):
    """What a zombie's parent was doing while it should have waited: looked at once."""

    ns: int  # when it was looked at
    thread: Actor  # the thread that forked, else the parent's first
    blocked_since_ns: Optional[int]  # None: it was running, or not seen
    syscall: Optional[str]  # it was blocked in; None: it was running
    stack: Optional[Stack]  # None: not Python, or running
    site: Optional[Frame]  # the innermost frame of the user's own code


@dataclass
class Life:
    """One process, named by (pid, start_ns)."""

    pid: int
    start_ns: int
    comm: Optional[str] = None
    argv: Optional[tuple[str, ...]] = None
    argv_cut: bool = False  # argv is longer than what the kernel sent
    pidns: Optional[PidNamespace] = None
    cgroup: Optional[str] = None
    forker: Optional[Actor] = None
    fork_ns: Optional[int] = None
    fork_stack: Optional[Stack] = None  # the forker's
    fork_site: Optional[Frame] = None  # the innermost frame of the user's own code
    execs: Sequence[Execution] = ()
    exit_ns: Optional[int] = None
    zombie_ns: Optional[int] = None
    zombie_exact: bool = True  # False: `zombie_ns` is a late bound
    reap_ns: Optional[int] = None
    reap_exact: bool = True  # False: `reap_ns` is a late bound
    wait_status: Optional[int] = None  # as wait(2) gives it
    reparents: Sequence[Reparenting] = ()
    reaper: Optional[Actor] = None
    reaped_by: Optional[ReapedBy] = None  # None: not reaped yet
    reap_call: Optional[ReapCall] = None
    parent: Optional[Actor] = None  # real_parent when taken over; None: seen from its fork on
    was_zombie: bool = False  # when it was taken over: then `zombie_ns` is None
    meanwhile: Optional[Activity] = None  # of the parent, where it let the zombie wait for long
    unseen: Mapping[str, str] = field(default_factory=dict)  # contract field -> why it is null

    @property
    def state(self) -> State:
        if self.reap_ns is not None:
            return State.REAPED
        if self.zombie_ns is not None or self.was_zombie:
            return State.ZOMBIE
        return State.RUNNING

    @property
    def zombie_interval_ns(self) -> Optional[int]:
        """reap - zombie; None for a child the kernel released itself."""
        if self.reap_ns is None or self.zombie_ns is None:
            return None
        return self.reap_ns - self.zombie_ns

    @property
    def reap_latency_ns(self) -> Optional[int]:
        """reap - exit."""
        if self.reap_ns is None or self.exit_ns is None:
            return None
        return self.reap_ns - self.exit_ns

    @property
    def exit_status(self) -> Optional[int]:
        """0-255, None if it was killed or has not ended."""
        status = self.wait_status
        return os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None

    @property
    def signal(self) -> Optional[int]:
        """The signal that killed it, if one did."""
        status = self.wait_status
        return os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None

    @property
    def core_dumped(self) -> Optional[bool]:
        return None if self.wait_status is None else os.WCOREDUMP(self.wait_status)

    @property
    def orphaned(self) -> bool:
        return any(each.kind is not AdopterKind.THREAD for each in self.reparents)


def signal_name(number: int) -> str:
    """`SIGTERM`; `SIGRTMIN+3` for a real-time signal."""
    try:
        return signal_module.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - 34}" if 34 <= number <= 64 else f"signal {number}"
