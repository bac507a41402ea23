# SPDX-License-Identifier: Apache-2.0
"""Build events, and the lives that the state machine makes of them.

Every builder takes its time first, the process, then whoever acts on it. A
thread that is not named is its process's leader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from tests.unit.encoded_records import encoded, records
from zombiebpf.lifecycle.builder import LifeBuilder
from zombiebpf.lifecycle.lifecycle import Lifecycle
from zombiebpf.model.events import (
    TEXT_BYTES,
    Event,
    Exec,
    Exit,
    Fork,
    Freed,
    Reap,
    ReapFlags,
    Reparent,
    ReparentFlags,
    Snapshot,
    Text,
    TextKind,
    Wait,
    Zombie,
    ZombieHook,
)
from zombiebpf.model.life import Life

MS, S = 1_000_000, 1_000_000_000
APP = 10  # the process that starts everything; it is not followed itself
PIDNS = 4026531836
SYSCALLS = {61: "wait4", 247: "waitid", 426: "io_uring_enter"}
EXITED_0, EXITED_3, KILLED, DUMPED = 0, 3 << 8, 9, 11 | 0x80

Fields = dict[str, Any]


def start(pid: int) -> int:
    """Return the start time of a process whose PID is used once."""
    return 7_000_000_000 + pid


def comm(pid: int) -> str:
    return f"p{pid}"


def fork(ns: int, pid: int, by: int = APP, **over: Any) -> Fork:
    """Build a fork of `pid` by `by`'s leader; `over` replaces fields."""
    return Fork(
        ns=ns,
        start_ns=over.get("start_ns", start(pid)),
        pid=pid,
        forker_start_ns=over.get("forker_start_ns", start(by)),
        cgroup_id=over.get("cgroup_id", 0),
        forker_pid=by,
        forker_tid=over.get("forker_tid", by),
        parent_pid=over.get("parent_pid", by),
        parent_tid=over.get("parent_tid", over.get("forker_tid", by)),
        exit_signal=over.get("exit_signal", 17),
        pidns=over.get("pidns", PIDNS),
        ns_pid=over.get("ns_pid", pid),
        comm=comm(by),
        flags=over.get("flags", 0),
    )


def exec_(ns: int, pid: int, old_tid: Optional[int] = None, **over: Any) -> Exec:
    return Exec(ns, over.get("start_ns", start(pid)), pid, old_tid or pid, over.get("comm", "prog"))


def texts(ns: int, pid: int, kind: TextKind, data: bytes, size: int, total: int) -> list[Event]:
    """Build the records of a text in pieces of `size` bytes; no record for no data."""
    return [
        Text(ns, start(pid), pid, kind, len(piece), total, piece.ljust(TEXT_BYTES, b"\0"))
        for at in range(0, len(data), size)
        if (piece := data[at : at + size])
    ]


def filename(ns: int, pid: int, name: bytes) -> list[Event]:
    return texts(ns, pid, TextKind.FILENAME, name, 55, 0)


def argv(ns: int, pid: int, data: bytes, total: Optional[int] = None) -> list[Event]:
    return texts(ns, pid, TextKind.ARGV, data, 56, len(data) if total is None else total)


def program(ns: int, pid: int, *arguments: bytes) -> list[Event]:
    """Build the events of an exec of the file that the first argument names."""
    data = b"".join(each + b"\0" for each in arguments)
    name = arguments[0].rpartition(b"/")[2].decode()
    return [
        exec_(ns, pid, comm=name),
        *filename(ns, pid, arguments[0]),
        *argv(ns, pid, data),
    ]


def exit_(ns: int, pid: int, code: int = EXITED_0, **over: Any) -> Exit:
    return Exit(
        ns=ns,
        start_ns=over.get("start_ns", start(pid)),
        pid=pid,
        tid=over.get("tid", pid),
        parent_pid=over.get("parent_pid", APP),
        code=code,
        comm=over.get("comm", comm(pid)),
    )


def zombie(ns: int, pid: int, parent: int = APP, code: int = EXITED_0, **over: Any) -> Zombie:
    return Zombie(
        ns=ns,
        start_ns=over.get("start_ns", start(pid)),
        pid=pid,
        parent_pid=parent,
        parent_tid=over.get("parent_tid", parent),
        code=code,
        hook=over.get("hook", ZombieHook.SIGNAL_GENERATE),
    )


def reparent(ns: int, pid: int, to: int, **over: Any) -> Reparent:
    """Build a reparenting: the children of `pid`'s dying leader go to `to`'s leader."""
    return Reparent(
        ns=ns,
        start_ns=over.get("start_ns", start(pid)),
        pid=pid,
        adopter_start_ns=over.get("adopter_start_ns", start(to)),
        tid=over.get("tid", pid),
        adopter_pid=to,
        adopter_tid=over.get("adopter_tid", to),
        flags=ReparentFlags.INIT * over.get("is_init", to == 1)
        | ReparentFlags.RESOLVED * over.get("resolved", True)
        | ReparentFlags.EXACT * over.get("exact", True),
        comm=comm(pid),
        adopter_comm=comm(to),
    )


def wait(ns: int, pid: int) -> Wait:
    return Wait(ns, start(pid), pid, pid, 61, 0, -1, 0)


def reap(ns: int, pid: int, by: int = APP, code: int = EXITED_0, **over: Any) -> Reap:
    """Build a reap of `pid` by `by`'s leader, its parent, in wait4(); `over` replaces fields."""
    return Reap(
        ns=ns,
        start_ns=over.get("start_ns", start(pid)),
        pid=pid,
        reaper_start_ns=over.get("reaper_start_ns", start(by)),
        wait_ns=over.get("wait_ns", ns - 40),
        reaper_pid=by,
        reaper_tid=over.get("reaper_tid", by),
        parent_pid=over.get("parent_pid", by),
        parent_tid=over.get("parent_tid", over.get("parent_pid", by)),
        code=code,
        syscall=over.get("syscall", 61),
        options=over.get("options", 0),
        flags=over.get("flags", ReapFlags.BY_PARENT),
        comm=comm(by),
    )


def autoreap(ns: int, pid: int, parent: int = APP, code: int = EXITED_0, **over: Any) -> Reap:
    """Build an autoreap: `pid` releases itself, no process waits for it."""
    given: Fields = {
        "parent_pid": parent,
        "wait_ns": 0,
        "syscall": -1,
        "options": -1,
        "flags": ReapFlags.EXITING,
    }
    return reap(ns, pid, pid, code, **{**given, **over})


def freed(ns: int, pid: int, parent: int = APP, code: int = EXITED_0) -> Freed:
    return Freed(ns, start(pid), pid, parent, code)


def plain(ns: int, pid: int, by: int = APP, code: int = EXITED_0) -> list[Event]:
    """Build the events of a life: fork, exit, zombie and reap, within 600 ns."""
    return [
        fork(ns, pid, by),
        exit_(ns + 300, pid, code, parent_pid=by),
        zombie(ns + 400, pid, by, code),
        reap(ns + 600, pid, by, code),
    ]


# lives


class Machine:
    """A lifecycle that is fed with events, and whose rows become lives."""

    def __init__(self, syscalls: Mapping[int, str] = SYSCALLS, *given: Any, **options: Any) -> None:
        self._snapshots: dict[bytes, Snapshot] = {}  # as /proc completes them
        options.setdefault("completed", lambda event: self._snapshots[encoded(event)])
        self.lifecycle = Lifecycle(syscalls, *given, **options)

    def feed(self, events: Sequence[Event]) -> list[Life]:
        self._snapshots.update(
            (encoded(event), event) for event in events if isinstance(event, Snapshot)
        )
        return [row.life() for row in self.lifecycle.feed(records(events))]

    def finish(self) -> list[Life]:
        return [row.life() for row in self.lifecycle.finish()]

    @property
    def unfinished(self) -> list[Life]:
        return [row.life() for row in self.lifecycle.unfinished]

    def changed(self, before_ns: int) -> list[Life]:
        return [row.life() for row in self.lifecycle.changed(before_ns)]

    def zombies_since(self, ns: int) -> list[LifeBuilder]:
        return self.lifecycle.zombies_since(ns)

    @property
    def alive(self) -> int:
        return self.lifecycle.alive


def lifecycle(**options: Any) -> Machine:
    return Machine(**options)


def as_fields(life: Life) -> Fields:
    """Return a life's fields, in values that compare."""
    return {**life._asdict(), "unseen": dict(life.unseen)}


def fields_of(lives: Mapping[int, Life]) -> dict[int, Fields]:
    """Return the fields of each life."""
    return {pid: as_fields(life) for pid, life in lives.items()}


def lives_of(events: Iterable[Event], batch: int = 0, **options: Any) -> dict[int, Life]:
    """Return the lives by PID, of events fed at once or `batch` at a time."""
    machine = lifecycle(**options)
    stream: Sequence[Event] = list(events)
    size = batch or max(len(stream), 1)
    found: list[Life] = []
    for at in range(0, len(stream), size):
        found += machine.feed(stream[at : at + size])
    found += machine.finish()
    assert_empty(machine)
    lives = {life.pid: life for life in found}
    assert len(lives) == len(found), "a process has two lives"
    return lives


def life_of(events: Iterable[Event], pid: int, **options: Any) -> Life:
    return lives_of(events, **options)[pid]


def assert_empty(machine: Machine) -> None:
    """Assert that the machine keeps nothing of processes that have been reaped."""
    assert machine.alive == 0
    assert list(machine.unfinished) == []
    assert machine.zombies_since(1 << 63) == []
    assert machine.changed(1 << 63) == []
    own = vars(machine.lifecycle)
    tables = {**own, **vars(own["_children"])}
    kept = {
        name: value
        for name, value in tables.items()
        if isinstance(value, Iterable) and name not in ("_handlers", "_syscalls", "_threads")
    }
    assert kept, "its tables are not found"
    assert {name: value for name, value in kept.items() if value} == {}
