# SPDX-License-Identifier: Apache-2.0
"""A process record under construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Optional

from zombiebpf.model.events import (
    ARGV_BYTES,
    Fork,
    Freed,
    Snapshot,
    SnapshotFlags,
    StackProblem,
    Text,
    TextKind,
)
from zombiebpf.model.life import (
    NOTHING,
    RARE_AT,
    SIMPLE,
    UNSEEN_BEFORE,
    Activity,
    Actor,
    Execution,
    Life,
    LifeRow,
    ReapedBy,
    Reparenting,
)
from zombiebpf.model.stack import Frame, Stack

UNSEEN_LOST = "its record, or a part of it, was lost"
UNSEEN_OUTSIDE = "it came from outside of what is observed"
UNSEEN_REAP = "the reap itself was not seen by its hook, only that the process was freed, later"
NO_STACK: Mapping[int, str] = {
    StackProblem.NO_THREAD: "the thread is none of Python's",
    StackProblem.UNREADABLE: "the interpreter's memory could not be read",
    StackProblem.UNREGISTERED: "the interpreter was not known yet",
}

_BIRTH = ("forker", "fork_ns", "exec", "argv")
_common_of = attrgetter(*LifeRow._fields[:RARE_AT])
_rare_of = attrgetter(*LifeRow._fields[RARE_AT:])


class LifeBuilder:
    """A process record that may still change, and what only the state machine needs of it.

    The fields of `LifeRow` have its names. Defaults are class attributes, so that a fork,
    the hot path, sets only those that it knows.
    """

    pid: int
    start_ns: int
    comm: Optional[str] = None
    argv: Optional[tuple[str, ...]] = None
    argv_cut: bool = False
    pidns: Optional[int] = None
    pidns_pid: Optional[int] = None
    cgroup: Optional[str] = None
    forker_pid: Optional[int] = None
    forker_tid: Optional[int] = None
    forker_comm: Optional[str] = None
    fork_ns: Optional[int] = None
    fork_stack: Optional[Stack] = None
    fork_site: Optional[Frame] = None
    execs: Sequence[Execution] = ()
    exit_ns: Optional[int] = None
    zombie_ns: Optional[int] = None
    zombie_exact: bool = True
    reap_ns: Optional[int] = None
    reap_exact: bool = True
    wait_status: Optional[int] = None
    reparents: Sequence[Reparenting] = ()
    reaper_pid: Optional[int] = None
    reaper_tid: Optional[int] = None
    reaper_comm: Optional[str] = None
    reaped_by: Optional[ReapedBy] = None
    reap_called: bool = False
    reap_syscall: Optional[str] = None
    reap_options: Optional[int] = None
    reap_began_ns: Optional[int] = None
    reap_blocked_ns: Optional[int] = None
    reap_kind: Optional[str] = None
    reap_stack: Optional[Stack] = None
    reap_site: Optional[Frame] = None
    parent: Optional[Actor] = None
    was_zombie: bool = False
    meanwhile: Optional[Activity] = None
    unseen: Mapping[str, str] = NOTHING

    exit_signal: int
    birth_parent: int
    parent_pid: int
    parent_tid: int
    parent_start_ns: Optional[int] = None
    zombie_parent_tid: Optional[int] = None  # the parent thread when it became a zombie
    reap_parent_tid: Optional[int] = None  # the parent thread when it was reaped
    last_parent_pid: Optional[int] = None  # at the reap, if no event has explained that parent
    program_ns: Optional[int] = None  # of the exec that `name` and `pieces` belong to
    rare: bool = False  # it has one of the fields from RARE_AT on, or needs finish()
    watched: bool = False  # the watcher of stacks wants its events
    shown: bool = False  # Lifecycle.changed() has returned it
    fork_stack_due: bool = False  # the stack of the fork has not arrived
    stack_due: bool = False  # the stack of the reap has not arrived
    name: bytes = b""  # what has arrived of the program's filename
    pieces: bytes = b""  # what has arrived of the arguments

    @classmethod
    def from_snapshot(cls, event: Snapshot, cgroup: Optional[str]) -> LifeBuilder:
        """Start the record of a process whose fork was not observed."""
        life = cls()
        life.pid, life.start_ns = event.pid, event.start_ns
        life.comm, life.argv = event.comm, event.argv
        life.pidns, life.pidns_pid = event.pidns, event.ns_pid
        life.cgroup = cgroup
        life.parent = Actor(event.parent_pid, event.parent_tid, event.parent_comm)
        life.exit_signal = event.exit_signal
        life.birth_parent = life.parent_pid = event.parent_pid
        life.parent_tid = event.parent_tid
        life.parent_start_ns = event.parent_start_ns
        life.watched = life.rare = True
        why = UNSEEN_OUTSIDE if event.flags & SnapshotFlags.JOINED else UNSEEN_BEFORE
        life.unseen = dict.fromkeys(("forker", "fork_ns", "exec"), why)
        if event.argv is None:
            life.note_unseen("argv", why)
        return life

    def note_earlier_end(self, event: Snapshot) -> bool:
        """Note an exit that came before the snapshot. Return True if it is a new zombie."""
        if event.flags & SnapshotFlags.EXITING and self.exit_ns is None:
            self.note_unseen("exit_ns", UNSEEN_BEFORE)
            self.wait_status = event.code
        if event.flags & SnapshotFlags.ZOMBIE and self.zombie_ns is None:
            self.note_unseen("zombie_ns", UNSEEN_BEFORE)
            self.zombie_parent_tid = event.parent_tid
            was_zombie, self.was_zombie = self.was_zombie, True
            return not was_zombie
        return False

    def note_fork(self, event: Fork) -> None:
        """Note a fork that arrives after the snapshot of the same process."""
        if self.parent is not None:
            self.parent = None
            self.forker_pid, self.forker_tid = event.forker_pid, event.forker_tid
            self.forker_comm = event.comm
            self.fork_ns = event.ns
            self.unseen = {field: why for field, why in self.unseen.items() if field not in _BIRTH}

    def note_unseen(self, field: str, why: str) -> None:
        """Record why a field of the JSON contract is null."""
        self.rare = True
        self.unseen = {**self.unseen, field: why}

    def new_program(self, ns: int) -> None:
        """Expect the filename and the arguments of an exec."""
        self.rare = True
        self.program_ns = ns
        self.argv, self.argv_cut = None, False
        self.name = self.pieces = b""

    def add_text(self, event: Text) -> None:
        """Add a piece of the filename or of the arguments of the last exec."""
        if event.kind == TextKind.ARGV:
            self.pieces += event.piece
            if len(self.pieces) >= min(event.total, ARGV_BYTES):
                self.argv = arguments(self.pieces)
                self.argv_cut = event.total > ARGV_BYTES
        elif self.execs and self.execs[-1].ns == event.ns:
            self.name += event.piece
            name = self.name.decode("utf-8", "surrogateescape")
            self.execs = (*self.execs[:-1], Execution(event.ns, name))

    def set_reaper(self) -> None:
        """Set `reaped_by` to the parent that it had from birth, or to an adopter."""
        if self.reaped_by is None or self.reaped_by is ReapedBy.PARENT:
            adopted = self.birth_parent != self.parent_pid or (
                self.reparents and any(each.orphaning for each in self.reparents)
            )
            self.reaped_by = ReapedBy.ADOPTER if adopted else ReapedBy.PARENT

    def add_reparent(self, step: Reparenting) -> None:
        """Add a change of the parent."""
        self.rare = True
        self.reparents = (*self.reparents, step)

    def set_meanwhile(self, seen: Optional[Activity]) -> None:
        """Set what the parent was doing while this was a zombie."""
        self.rare = True
        self.meanwhile = seen

    def expect_fork_stack(self) -> None:
        """Expect the stack of the fork, and watch the process."""
        self.rare = self.watched = self.fork_stack_due = True

    def set_fork_stack(self, stack: Optional[Stack], problem: int) -> None:
        """Set the forker's stack; `problem` says why there is none (StackProblem)."""
        self.rare = True
        self.fork_stack = stack
        self.fork_stack_due = False
        if stack is None:
            self.note_unseen("fork_stack", NO_STACK.get(problem, UNSEEN_LOST))

    def set_reap_stack(self, stack: Optional[Stack], problem: int) -> None:
        """Set the reaper's stack; `problem` says why there is none (StackProblem)."""
        self.rare = self.reap_called = True
        self.reap_stack = stack
        self.stack_due = False
        if stack is None:
            self.note_unseen("reap_call.stack", NO_STACK.get(problem, UNSEEN_LOST))

    def note_freed(self, event: Freed) -> None:
        """End a process whose reap was not observed: the time is an upper bound."""
        self.reap_ns, self.reap_exact = event.ns, False
        self.wait_status = event.code
        self.reaped_by = ReapedBy.UNSEEN
        self.note_unseen("reaper", UNSEEN_REAP)
        self.note_unseen("reap_call", UNSEEN_REAP)

    def finish(self) -> None:
        """Settle what no further event can change."""
        if self.argv is None and self.program_ns is not None:
            self.note_unseen("argv", UNSEEN_LOST)
        if self.fork_stack_due:
            self.note_unseen("fork_stack", UNSEEN_LOST)
        if self.was_zombie and self.zombie_ns is not None:  # it became one meanwhile
            self.was_zombie = False
        if self.parent is not None:
            known = self.life()
            self.unseen = {
                field: why
                for field, why in self.unseen.items()
                if getattr(known, field, None) is None
            }

    def row(self) -> LifeRow:
        """Return the process record as it is now, as a flat row."""
        rare = _rare_of(self) if self.rare else SIMPLE
        return tuple.__new__(LifeRow, _common_of(self) + rare)

    def life(self) -> Life:
        """Return the process record as it is now."""
        return self.row().life()


def arguments(raw: bytes) -> tuple[str, ...]:
    """Split `a\\0b\\0` into ("a", "b"); undecodable bytes become lone surrogates."""
    if not raw:
        return ()
    text = raw.decode("utf-8", "surrogateescape")
    return tuple(text[:-1].split("\0") if text.endswith("\0") else text.split("\0"))
