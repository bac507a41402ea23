# SPDX-License-Identifier: Apache-2.0
"""A life that may still change, with what only the state machine needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Optional

from zombiebpf.events import (
    ARGV_BYTES,
    Existing,
    ExistingFlags,
    Fork,
    Freed,
    StackProblem,
    Text,
    TextKind,
)
from zombiebpf.life import Actor, Execution, Life, PidNamespace, ReapCall, ReapedBy
from zombiebpf.stack import Stack

NOTHING: Mapping[str, str] = MappingProxyType({})
UNSEEN_LOST = "its record, or a part of it, was lost"
UNSEEN_BEFORE = "since before we looked"
UNSEEN_OUTSIDE = "it came from outside of what is observed"
UNSEEN_REAP = "the reap itself was not seen by its hook, only that the process was freed, later"
NO_STACK: Mapping[int, str] = {
    StackProblem.NO_THREAD: "the thread is none of Python's",
    StackProblem.UNREADABLE: "the interpreter's memory could not be read",
    StackProblem.UNREGISTERED: "the interpreter was not known yet",
}

_BIRTH = ("forker", "fork_ns", "exec", "argv")


class OpenLife(Life):
    """Its owner sets the fields of Life as events tell them; close() makes it a plain Life."""

    exit_signal: int
    birth_parent: int
    parent_pid: int
    parent_tid: int
    parent_start_ns: Optional[int] = None
    zombie_parent_tid: Optional[int] = None  # whose child it became a zombie
    reap_parent_tid: Optional[int] = None  # whose child it was when it was reaped
    last_parent_pid: Optional[int] = None  # at the reap, where that is a surprise
    program_ns: Optional[int] = None  # when the exec was that the next two belong to
    stack_due: bool = False  # the reap's is still to come
    name: bytes = b""  # of its file, as far as it has come
    pieces: bytes = b""  # of its arguments

    @classmethod
    def existing(cls, event: Existing, cgroup: Optional[str]) -> OpenLife:
        """One that was not forked before our eyes."""
        life = cls(event.pid, event.start_ns, event.comm, event.argv)
        life.pidns = PidNamespace(event.pidns, event.ns_pid)
        life.cgroup = cgroup
        life.parent = Actor(event.parent_pid, event.parent_tid, event.parent_comm)
        life.exit_signal = event.exit_signal
        life.birth_parent = life.parent_pid = event.parent_pid
        life.parent_tid = event.parent_tid
        life.parent_start_ns = event.parent_start_ns
        why = UNSEEN_OUTSIDE if event.flags & ExistingFlags.JOINED else UNSEEN_BEFORE
        life.unseen = dict.fromkeys(("forker", "fork_ns", "exec"), why)
        if event.argv is None:
            life.note_unseen("argv", why)
        return life

    def note_earlier_end(self, event: Existing) -> bool:
        """What no event will tell, as it had happened already. Whether it is a zombie, told now."""
        if event.flags & ExistingFlags.EXITING and self.exit_ns is None:
            self.note_unseen("exit_ns", UNSEEN_BEFORE)
            self.wait_status = event.code
        if event.flags & ExistingFlags.ZOMBIE and self.zombie_ns is None:
            self.note_unseen("zombie_ns", UNSEEN_BEFORE)
            self.zombie_parent_tid = event.parent_tid
            known, self.was_zombie = self.was_zombie, True
            return not known
        return False

    def note_fork(self, event: Fork) -> None:
        """It was looked at between its birth and the event that tells of it."""
        if self.parent is not None and self.fork_ns is None:
            self.parent = None
            self.forker = Actor(event.forker_pid, event.forker_tid, event.comm)
            self.fork_ns = event.ns
            self.unseen = {field: why for field, why in self.unseen.items() if field not in _BIRTH}

    def note_unseen(self, field: str, why: str) -> None:
        self.unseen = {**self.unseen, field: why}

    def new_program(self, ns: int) -> None:
        self.program_ns = ns
        self.argv, self.argv_cut = None, False
        self.name = self.pieces = b""

    def add_text(self, event: Text) -> None:
        """A piece of what the last program was called with."""
        if event.kind == TextKind.ARGV:
            self.pieces += event.data
            if len(self.pieces) >= min(event.total, ARGV_BYTES):
                self.argv = arguments(self.pieces)
                self.argv_cut = event.total > ARGV_BYTES
        elif self.execs and self.execs[-1].ns == event.ns:
            self.name += event.data
            name = self.name.decode("utf-8", "surrogateescape")
            self.execs = (*self.execs[:-1], Execution(event.ns, name))

    def set_reaper(self) -> None:
        """By the parent it was born to, or by the one it was given to."""
        if self.reaped_by is None or self.reaped_by is ReapedBy.PARENT:
            orphaned = self.birth_parent != self.parent_pid or self.orphaned
            self.reaped_by = ReapedBy.ADOPTER if orphaned else ReapedBy.PARENT

    def set_call(self, name: str, options: int, wait_ns: int) -> None:
        """The call it was reaped by, just now; `wait_ns` 0: no do_wait() was seen."""
        if wait_ns and self.reap_ns is not None:
            told = (name, options, wait_ns, self.reap_ns - wait_ns, None, None, None)
            self.reap_call = tuple.__new__(ReapCall, told)  # the hot path
        else:
            waits = name in ("wait4", "waitid")
            self.reap_call = ReapCall(name, options if waits else None, None, None)

    def set_fork_stack(self, stack: Optional[Stack], problem: int) -> None:
        """The forker's; `problem` tells why there is none."""
        self.fork_stack = stack
        if stack is None:
            self.note_unseen("fork_stack", NO_STACK.get(problem, UNSEEN_LOST))

    def set_reap_stack(self, stack: Optional[Stack], problem: int) -> None:
        """The reaper's; `problem` tells why there is none."""
        call = self.reap_call or ReapCall(None, None, None, None)
        self.reap_call = call._replace(stack=stack)
        self.stack_due = False
        if stack is None:
            self.note_unseen("reap_call.stack", NO_STACK.get(problem, UNSEEN_LOST))

    def note_freed(self, event: Freed) -> None:
        """Its end came unseen: how late is not known, nor by whom."""
        self.reap_ns, self.reap_exact = event.ns, False
        self.wait_status = event.code
        self.reaped_by = ReapedBy.UNSEEN
        self.note_unseen("reaper", UNSEEN_REAP)
        self.note_unseen("reap_call", UNSEEN_REAP)

    def close(self) -> Life:
        """The same life, that changes no more."""
        if self.argv is None and self.program_ns is not None:
            self.note_unseen("argv", UNSEEN_LOST)
        if self.was_zombie and self.zombie_ns is not None:  # it became one at that moment
            self.was_zombie = False
        if self.parent is not None:
            self.unseen = {
                field: why
                for field, why in self.unseen.items()
                if field == "exec" or getattr(self, field, None) is None
            }
        self.__class__ = Life  # type: ignore[assignment]
        return self


def arguments(raw: bytes) -> tuple[str, ...]:
    """`a\\0b\\0` -> ("a", "b"); undecodable bytes become lone surrogates."""
    if not raw:
        return ()
    text = raw.decode("utf-8", "surrogateescape")
    return tuple(text[:-1].split("\0") if text.endswith("\0") else text.split("\0"))
