# SPDX-License-Identifier: Apache-2.0
"""Random families: however the CPUs interleave the events, the same lives come out.

The order is not arbitrary. One context (a thread) sends in its own order; a child
sends nothing before its fork; what is sent under tasklist_lock (an exact zombie,
an exact reparent, a reap) has one order on the whole machine. All else, and what
is sent at a last sched_switch above all, may come earlier or later.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple, Optional

import pytest

from tests.unit.event_builders import (
    APP,
    autoreap,
    exit_,
    fields_of,
    fork,
    lives_of,
    program,
    reap,
    reparent,
    zombie,
)
from zombiebpf.model.events import Event, ZombieHook
from zombiebpf.model.life import ReapedBy


class Sent(NamedTuple):
    event: Event
    after: frozenset[int]  # the numbers of what was surely sent before


class Truth(NamedTuple):
    """What the family knows of one of its own."""

    reaped_by: Optional[ReapedBy]
    adoptions: tuple[tuple[int, bool], ...]  # by whom; while it was seen to be a zombie


class Person:
    def __init__(self, pid: int, parent: int, subreaper: bool) -> None:
        self.pid = pid
        self.parent = parent
        self.subreaper = subreaper
        self.state = "alive"
        self.zombie_seen = False
        self.adoptions: list[tuple[int, bool]] = []
        self.reaped_by: Optional[ReapedBy] = None


class Family:
    """Processes that fork, exec, die and are reaped at random. APP is a subreaper, too."""

    def __init__(self, seed: int, steps: int = 40) -> None:
        self.chance = random.Random(seed)
        self.sent: list[Sent] = []
        self._now = 1000
        self._context: dict[int, int] = {}  # thread -> number of what it sent last
        self._lock: Optional[int] = None  # number of what was sent last under tasklist_lock
        self._before: dict[int, set[int]] = {}  # process -> what precedes its giving away;
        # -process -> what precedes its reap
        self.people: dict[int, Person] = {}
        self._fork(APP)
        for _ in range(steps):
            self._step()

    def truth(self) -> dict[int, Truth]:
        return {
            pid: Truth(each.reaped_by, tuple(each.adoptions)) for pid, each in self.people.items()
        }

    def _send(
        self, event: Event, context: int, locked: bool = False, after: Iterable[int] = ()
    ) -> int:
        number = len(self.sent)
        before = set(after)
        if context in self._context:
            before.add(self._context[context])
        if locked:
            if self._lock is not None:
                before.add(self._lock)
            self._lock = number
        self._context[context] = number
        self.sent.append(Sent(event, frozenset(before)))
        return number

    def _tick(self) -> int:
        self._now += self.chance.randrange(1, 3000)
        return self._now

    def _step(self) -> None:
        alive = [each.pid for each in self.people.values() if each.state == "alive"]
        dead = [each.pid for each in self.people.values() if each.state == "zombie"]
        dice = self.chance.random()
        if dead and (dice < 0.3 or not alive):
            self._reap(self.chance.choice(dead))
        elif dice < 0.55 and len(self.people) < 14:
            self._fork(self.chance.choice([*alive, APP]))
        elif alive and dice < 0.65:
            pid = self.chance.choice(alive)
            for event in program(self._tick(), pid, b"/bin/p%d" % self._now, b"x" * 70):
                self._send(event, pid)
        elif alive:
            self._die(self.chance.choice(alive))

    def _fork(self, by: int) -> None:
        pid = 20 + len(self.people)
        number = self._send(fork(self._tick(), pid, by), by)
        self._context[pid] = number
        self.people[pid] = Person(pid, by, self.chance.random() < 0.3)

    def _die(self, pid: int) -> None:
        person, signalled = self.people[pid], self.chance.random() < 0.6
        autoreaped = not signalled and self.chance.random() < 0.5
        person.state = "zombie"
        children = [each for each in self.people.values() if each.parent == pid]
        to = person.parent
        while to != APP and not self.people[to].subreaper:
            to = self.people[to].parent
        self._send(exit_(self._tick(), pid, parent_pid=person.parent), pid)
        gone = [each for each in children if each.state != "gone"]
        for child in gone:
            child.adoptions.append((to, child.zombie_seen))
            child.parent = to
        # each of these read who the parent is: it has not given its children away yet
        before_parents_end = self._before.setdefault(person.parent, set())
        if autoreaped:
            event = autoreap(self._tick(), pid, parent=person.parent)
            before_parents_end.add(self._send(event, pid, locked=True))
            person.state, person.reaped_by = "gone", ReapedBy.KERNEL
        elif signalled or self.chance.random() < 0.7:  # else it is reaped before its last switch
            hook = ZombieHook.SIGNAL_GENERATE if signalled else ZombieHook.LATE
            number = self._send(
                zombie(self._tick(), pid, person.parent, hook=hook), pid, locked=signalled
            )
            person.zombie_seen = True
            before_parents_end.add(number)
            self._before.setdefault(-pid, set()).add(number)  # and its reap
        if gone:
            adoption = reparent(self._tick(), pid, to, exact=signalled)
            earlier = self._before.get(pid, set())
            number = self._send(adoption, pid, locked=signalled, after=earlier)
            # who adopts was read while it lived
            self._before.setdefault(to, set()).add(number)

    def _reap(self, pid: int) -> None:
        person = self.people[pid]
        by = person.parent
        if by != APP and self.people[by].state != "alive":
            return
        person.state = "gone"
        person.reaped_by = ReapedBy.ADOPTER if person.adoptions else ReapedBy.PARENT
        self._send(reap(self._tick(), pid, by), by, locked=True, after=self._before.get(-pid, ()))


def interleaved(sent: list[Sent], chance: random.Random, window: int) -> list[Event]:
    """Another order that the machine could have sent them in; none overtakes more than `window`."""
    left = dict(enumerate(sent))
    order = []
    while left:
        near = list(left)[: window + 1]
        number = chance.choice([each for each in near if not left[each].after & left.keys()])
        order.append(left.pop(number).event)
    return order


SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_family_is_seen_as_it_was(seed: int) -> None:
    family = Family(seed)
    lives = lives_of(each.event for each in family.sent)
    seen = {
        pid: Truth(
            life.reaped_by,
            tuple((each.to.pid, each.while_zombie) for each in life.reparents),
        )
        for pid, life in lives.items()
    }
    assert seen == family.truth()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_makes_no_difference(seed: int) -> None:
    family = Family(seed)
    chance = random.Random(seed + 1000)
    expected = fields_of(lives_of(each.event for each in family.sent))
    orders = set()
    for window in (1, 1, 3, 10, 10, 1000, 1000, 1000):
        events = interleaved(family.sent, chance, window)
        assert len(events) == len(family.sent)
        orders.add(tuple(events))
        batch = chance.choice([0, 1, 3])
        assert fields_of(lives_of(events, batch)) == expected, f"window {window}: {events}"
    assert len(orders) > 1


@pytest.mark.parametrize("seed", SEEDS)
def test_any_two_neighbours_that_may_change_places(seed: int) -> None:
    family = Family(seed, steps=25)
    expected = fields_of(lives_of(each.event for each in family.sent))
    for at in range(1, len(family.sent)):
        if at - 1 in family.sent[at].after:
            continue
        events = [each.event for each in family.sent]
        events[at - 1 : at + 1] = reversed(events[at - 1 : at + 1])
        assert fields_of(lives_of(events)) == expected, events[at - 1 : at + 1]


def test_the_families_have_all_that_can_happen() -> None:
    families = [Family(seed) for seed in SEEDS]
    everyone = [person for family in families for person in family.people.values()]
    assert {person.reaped_by for person in everyone} >= {
        None,
        ReapedBy.PARENT,
        ReapedBy.ADOPTER,
        ReapedBy.KERNEL,
    }
    assert {len(person.adoptions) for person in everyone} >= {0, 1, 2}
    assert {dead for person in everyone for _, dead in person.adoptions} == {True, False}
