# SPDX-License-Identifier: Apache-2.0
"""What the state machine tells while an observation goes on: changes, zombies, Python's events."""

from __future__ import annotations

import pytest

from tests.unit.event_builders import (
    APP,
    Machine,
    argv,
    exec_,
    exit_,
    fork,
    freed,
    lifecycle,
    plain,
    reap,
    reparent,
    start,
    wait,
    zombie,
)
from zombiebpf.lifecycle import lifecycle as module
from zombiebpf.lifecycle.builder import UNSEEN_LOST
from zombiebpf.model.events import (
    Event,
    ForkFlags,
    Reap,
    ReapFlags,
    StackKind,
    StackOf,
    Wait,
)
from zombiebpf.model.life import Activity, Actor, State

P, C = 20, 30
STACKED = ForkFlags.STACKED


def pids(machine: Machine, before_ns: int = 1 << 62) -> list[int]:
    return [life.pid for life in machine.changed(before_ns)]


# changes


def test_each_unfinished_process_is_shown_once_and_again_when_it_has_changed() -> None:
    machine = lifecycle()
    machine.feed([fork(1, P), fork(2, C)])
    assert pids(machine) == [P, C]
    assert pids(machine) == []
    for event in (
        exec_(3, C),
        *argv(3, C, b"prog\0"),
        exit_(4, C),
        zombie(5, C),
        StackOf(2, start(C), C, 0, APP, StackKind.FORK, 0, 0, (0,) * 6),
    ):
        machine.feed([event])
        assert pids(machine) == [C], event
    (life,) = [life for life in machine.unfinished if life.pid == C]
    assert life.state is State.ZOMBIE


def test_an_orphan_has_changed() -> None:
    machine = lifecycle()
    machine.feed([fork(1, P), fork(2, C, by=P)])
    machine.changed(9)
    machine.feed([reparent(3, P, to=APP)])
    (life,) = machine.changed(9)
    assert (life.pid, life.orphaned) == (C, True)


def test_a_zombie_that_is_looked_at_has_changed() -> None:
    machine = lifecycle()
    machine.feed([fork(1, P), zombie(2, P)])
    assert pids(machine) == [P]
    (looked_at,) = machine.zombies_since(3)
    looked_at.set_meanwhile(Activity(9, Actor(APP, APP, "app"), None, None, None, None))
    (life,) = machine.changed(9)
    assert life.meanwhile is not None
    assert pids(machine) == []


def test_a_young_process_can_wait_and_one_that_ended_is_not_shown() -> None:
    machine = lifecycle()
    machine.feed([fork(1, P), *plain(2, C), fork(2000, 31), fork(2001, 32)])
    assert pids(machine, 2000) == [P, 31]
    assert pids(machine, 2000) == []
    machine.feed([exit_(2100, 31), zombie(2101, 31), reap(2102, 31), freed(2103, 32)])
    assert pids(machine) == []


def test_what_nobody_asks_for_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_YOUNG", 10)
    machine = lifecycle()
    machine.feed([fork(0, P)])
    for number in range(100):
        machine.feed(plain(1000 * number, 100 + number))
    assert len(vars(machine.lifecycle)["_young"]) <= 13
    assert pids(machine) == [P]


def test_zombies_now() -> None:
    machine = lifecycle()
    machine.feed([fork(1, P), fork(2, C), fork(3, 31), zombie(4, C), zombie(5, 31), reap(60, 31)])
    assert [row.pid for row in machine.lifecycle.zombies] == [C]


# what concerns Python


class Taken:
    """A watcher that notes."""

    def __init__(self) -> None:
        self.waiting: dict[int, object] = {}
        self.events: list[Event] = []

    def take(self, event: Event) -> None:
        self.events.append(event)


def taken(events: list[Event], waiting: bool = False) -> list[Event]:
    watcher = Taken()
    if waiting:
        watcher.waiting[APP] = watcher
    lifecycle(watcher=watcher).feed(events)
    return watcher.events


def test_a_process_that_no_python_forked_concerns_nobody() -> None:
    events = [*plain(0, P), fork(1000, C), exec_(1001, C), *argv(1001, C, b"sh\0"), freed(2000, C)]
    assert taken(events) == []


def test_a_python_and_its_child() -> None:
    born = fork(0, P, flags=STACKED)
    stack = StackOf(0, start(P), P, 1, APP, StackKind.FORK, 0, 0, (0,) * 6)
    waits = wait(5, APP)
    rest = [exec_(1, P), *argv(1, P, b"x\0"), waits, exit_(10, P), reap(120, P)]
    events: list[Event] = [born, stack, *rest[:-1], zombie(11, P), rest[-1]]
    assert taken(events) == [born, stack, *rest]
    assert Wait in map(type, taken([wait(5, APP)]))


def test_a_child_of_what_a_python_forked() -> None:
    """A fork server may not be known as Python yet: then its forks announce no stack."""
    server, child = fork(0, P, flags=STACKED), fork(10, C, by=P)
    assert taken([server, child, exit_(20, C)]) == [server, child, exit_(20, C)]


def test_while_a_thread_waits_each_end_may_be_what_it_waits_for() -> None:
    events = plain(0, P)
    assert taken(events, waiting=True) == [events[1], events[3]]


def test_a_reap_by_python_of_whatever() -> None:
    event = reap(600, P, flags=ReapFlags.BY_PARENT | ReapFlags.STACKED)
    assert taken([*plain(0, P)[:3], event]) == [event]
    assert isinstance(taken([event])[0], Reap)  # of a process whose fork was lost, too


def test_a_stack_that_was_announced_and_did_not_come() -> None:
    (life,) = lifecycle().feed([fork(0, P, flags=STACKED), *plain(0, P)[1:]])
    assert life.fork_stack is None
    assert life.unseen == {"fork_stack": UNSEEN_LOST}
