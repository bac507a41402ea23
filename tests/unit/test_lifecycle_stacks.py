# SPDX-License-Identifier: Apache-2.0
"""Where a life's processes stood in Python: stacks of forks and reaps, and what is not there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Optional

import pytest

from tests.unit.event_builders import (
    APP,
    Machine,
    S,
    assert_empty,
    autoreap,
    exec_,
    exit_,
    fork,
    freed,
    life_of,
    lifecycle,
    lives_of,
    plain,
    reap,
    reparent,
    start,
    wait,
    zombie,
)
from zombiebpf.lifecycle.builder import NO_STACK, UNSEEN_LOST
from zombiebpf.lifecycle.lifecycle import LATE_EVENT_NS
from zombiebpf.model.events import (
    Block,
    Event,
    Exec,
    Exit,
    Fork,
    Reap,
    ReapFlags,
    Snapshot,
    StackKind,
    StackOf,
    StackProblem,
)
from zombiebpf.model.life import Life, ReapCall, ReapedBy
from zombiebpf.model.stack import Frame, Stack

P, C = 20, 30
STACKED = ReapFlags.BY_PARENT | ReapFlags.STACKED
SPAWN = Stack((Frame("Popen.__init__", "subprocess.py", 1026), Frame("main", "app.py", 7)))
JOIN = Stack((Frame("Popen.wait", "subprocess.py", 1264), Frame("main", "app.py", 9)))
CUT = Stack((Frame("f", "app.py", 3),), problem="deeper than what is captured")
STACKS = {1: SPAWN, 2: JOIN, 3: CUT}


def stack(number: int, problem: int) -> Optional[Stack]:
    return STACKS.get(number)


def stack_of(ns: int, pid: int, kind: StackKind, number: int, **over: int) -> StackOf:
    """As the probes send it right after its event."""
    return StackOf(
        ns=ns,
        start_ns=over.get("start_ns", start(pid)),
        pid=pid,
        stack_id=number,
        tid=over.get("tid", APP),
        kind=kind,
        problem=over.get("problem", StackProblem.NONE),
        first=over.get("first", 0),
        selves=(0,) * 6,
    )


def until_reap(ns: int, pid: int, **over: int) -> list[Event]:
    """A life that a Python process reaps at ns + 600; the reap's stack is still to come."""
    *before, _ = plain(ns, pid)
    return [*before, reap(ns + 600, pid, flags=STACKED, **over)]


def reap_call_of(life: Life) -> ReapCall:
    assert life.reap_call is not None
    return life.reap_call


def machine() -> Machine:
    return lifecycle(stack=stack)


# forks


def test_the_forkers_stack() -> None:
    birth, *rest = plain(0, C)
    life = life_of([birth, stack_of(0, C, StackKind.FORK, 1), *rest], C, stack=stack)
    assert life.fork_stack is SPAWN
    assert life.unseen == {}


def test_a_fork_by_a_process_that_is_not_python() -> None:
    life = life_of(plain(0, C), C, stack=stack)
    assert life.fork_stack is None
    assert life.unseen == {}
    assert reap_call_of(life).stack is None


def test_a_stack_that_is_cut_is_kept() -> None:
    of = stack_of(0, C, StackKind.FORK, 3, problem=StackProblem.CUT)
    life = life_of([fork(0, C), of], C, stack=stack)
    assert life.fork_stack is CUT
    assert life.unseen == {}


def test_the_second_part_of_a_forks_selves_says_nothing_of_the_stack() -> None:
    asked = []

    def counted(number: int, problem: int) -> Optional[Stack]:
        asked.append(number)
        return STACKS.get(number)

    events: list[Event] = [
        fork(0, C),
        stack_of(0, C, StackKind.FORK, 1),
        stack_of(0, C, StackKind.FORK, 2, first=6),
    ]
    assert life_of(events, C, stack=counted).fork_stack is SPAWN
    assert asked == [1]


def test_the_stack_of_a_fork_that_is_not_known() -> None:
    assert lives_of([stack_of(0, C, StackKind.FORK, 1)], stack=stack) == {}


def test_the_stack_of_another_user_of_the_number() -> None:
    other = stack_of(0, C, StackKind.FORK, 1, start_ns=start(C) + 1)
    assert life_of([fork(0, C), other], C, stack=stack).fork_stack is None


REASONS = [
    (StackProblem.NO_THREAD, NO_STACK[StackProblem.NO_THREAD]),
    (StackProblem.UNREADABLE, NO_STACK[StackProblem.UNREADABLE]),
    (StackProblem.UNREGISTERED, NO_STACK[StackProblem.UNREGISTERED]),
    (StackProblem.NONE, UNSEEN_LOST),  # its id came, its record did not
    (StackProblem.LOST, UNSEEN_LOST),
]


@pytest.mark.parametrize(("problem", "why"), REASONS)
def test_why_there_is_no_stack(problem: StackProblem, why: str) -> None:
    birth, *rest = until_reap(0, C)
    life = life_of(
        [
            birth,
            stack_of(0, C, StackKind.FORK, 77, problem=problem),
            *rest,
            stack_of(600, C, StackKind.REAP, 77, problem=problem),
        ],
        C,
        stack=stack,
    )
    assert life.fork_stack is None
    assert reap_call_of(life).stack is None
    assert life.unseen == {"fork_stack": why, "reap_call.stack": why}
    assert reap_call_of(life).syscall == "wait4"  # the rest of the call is there


def test_the_reasons_differ() -> None:
    assert len({*NO_STACK.values(), UNSEEN_LOST}) == 4


def test_the_reader_is_asked_with_the_id_and_the_problem() -> None:
    asked = []

    def noted(number: int, problem: int) -> Optional[Stack]:
        asked.append((number, problem))
        return None

    of = stack_of(0, C, StackKind.FORK, 1 << 63, problem=StackProblem.CUT)
    life_of([fork(0, C), of], C, stack=noted)
    assert asked == [(1 << 63, StackProblem.CUT)]


# reaps


def test_a_reap_without_a_stack_ends_the_life_at_once() -> None:
    lives = machine()
    ended = lives.feed(plain(0, C))
    assert [life.pid for life in ended] == [C]
    assert_empty(lives)


def test_a_reap_with_a_stack_waits_for_it() -> None:
    lives = machine()
    assert lives.feed(until_reap(0, C)) == []
    (life,) = lives.feed([stack_of(600, C, StackKind.REAP, 2)])
    assert reap_call_of(life) == ReapCall("wait4", 0, 560, 40, stack=JOIN)
    assert life.reap_ns == 600
    assert life.reaped_by is ReapedBy.PARENT
    assert life.unseen == {}
    lives.feed([fork(601 + LATE_EVENT_NS, P)])  # what it waited for has come: nothing is given up
    lives.finish()
    assert_empty(lives)


def test_it_is_alive_no_more_while_its_stack_is_due() -> None:
    lives = machine()
    lives.feed([fork(0, C), fork(1, P)])
    assert lives.alive == 2
    lives.feed([exit_(300, C), zombie(400, C)])
    assert lives.alive == 2
    lives.feed([reap(600, C, flags=STACKED)])
    assert lives.alive == 1
    assert [life.pid for life in lives.unfinished] == [P]
    lives.feed([stack_of(600, C, StackKind.REAP, 2)])
    assert lives.alive == 1


def test_the_stack_comes_twice() -> None:
    of = stack_of(600, C, StackKind.REAP, 2)
    assert reap_call_of(life_of([*until_reap(0, C), of, of], C, stack=stack)).stack is JOIN


def test_a_stack_that_does_not_come_is_given_up_in_time() -> None:
    lives = machine()
    lives.feed(until_reap(0, C))
    assert lives.feed([fork(600 + LATE_EVENT_NS, P)]) == []
    (life,) = lives.feed([fork(601 + LATE_EVENT_NS, P + 1)])
    assert life.pid == C
    assert life.unseen == {"reap_call.stack": UNSEEN_LOST}
    assert reap_call_of(life) == ReapCall("wait4", 0, 560, 40)


def test_a_stack_that_has_not_come_by_the_end() -> None:
    lives = machine()
    lives.feed(until_reap(0, C))
    (life,) = lives.finish()
    assert life.unseen == {"reap_call.stack": UNSEEN_LOST}
    assert life.reap_ns == 600
    assert_empty(lives)


def test_a_stack_after_all_was_given_up() -> None:
    lives = machine()
    lives.feed([*until_reap(0, C), fork(601 + LATE_EVENT_NS, P)])
    assert lives.feed([stack_of(600, C, StackKind.REAP, 2)]) == []


def test_only_the_reaps_own_stack_is_waited_for() -> None:
    lives = machine()
    lives.feed(until_reap(0, C))
    others = [
        stack_of(599, C, StackKind.REAP, 2),
        stack_of(600, C, StackKind.WAIT, 2),
        stack_of(600, C, StackKind.BLOCK, 2),
        stack_of(600, C, StackKind.REAP, 2, first=6),
        stack_of(600, C, StackKind.REAP, 2, start_ns=start(C) + 1),
    ]
    assert lives.feed(others) == []
    (life,) = lives.feed([stack_of(600, C, StackKind.REAP, 1)])
    assert reap_call_of(life).stack is SPAWN


def test_the_call_is_not_known_but_its_stack_is() -> None:
    life = life_of(
        [*until_reap(0, C, syscall=-1), stack_of(600, C, StackKind.REAP, 2)], C, stack=stack
    )
    assert reap_call_of(life) == ReapCall(None, None, None, None, stack=JOIN)


# reaps that something else is due for, too


def surprising_reap() -> list[Event]:
    """APP reaps C, whose parent P is dead; who adopted C is told later, or never."""
    return [
        fork(0, P),
        fork(10, C, by=P),
        exit_(20, P),
        zombie(30, P),
        exit_(40, C, parent_pid=P),
        zombie(50, C, parent=P),
        reap(60, C, flags=STACKED),
    ]


@pytest.mark.parametrize("stack_first", [True, False])
def test_an_adoption_and_a_stack_in_either_order(stack_first: bool) -> None:
    due: list[Event] = [reparent(31, P, to=APP), stack_of(60, C, StackKind.REAP, 2)]
    if stack_first:
        due.reverse()
    life = life_of([*surprising_reap(), *due], C, stack=stack)
    assert reap_call_of(life).stack is JOIN
    assert [each.to.pid for each in life.reparents] == [APP]
    assert life.reaped_by is ReapedBy.ADOPTER
    assert life.unseen == {}


@pytest.mark.parametrize(
    ("due", "unseen"),
    [
        ([], {"reparents", "reap_call.stack"}),
        ([stack_of(60, C, StackKind.REAP, 2)], {"reparents"}),
        ([reparent(31, P, to=APP)], {"reap_call.stack"}),
    ],
)
def test_one_of_both_does_not_come(due: list[Event], unseen: set[str]) -> None:
    life = life_of([*surprising_reap(), *due], C, stack=stack)
    assert set(life.unseen) == unseen
    assert life.reaped_by is ReapedBy.ADOPTER
    assert (reap_call_of(life).stack is None) == ("reap_call.stack" in unseen)


def test_the_kernel_that_releases_a_child_has_no_stack() -> None:
    lives = machine()
    (life,) = lives.feed([fork(0, C), exit_(300, C), autoreap(310, C)])
    assert life.reap_call is None
    assert life.unseen == {}


def test_a_late_bound_has_no_stack() -> None:
    lives = machine()
    (life,) = lives.feed([fork(0, C), exit_(300, C), zombie(310, C), freed(400, C)])
    assert life.reap_call is None
    assert "reap_call" in life.unseen


# reapers that are not followed


def why(pid: int) -> Optional[str]:
    return "this Python is not followed" if pid == APP else None


def test_an_outsider_may_have_a_stack_that_is_not_known() -> None:
    life = life_of(plain(0, C), C, outsider=why)
    assert life.unseen == {"reap_call.stack": "this Python is not followed"}
    assert reap_call_of(life) == ReapCall("wait4", 0, 560, 40)


def test_an_outsider_that_has_none() -> None:
    assert life_of(plain(0, C, by=1), C, outsider=why).unseen == {}


def test_who_is_followed_is_no_outsider() -> None:
    asked = []

    def noted(pid: int) -> Optional[str]:
        asked.append(pid)
        return why(pid)

    lives = lives_of([fork(0, P), *plain(10, C, by=P), *plain(1000, P + 1)], outsider=noted)
    assert asked == [APP]
    assert lives[C].unseen == {}


def test_an_outsider_that_the_probes_know() -> None:
    """A process with a stack of its own is not asked for."""
    events = [*until_reap(0, C), stack_of(600, C, StackKind.REAP, 2)]
    assert life_of(events, C, stack=stack, outsider=why).unseen == {}


def test_nobody_is_asked_where_the_kernel_reaps() -> None:
    events: list[Event] = [fork(0, C), exit_(300, C), autoreap(310, C)]
    assert life_of(events, C, outsider=lambda pid: "asked").unseen == {}


# what is of joins, and not of lives


def test_waits_and_blocks_are_taken_and_change_nothing() -> None:
    block = Block(150, start(APP), APP, 250, 2, -1, APP, 7, 0, (0, 0, 0))
    birth, *rest = plain(0, C)
    of = stack_of(140, APP, StackKind.WAIT, 2)
    with_them = life_of([birth, wait(140, APP), of, block, *rest], C, stack=stack)
    assert with_them == life_of(plain(0, C), C)


# zombies that last


def test_zombies_are_told_of_once_and_while_they_last() -> None:
    lives = machine()
    lives.feed([fork(0, P), fork(1, C), exit_(10, P), zombie(20, P)])
    lives.feed([exit_(30, C), zombie(40, C)])
    assert lives.zombies_since(20) == []
    assert [life.pid for life in lives.zombies_since(21)] == [P]
    assert lives.zombies_since(21) == []
    lives.feed([reap(50, C)])
    assert lives.zombies_since(S) == []


def test_no_stack_by_default() -> None:
    life = life_of([fork(0, C), stack_of(0, C, StackKind.FORK, 1)], C)
    assert life.fork_stack is None
    assert life.unseen == {"fork_stack": UNSEEN_LOST}
    assert isinstance(fork(0, C), Fork)


def test_the_watcher_is_given_all_of_a_process_that_a_scan_found() -> None:
    """Also if its fork came before, and announced no stack: its parent was not known yet."""

    class Watcher:
        waiting: Mapping[int, object] = MappingProxyType({})

        def __init__(self) -> None:
            self.taken: list[type[Event]] = []

        def take(self, event: Event) -> None:
            self.taken.append(type(event))

    found = Snapshot(2, start(C), C, start(P), 0, P, P, 17, 1, C, 0, 0, C, "python3")
    events: list[Event] = [exec_(3, C), exit_(4, C), autoreap(5, C, P)]
    expected = [Snapshot, Exec, Exit, Reap]
    for before in ([], [fork(1, C, P)]):
        watcher = Watcher()
        lives_of([*before, found, *events], watcher=watcher)
        assert watcher.taken == expected, before
