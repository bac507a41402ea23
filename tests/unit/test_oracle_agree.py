# SPDX-License-Identifier: Apache-2.0
"""Two sets of hooks that saw the same processes: any lie of one of them is found."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from tests.oracle import agree
from zombiebpf.model.life import (
    Actor,
    AdopterKind,
    Execution,
    Life,
    ReapCall,
    ReapedBy,
    Reparenting,
)
from zombiebpf.model.stack import Frame, Stack

PARENT, ADOPTER = Actor(10, 10, "parent"), Actor(1, 1, "init")
STACK = Stack((Frame("wait", "/a.py", 1),), None)


def life(**changes: Any) -> Life:
    """Reaped by its parent, on tracepoints."""
    call = ReapCall("wait4", 0, 3000, 2000, stack=STACK)
    made = Life(
        pid=20, start_ns=7, comm="child", forker=PARENT, fork_ns=1000, exit_ns=2000,
        zombie_ns=4000, reap_ns=5000, wait_status=0, reaper=PARENT, reaped_by=ReapedBy.PARENT,
        reap_call=call,
    )  # fmt: skip
    return made._replace(**changes)


def adoption(ns: int = 4500, **changes: Any) -> Reparenting:
    made = Reparenting(ns, PARENT, ADOPTER, AdopterKind.INIT, True, True)
    return made._replace(**changes)


def orphan(**changes: Any) -> Life:
    return life(
        **{
            "reparents": (adoption(),),
            "reaper": ADOPTER,
            "reaped_by": ReapedBy.ADOPTER,
            **changes,
        }
    )


def test_the_same_agrees_and_the_distance_is_measured() -> None:
    found = agree.compare([life()], [life(reap_ns=4400, exit_ns=2500)], True)
    assert found.different == []
    assert found.agreed["reaper"] == found.agreed["reap stack"] == 1
    assert found.apart["reap"] == agree.Apart(1, -0.6, 0.6, 0.6)
    assert found.apart["exit"].median == 0.5
    assert "reap stack" in found.table()


LIES: dict[str, tuple[Callable[[], Life], dict[str, Any]]] = {
    "forker": (life, {"forker": ADOPTER}),
    "execs": (life, {"execs": (Execution(1500, "/bin/true"),)}),
    "wait status": (life, {"wait_status": 9}),
    "exit": (life, {"exit_ns": None}),
    "zombie": (life, {"zombie_ns": None}),
    "zombie exact": (life, {"zombie_exact": False}),
    "reaped by": (life, {"reaped_by": ReapedBy.KERNEL}),
    "reaper": (life, {"reaper": ADOPTER}),
    "reap call": (life, {"reap_call": ReapCall("waitid", 0, None, None, stack=STACK)}),
    "reap stack": (
        life, {"reap_call": ReapCall("wait4", 0, None, None, stack=Stack((), None))},
    ),
    "reap after": (life, {"reap_ns": 5001}),
    "no adoption": (orphan, {"reparents": ()}),
    "adopter": (orphan, {"reparents": (adoption(to=PARENT),)}),
    "adopted as a zombie": (orphan, {"reparents": (adoption(while_zombie=False),)}),
    "adoption after": (orphan, {"reparents": (adoption(4501),)}),
    "kind": (orphan, {"reparents": (adoption(kind=AdopterKind.SUBREAPER),)}),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found(lie: str) -> None:
    make, change = LIES[lie]
    (line,) = agree.compare([make()], [make()._replace(**change)], True).different
    assert line.startswith("pid 20: ")
    assert "\n" not in line


def test_a_life_that_one_has_not_seen_and_one_that_is_there_twice() -> None:
    assert "one only" in agree.compare([life()], [], True).different[0]
    assert "twice" in agree.compare([life()], [life(), life()], True).different[0]


@pytest.mark.parametrize(
    ("fact", "one", "other"),
    [
        ("zombie", {"zombie_exact": False}, {"zombie_ns": None}),
        ("reap", {}, {"reaped_by": ReapedBy.UNSEEN, "reaper": None, "reap_call": None}),
        ("reap stack", {}, {"reap_call": ReapCall("wait4", 0, 3000, 2000)}),
    ],
)
def test_what_one_has_not_seen_and_says_so(
    fact: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    for first, second in ((one, other), (other, one)):
        found = agree.compare([life(**first)], [life(**second)], True)
        assert found.different == []
        assert found.by_one[fact] == 1


def test_a_name_may_lack_what_surrounds_it() -> None:
    whole = Stack((Frame("Outer.<locals>.wait", "/a.py", 1),), None)
    named = life(reap_call=ReapCall("wait4", 0, 3000, 2000, stack=whole))
    assert agree.compare([life()], [named], True).different == []


def test_instants_may_be_in_any_order_where_no_function_surrounds_the_other() -> None:
    assert agree.compare([life()], [life(reap_ns=6000)], False).different == []


def test_a_leader_released_with_its_last_thread_is_told_late() -> None:
    kernel = {"reaped_by": ReapedBy.KERNEL, "zombie_ns": None, "reaper": None, "reap_call": None}
    late = {"reap_ns": 6000, "reap_exact": False}
    found = agree.compare([life(**kernel)], [life(**kernel, **late)], True)
    assert found.different == []
    assert found.apart["reap with a thread"].median == 1.0
    assert agree.compare([life(**kernel)], [life(**kernel, reap_ns=6000)], True).different
    assert agree.compare([life()], [life(**late)], True).different


def test_a_silent_zombie_is_seen_earlier_by_the_function() -> None:
    silent = {"zombie_exact": False}
    good = agree.compare([life(**silent)], [life(**silent, zombie_ns=3900)], True)
    assert good.different == []
    assert good.apart["zombie, no signal"].median == -0.1
    assert agree.compare([life(**silent)], [life(**silent, zombie_ns=4100)], True).different


LACKS: dict[str, tuple[Callable[[], Life], dict[str, Any]]] = {
    "exit": (life, {"exit_ns": None}),
    "execs": (life, {"execs": (Execution(1500, "/bin/true"),)}),
    "wait status": (life, {"wait_status": None}),
    "zombie": (life, {"zombie_ns": None}),
    "adopters": (orphan, {"reparents": ()}),
    "reap call": (life, {"reap_call": None}),
}  # fmt: skip


@pytest.mark.parametrize("fact", LACKS)
def test_a_set_whose_runs_were_left_out_may_lack_something(fact: str) -> None:
    make, change = LACKS[fact]
    one, other = make(), make()._replace(**change)
    assert agree.compare([one], [other], True).different
    for first, second in ((one, other), (other, one)):
        found = agree.compare([first], [second], True, lossy=True)
        assert found.different == []
        assert found.by_one[fact] == 1


def test_it_may_lack_a_life_and_not_tell_one_twice() -> None:
    found = agree.compare([life()], [], True, lossy=True)
    assert (found.different, found.by_one["lives"]) == ([], 1)
    assert agree.compare([life()], [life(), life()], True, lossy=True).different


@pytest.mark.parametrize(
    "lie", sorted(LIES.keys() - LACKS.keys() - {"no adoption", "zombie", "exit"})
)
def test_what_it_tells_must_be_the_same(lie: str) -> None:
    make, change = LIES[lie]
    (line,) = agree.compare([make()], [make()._replace(**change)], True, lossy=True).different
    assert line.startswith("pid 20: ")


def test_the_programs_and_their_instants() -> None:
    one, other = (life(execs=(Execution(ns, "/bin/true"),)) for ns in (1500, 1490))
    found = agree.compare([one], [other], True)
    assert found.different == []
    assert (found.apart["exec"].median, found.apart["fork"].median) == (-0.01, 0)
    wrong = life(execs=(Execution(1490, "/bin/false"),))
    (line,) = agree.compare([one], [wrong], True).different
    assert "program: /bin/true and /bin/false" in line
