# SPDX-License-Identifier: Apache-2.0
"""Process records: what was observed of a process from its fork to its reap."""

from __future__ import annotations

import enum
import os
import signal as signal_module
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Optional

from zombiebpf.model.stack import Frame, Stack
from zombiebpf.model.units import NS_PER_MS

Key = tuple[int, int]  # pid, start_ns: identifies a process for ever
NOTHING: Mapping[str, str] = MappingProxyType({})

LATE_NS = 100 * NS_PER_MS  # a zombie older than this was not waited for in time

# Values of `Life.reap_kind` that name no call.
KIND_KERNEL, KIND_UNSEEN = "kernel", "unseen"

# Reasons in `Life.unseen` that other modules recognise.
UNSEEN_BEFORE = "since before we looked"


class State(enum.Enum):
    """The state of a process at the end of the observation."""

    RUNNING = "running"
    ZOMBIE = "zombie"
    REAPED = "reaped"


class ReapedBy(enum.Enum):
    """The kind of process that reaped a process."""

    PARENT = "parent"  # the parent it had from birth
    ADOPTER = "adopter"  # a parent it was reparented to
    TRACER = "tracer"
    KERNEL = "kernel"  # nobody waited: SIGCHLD ignored or SA_NOCLDWAIT
    UNSEEN = "unseen"


class AdopterKind(enum.Enum):
    """The kind of process that find_new_reaper() of kernel/exit.c chose as new parent."""

    SUBREAPER = "subreaper"
    INIT = "init"  # of the PID namespace
    THREAD = "thread"  # a sibling thread of the dead parent: no orphaning


class Actor(NamedTuple):
    """A thread that forked, adopted, reaped or waited for a process."""

    pid: int
    tid: Optional[int]
    comm: Optional[str]


class PidNamespace(NamedTuple):
    """The innermost PID namespace of a process."""

    inum: int
    pid: int  # the process's PID in it


class Execution(NamedTuple):
    """A program that the process executed."""

    ns: int
    filename: Optional[str]


class Reparenting(NamedTuple):
    """A change of the parent because the old parent exited."""

    ns: int
    from_: Actor
    to: Actor
    kind: AdopterKind
    while_zombie: bool
    exact: bool  # False: `ns` is an upper bound

    @property
    def orphaning(self) -> bool:
        """Return whether the new parent is another process, not a sibling thread."""
        return self.kind is not AdopterKind.THREAD


class ReapCall(NamedTuple):
    """The system call that the reaper was in, and the Python call that made it."""

    syscall: Optional[str]  # "wait4", "waitid", "syscall_426"...
    options: Optional[int]
    began_ns: Optional[int]  # do_wait() entered
    blocked_ns: Optional[int]  # reap - began
    kind: Optional[str] = None  # "join", "atexit"...: of the attribution rule that matched
    stack: Optional[Stack] = None  # the reaper's
    site: Optional[Frame] = None  # the innermost frame of the user's own code


class Activity(NamedTuple):
    """A sample of what the parent of a zombie was doing instead of waiting."""

    ns: int  # when it was sampled
    thread: Actor  # the thread that forked, else the parent's first
    blocked_since_ns: Optional[int]  # None: it was running, or not observed
    syscall: Optional[str]  # that it was blocked in; None: it was running
    stack: Optional[Stack]  # None: not Python, or running
    site: Optional[Frame]  # the innermost frame of the user's own code


class Life(NamedTuple):
    """The record of one process, identified by (pid, start_ns). Immutable.

    None is "not observed", never "zero"; `unseen` says why. All `*_ns` fields are
    CLOCK_MONOTONIC nanoseconds, except `start_ns`, which is CLOCK_BOOTTIME.
    """

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
    zombie_exact: bool = True  # False: `zombie_ns` is an upper bound
    reap_ns: Optional[int] = None
    reap_exact: bool = True  # False: `reap_ns` is an upper bound
    wait_status: Optional[int] = None  # as wait(2) returns it
    reparents: Sequence[Reparenting] = ()
    reaper: Optional[Actor] = None
    reaped_by: Optional[ReapedBy] = None  # None: not reaped yet
    reap_call: Optional[ReapCall] = None
    parent: Optional[Actor] = None  # real_parent at the attach scan; None: observed from its fork
    was_zombie: bool = False  # at the attach scan: then `zombie_ns` is None
    meanwhile: Optional[Activity] = None  # of the parent of a long-lived zombie
    unseen: Mapping[str, str] = NOTHING  # field of the JSON contract -> why it is null

    @property
    def key(self) -> Key:
        """Return (pid, start_ns), which identifies the process for ever."""
        return self.pid, self.start_ns

    @property
    def state(self) -> State:
        """Return the state at the end of the observation."""
        if self.reap_ns is not None:
            return State.REAPED
        if self.zombie_ns is not None or self.was_zombie:
            return State.ZOMBIE
        return State.RUNNING

    @property
    def zombie_interval_ns(self) -> Optional[int]:
        """Return reap - zombie; negative if a late `zombie_ns` lies after the reap."""
        if self.reap_ns is None or self.zombie_ns is None:
            return None
        return self.reap_ns - self.zombie_ns

    @property
    def reap_latency_ns(self) -> Optional[int]:
        """Return reap - exit."""
        if self.reap_ns is None or self.exit_ns is None:
            return None
        return self.reap_ns - self.exit_ns

    @property
    def exit_status(self) -> Optional[int]:
        """Return 0-255; None if a signal killed it or it has not ended."""
        status = self.wait_status
        return os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None

    @property
    def signal(self) -> Optional[int]:
        """Return the number of the signal that killed it; None if none did."""
        status = self.wait_status
        return os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None

    @property
    def core_dumped(self) -> Optional[bool]:
        """Return whether it dumped core; None if it has not ended."""
        return None if self.wait_status is None else os.WCOREDUMP(self.wait_status)

    @property
    def orphaned(self) -> bool:
        """Return whether another process became its parent."""
        return any(each.orphaning for each in self.reparents)

    @property
    def already_zombie(self) -> bool:
        """Return whether it was a zombie when the observation began: since when is unknown."""
        return self.was_zombie and self.zombie_ns is None and self.exit_ns is None

    def zombie_duration_ns(self, started_ns: int, ended_ns: int) -> Optional[int]:
        """Return how long it was a zombie within an observation; None: no zombie was observed.

        A zombie that was not reaped counts up to `ended_ns`, the end of the observation. One
        that was a zombie already when it began counts from `started_ns`: a lower bound.
        """
        begin_ns = started_ns if self.already_zombie else self.zombie_ns
        end_ns = ended_ns if self.reap_ns is None else self.reap_ns
        return None if begin_ns is None else max(end_ns - begin_ns, 0)

    @property
    def reap_kind(self) -> Optional[str]:
        """Return the kind of the reaping call, else its system call; None: not reaped.

        KIND_KERNEL if nobody waited for it, KIND_UNSEEN if the reap was not observed.
        """
        if self.reap_ns is None:
            return None
        if self.reaped_by is ReapedBy.KERNEL:
            return KIND_KERNEL
        call = self.reap_call
        if self.reaper is None or call is None:
            return KIND_UNSEEN
        return call.kind or call.syscall or KIND_UNSEEN


class LifeRow(NamedTuple):
    """The same record, flat: as it is made, and as the trace's table `life` has it.

    Making a Life of it costs as much as all that comes before, so that is left to who
    needs one. The fields from `fork_stack` on are rare: of most processes that no Python
    forked they are SIMPLE.
    """

    pid: int
    start_ns: int
    comm: Optional[str]
    pidns: Optional[int]
    pidns_pid: Optional[int]
    forker_pid: Optional[int]
    forker_tid: Optional[int]
    forker_comm: Optional[str]
    fork_ns: Optional[int]
    exit_ns: Optional[int]
    zombie_ns: Optional[int]
    reap_ns: Optional[int]
    wait_status: Optional[int]
    reaper_pid: Optional[int]
    reaper_tid: Optional[int]
    reaper_comm: Optional[str]
    reap_syscall: Optional[str]
    reap_options: Optional[int]
    reap_began_ns: Optional[int]
    reap_blocked_ns: Optional[int]
    reap_kind: Optional[str]
    reap_called: bool  # whether there is a ReapCall
    reaped_by: Optional[ReapedBy]
    zombie_exact: bool
    reap_exact: bool
    argv_cut: bool
    argv: Optional[tuple[str, ...]]
    cgroup: Optional[str]
    fork_stack: Optional[Stack]
    fork_site: Optional[Frame]
    reap_stack: Optional[Stack]
    reap_site: Optional[Frame]
    parent: Optional[Actor]
    was_zombie: bool
    execs: Sequence[Execution]
    reparents: Sequence[Reparenting]
    meanwhile: Optional[Activity]
    unseen: Mapping[str, str]

    @classmethod
    def of(cls, life: Life) -> LifeRow:
        """Return the row of a record that was not made by an observation."""
        row = life._asdict()
        for name, parts in _PARTS.items():
            row.update(zip(parts, row.pop(name) or (None,) * len(parts)))
        return cls(**row, reap_called=life.reap_call is not None)

    def life(self) -> Life:
        """Return the record with its parts together."""
        reaper = forker = pidns = call = None
        if self.forker_pid is not None:
            forker = Actor(self.forker_pid, self.forker_tid, self.forker_comm)
        if self.reaper_pid is not None:
            reaper = Actor(self.reaper_pid, self.reaper_tid, self.reaper_comm)
        if self.pidns is not None and self.pidns_pid is not None:
            pidns = PidNamespace(self.pidns, self.pidns_pid)
        if self.reap_called:
            call = ReapCall(
                self.reap_syscall, self.reap_options, self.reap_began_ns, self.reap_blocked_ns,
                self.reap_kind, self.reap_stack, self.reap_site,
            )  # fmt: skip
        return Life(
            self.pid, self.start_ns, self.comm, self.argv, self.argv_cut, pidns, self.cgroup,
            forker, self.fork_ns, self.fork_stack, self.fork_site, self.execs, self.exit_ns,
            self.zombie_ns, self.zombie_exact, self.reap_ns, self.reap_exact, self.wait_status,
            self.reparents, reaper, self.reaped_by, call, self.parent, self.was_zombie,
            self.meanwhile, self.unseen,
        )  # fmt: skip


_PARTS = {
    "pidns": ("pidns", "pidns_pid"),
    "forker": ("forker_pid", "forker_tid", "forker_comm"),
    "reaper": ("reaper_pid", "reaper_tid", "reaper_comm"),
    "reap_call": (
        "reap_syscall", "reap_options", "reap_began_ns", "reap_blocked_ns", "reap_kind",
        "reap_stack", "reap_site",
    ),
}  # fmt: skip
CODED_AT = LifeRow._fields.index("reap_called")  # before it, what is stored as it is
RARE_AT = LifeRow._fields.index("fork_stack")
SIMPLE = (None, None, None, None, None, False, (), (), None, NOTHING)


def signal_name(number: int) -> str:
    """Return `SIGTERM`, or `SIGRTMIN+3` for a real-time signal."""
    try:
        return signal_module.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - 34}" if 34 <= number <= 64 else f"signal {number}"
