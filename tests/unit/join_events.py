# SPDX-License-Identifier: Apache-2.0
"""Build the events of threads that fork, wait and reap, and the joins found in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from tests.unit.stack_builders import POLLING_JOIN, REAPING_JOIN, STARTING, stack
from zombiebpf.attribution.joins.joins import Joins
from zombiebpf.model.events import (
    Block,
    Event,
    Exec,
    Exit,
    Fork,
    ForkFlags,
    Reap,
    ReapFlags,
    Snapshot,
    StackKind,
    StackOf,
    Text,
    TextKind,
    Wait,
)
from zombiebpf.model.join import Join
from zombiebpf.model.stack import Stack
from zombiebpf.observe.rule_files import load_rules

MS = 1_000_000
SYSCALLS = {61: "wait4", 247: "waitid", 7: "poll", 230: "clock_nanosleep", 202: "futex", 0: "read"}
NUMBERS = {name: number for number, name in SYSCALLS.items()}
APP = 100
RULES = load_rules()


class JoinEvents:
    """Events of one process, APP unless `pid` says another. All times are in ms."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.stacks: dict[int, Stack] = {}

    def _id(self, whole: Stack) -> int:
        self.stacks[len(self.stacks) + 1] = whole
        return len(self.stacks)

    def _stack_of(
        self, ns: int, pid: int, tid: int, kind: StackKind, whole: Stack, selves: Sequence[int]
    ) -> None:
        padded = (*selves, 0, 0, 0, 0, 0, 0)
        self.events.append(
            StackOf(ns, pid, pid, self._id(whole), tid, kind, 0, 0, tuple(padded[:6]))
        )
        if len(selves) > 6:
            rest = tuple((*selves[6:], 0, 0, 0, 0, 0)[:6])
            self.events.append(StackOf(ns, pid, pid, len(self.stacks), tid, kind, 0, 6, rest))

    def fork(
        self,
        at: float,
        child: int,
        frames: Sequence[str] = (*STARTING, "main:5"),
        selves: Sequence[int] = (),
        pid: int = APP,
        tid: int = 0,
        ns_pid: int = 0,
    ) -> None:
        ns, tid = int(at * MS), tid or pid
        self.events.append(
            Fork(
                ns,
                child,
                child,
                pid,
                0,
                pid,
                tid,
                pid,
                tid,
                17,
                1,
                ns_pid or child,
                "python3",
                ForkFlags.STACKED,
            )
        )
        self._stack_of(ns, child, tid, StackKind.FORK, stack(*frames), selves)

    def start(self, at: float, child: int, popen: int = 0, process: int = 0, **more: Any) -> None:
        """Fork as Process.start() does with the fork method."""
        self.fork(at, child, selves=(popen, popen, 0, process), **more)

    def wait(
        self,
        at: float,
        target: int,
        frames: Sequence[str],
        selves: Sequence[int] = (),
        options: int = 0,
        pid: int = APP,
        tid: int = 0,
        syscall: str = "wait4",
    ) -> None:
        ns, tid = int(at * MS), tid or pid
        self.events.append(Wait(ns, pid, pid, tid, NUMBERS[syscall], options, target, 0))
        self._stack_of(ns, pid, tid, StackKind.WAIT, stack(*frames), selves)

    def block(
        self,
        at: float,
        until: float,
        syscall: str,
        frames: Sequence[str],
        selves: Sequence[int] = (),
        timeout: float = -1,
        pipe: int = 0,
        pid: int = APP,
        tid: int = 0,
    ) -> None:
        timeout_ns = int(timeout * MS) if timeout >= 0 else -1
        padded = tuple((*selves, 0, 0, 0)[:3])
        number = self._id(stack(*frames))
        self.events.append(
            Block(int(at * MS), pid, pid, int(until * MS), number, timeout_ns, tid or pid,
                  NUMBERS[syscall], pipe, padded)
        )  # fmt: skip

    def exit(self, at: float, pid: int) -> None:
        self.events.append(Exit(int(at * MS), pid, pid, pid, APP, 0, "python3"))

    def exec(self, at: float, pid: int, filename: str) -> None:
        self.events.append(Exec(int(at * MS), pid, pid, pid, "sh"))
        self.events.append(
            Text(int(at * MS), pid, pid, TextKind.FILENAME, len(filename), 0, filename.encode())
        )

    def reap(
        self,
        at: float,
        child: int,
        frames: Optional[Sequence[str]] = None,
        selves: Sequence[int] = (),
        wait: float = 0,
        options: int = 0,
        pid: int = APP,
        tid: int = 0,
        kernel: bool = False,
        syscall: str = "wait4",
    ) -> None:
        ns, tid = int(at * MS), tid or pid
        flags = int(ReapFlags.EXITING) if kernel else int(ReapFlags.BY_PARENT)
        self.events.append(
            Reap(ns, child, child, pid, int(wait * MS), pid, tid, pid, tid, 0, NUMBERS[syscall],
                 options, flags, "python3")
        )  # fmt: skip
        if frames is not None:
            self._stack_of(ns, child, tid, StackKind.REAP, stack(*frames), selves)

    def existing(self, pid: int, parent: int = APP) -> None:
        """Add a child of `parent` that existed before the observation."""
        self.events.append(
            Snapshot(0, pid, pid, parent, 0, parent, parent, 17, 1, pid, 0, 0, pid, "python3")
        )

    def cut(self) -> None:
        """Make the latest stack incomplete."""
        number = len(self.stacks)
        self.stacks[number] = Stack(self.stacks[number].frames, "truncated")

    def lose(self) -> None:
        """Lose the stack of the latest event."""
        event = self.events[-1]
        assert isinstance(event, StackOf)
        self.events[-1] = event._replace(stack_id=0)

    # what Process.join() does

    def join_polls(
        self, at: float, until: float, timeout: float, popen: int = 0, line: str = "main:9",
        **more: Any,
    ) -> None:  # fmt: skip
        self.block(at, until, "poll", (*POLLING_JOIN, line), (0, 0, popen), timeout, **more)

    def join_waits(
        self, at: float, target: int, popen: int = 0, process: int = 0, line: str = "main:9",
        **more: Any,
    ) -> None:  # fmt: skip
        self.wait(at, target, (*REAPING_JOIN, line), (popen, popen, process), **more)

    def join_blocked(
        self, at: float, until: float, popen: int = 0, line: str = "main:9", **more: Any
    ) -> None:
        self.block(at, until, "wait4", (*REAPING_JOIN, line), (popen, popen), **more)

    def join_reaps(
        self, at: float, child: int, wait: float, popen: int = 0, line: str = "main:9",
        **more: Any,
    ) -> None:  # fmt: skip
        self.reap(at, child, (*REAPING_JOIN, line), (popen, popen), wait, **more)

    def joins(self, batch: int = 10_000) -> list[Join]:
        """Return the joins found in the events, fed in batches of `batch`."""
        joins = self.machine()
        found = []
        for first in range(0, len(self.events), batch):
            found += feed(joins, self.events[first : first + batch])
        return found + joins.finish()

    def machine(self) -> Joins:
        return Joins(RULES, lambda number, problem: self.stacks.get(number), SYSCALLS)


def feed(joins: Joins, events: Sequence[Event]) -> list[Join]:
    """Give the joins a batch of events; return those that have ended."""
    for event in events:
        joins.take(event)
    return joins.ended(events[-1].ns if events else 0)


def in_ms(join: Join) -> tuple[object, ...]:
    """Return (kind, child, began, ended, returned) of a join, times in ms."""
    began, ended = join.began_ns, join.ended_ns
    return (
        join.kind,
        join.child_pid,
        None if began is None else began / MS,
        None if ended is None else ended / MS,
        join.returned,
    )
