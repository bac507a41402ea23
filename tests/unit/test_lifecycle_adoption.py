# SPDX-License-Identifier: Apache-2.0
"""Short tables of events -> lives: whose child a process is, and when that changed."""

from __future__ import annotations

import pytest

from tests.unit.event_builders import (
    MS,
    as_fields,
    exec_,
    exit_,
    fork,
    life_of,
    lifecycle,
    lives_of,
    reap,
    reparent,
    start,
    zombie,
)
from zombiebpf.model.events import Event
from zombiebpf.model.life import Actor, AdopterKind, Life, ReapedBy, Reparenting

P, C = 20, 30  # a parent that dies, and its child
SHEPHERD = 50  # a subreaper

Row = tuple[int, int, int, AdopterKind, bool]


def adoptions(life: Life) -> list[Row]:
    """(ns, from, to, kind, while a zombie)."""
    return [
        (each.ns, each.from_.pid, each.to.pid, each.kind, each.while_zombie)
        for each in life.reparents
    ]


def family() -> list[Event]:
    return [fork(100, P), fork(110, C, by=P)]


def test_adopted_alive() -> None:
    events = [
        *family(),
        exit_(200, P),
        zombie(210, P),
        reparent(211, P, to=SHEPHERD),
        exit_(300, C),
        zombie(310, C, parent=SHEPHERD),
        reap(320, C, by=SHEPHERD),
        reap(400, P),
    ]
    lives = lives_of(events)
    assert lives[C].reparents == (
        Reparenting(
            211,
            Actor(P, P, "p20"),
            Actor(SHEPHERD, SHEPHERD, "p50"),
            AdopterKind.SUBREAPER,
            False,
            True,
        ),
    )
    assert (lives[C].reaped_by, lives[C].reaper) == (
        ReapedBy.ADOPTER,
        Actor(SHEPHERD, SHEPHERD, "p50"),
    )
    assert lives[C].orphaned
    assert (lives[P].reparents, lives[P].reaped_by) == ((), ReapedBy.PARENT)


def test_adopted_as_a_zombie() -> None:
    events = [
        *family(),
        exit_(200, C),
        zombie(210, C, parent=P),
        exit_(300, P),
        zombie(310, P),
        reparent(311, P, to=1),
        reap(320, C, by=1),
    ]
    life = life_of(events, C)
    assert adoptions(life) == [(311, P, 1, AdopterKind.INIT, True)]
    assert (life.reaped_by, life.zombie_interval_ns) == (ReapedBy.ADOPTER, 110)


def test_an_upper_bound_of_the_time() -> None:
    life = life_of([*family(), reparent(300, P, to=1, exact=False)], C)
    assert [each.exact for each in life.reparents] == [False]


def test_adopted_twice() -> None:
    events = [
        *family(),
        fork(105, SHEPHERD),
        reparent(200, P, to=SHEPHERD),
        exit_(250, C),
        zombie(260, C, parent=SHEPHERD),
        reparent(300, SHEPHERD, to=1),
        reap(400, C, by=1),
    ]
    life = life_of(events, C)
    assert adoptions(life) == [
        (200, P, SHEPHERD, AdopterKind.SUBREAPER, False),
        (300, SHEPHERD, 1, AdopterKind.INIT, True),
    ]
    assert life.reaped_by is ReapedBy.ADOPTER


def test_twice_as_a_zombie() -> None:
    events = [
        *family(),
        exit_(150, C),
        zombie(160, C, parent=P),
        reparent(200, P, to=SHEPHERD),
        reparent(300, SHEPHERD, to=1),
        reap(400, C, by=1),
    ]
    assert [each.while_zombie for each in life_of(events, C).reparents] == [True, True]


def test_to_a_sibling_thread_and_then_to_a_subreaper() -> None:
    events: list[Event] = [
        fork(100, P),
        fork(110, C, by=P, forker_tid=21),
        reparent(200, P, to=P, tid=21, exact=False),
        reparent(300, P, to=SHEPHERD),
        exit_(400, C),
        zombie(410, C, parent=SHEPHERD),
        reap(420, C, by=SHEPHERD),
    ]
    life = life_of(events, C)
    assert adoptions(life) == [
        (200, P, P, AdopterKind.THREAD, False),
        (300, P, SHEPHERD, AdopterKind.SUBREAPER, False),
    ]
    assert life.reparents[0].from_ == Actor(P, 21, "p20")
    assert life.reparents[0].to == Actor(P, P, "p20")
    assert (life.orphaned, life.reaped_by) == (True, ReapedBy.ADOPTER)


def test_to_a_sibling_thread_is_no_orphaning() -> None:
    events: list[Event] = [
        fork(100, P),
        fork(110, C, by=P, forker_tid=21),
        reparent(200, P, to=P, tid=21, adopter_tid=22),
        exit_(400, C),
        zombie(410, C, parent=P, parent_tid=22),
        reap(420, C, by=P, parent_tid=22),
    ]
    life = life_of(events, C)
    assert (life.orphaned, life.reaped_by) == (False, ReapedBy.PARENT)
    assert [each.kind for each in life.reparents] == [AdopterKind.THREAD]
    assert dict(life.unseen) == {}


def test_only_the_dying_threads_children_are_given_away() -> None:
    events: list[Event] = [
        fork(100, P),
        fork(110, C, by=P, forker_tid=21),
        fork(120, 31, by=P, forker_tid=22),
        fork(130, 32, by=P),
        reparent(200, P, to=P, tid=21),
    ]
    lives = lives_of(events)
    assert {pid: len(lives[pid].reparents) for pid in (C, 31, 32)} == {C: 1, 31: 0, 32: 0}


def test_all_children_of_a_thread_at_once() -> None:
    children = range(30, 47)
    events = [fork(100, P), *(fork(110 + pid, pid, by=P) for pid in children)]
    lives = lives_of([*events, reparent(900, P, to=1)])
    assert {len(lives[pid].reparents) for pid in children} == {1}


def test_a_child_that_was_reaped_before_is_not_given_away() -> None:
    events = [
        *family(),
        exit_(200, C),
        reap(220, C, by=P),  # its zombie was not seen: it is kept a while
        reparent(300, P, to=1),
    ]
    life = life_of(events, C)
    assert (life.reparents, life.reaped_by) == ((), ReapedBy.PARENT)
    assert set(life.unseen) == {"zombie_ns"}


def test_a_child_that_was_reaped_before_its_parents_number_was_used_again() -> None:
    second = start(P) + 1000
    events = [
        *family(),
        exit_(200, C),
        reap(220, C, by=P),  # its zombie was not seen: it is kept a while
        reparent(300, P, to=1),
        fork(400, P, start_ns=second),
        fork(410, 31, by=P, forker_start_ns=second),
    ]
    lives = lives_by_start(events)
    assert lives[start(C)].reaped_by is ReapedBy.PARENT
    assert lives[start(31)].reparents == ()


# late and lost


@pytest.mark.parametrize("with_zombie", [True, False])
def test_the_adoption_comes_behind_the_reap(with_zombie: bool) -> None:
    machine = lifecycle(late_event_ns=MS)
    events = [*family(), exit_(200, P), exit_(300, C)]
    if with_zombie:
        events.append(zombie(310, C, parent=SHEPHERD))
    assert machine.feed([*events, reap(320, C, by=SHEPHERD)]) == []
    machine.feed([reparent(330, P, to=SHEPHERD, exact=False)])
    life, *_ = [each for each in machine.finish() if each.pid == C]
    assert adoptions(life) == [(330, P, SHEPHERD, AdopterKind.SUBREAPER, False)]
    assert life.reaped_by is ReapedBy.ADOPTER
    assert set(life.unseen) == (set() if with_zombie else {"zombie_ns"})


def test_the_adoption_to_a_sibling_thread_comes_behind_the_reap() -> None:
    # a thread that is not the last sends no signal: its last switch alone tells of it
    events: list[Event] = [
        fork(100, P),
        fork(110, C, by=P, forker_tid=21),
        exit_(300, C),
        zombie(310, C, parent=P),
        reap(320, C, by=P),
        reparent(330, P, to=P, tid=21, exact=False),
    ]
    life = life_of(events, C)
    assert [each.kind for each in life.reparents] == [AdopterKind.THREAD]
    assert (life.orphaned, life.reaped_by) == (False, ReapedBy.PARENT)


def test_the_adoption_comes_too_late() -> None:
    machine = lifecycle(late_event_ns=MS)
    events = [*family(), exit_(300, C), zombie(310, C, parent=SHEPHERD), reap(320, C, by=SHEPHERD)]
    assert machine.feed(events) == []
    (life,) = machine.feed([fork(321 + MS, 99)])
    assert life.pid == C
    assert life.reparents == ()
    assert life.reaped_by is ReapedBy.ADOPTER  # that much is sure
    assert list(life.unseen) == ["reparents"]
    assert f"PID {SHEPHERD}" in life.unseen["reparents"]
    before = as_fields(life)
    machine.feed([reparent(322 + MS, P, to=SHEPHERD)])
    assert as_fields(life) == before


@pytest.mark.parametrize("sent", [True, False], ids=["unresolved", "lost"])
def test_an_adoption_that_is_not_seen(sent: bool) -> None:
    nobody = reparent(200, P, to=0, resolved=False, adopter_start_ns=0)
    events = [
        *family(),
        exit_(190, P),
        *([nobody] if sent else []),
        exit_(300, C),
        zombie(310, C, parent=1),
        reap(320, C, by=1),
    ]
    life = life_of(events, C)
    assert (life.reparents, life.reaped_by) == ((), ReapedBy.ADOPTER)
    assert list(life.unseen) == ["reparents"]
    assert "PID 1;" in life.unseen["reparents"]


def test_the_second_adoption_is_not_seen() -> None:
    events = [
        *family(),
        reparent(200, P, to=SHEPHERD),
        exit_(300, C),
        zombie(310, C, parent=1),
        reap(320, C, by=1),
    ]
    life = life_of(events, C)
    assert [each.to.pid for each in life.reparents] == [SHEPHERD]
    assert list(life.unseen) == ["reparents"]
    assert life.reaped_by is ReapedBy.ADOPTER


# threads that exec


def test_a_thread_that_execs_takes_its_children_along() -> None:
    events: list[Event] = [
        fork(100, P),
        fork(110, C, by=P, forker_tid=21),
        exec_(200, P, old_tid=21),
        reparent(300, P, to=1),
        exit_(400, C),
        zombie(410, C, parent=1),
        reap(420, C, by=1),
    ]
    life = life_of(events, C)
    assert adoptions(life) == [(300, P, 1, AdopterKind.INIT, False)]
    assert life.reaped_by is ReapedBy.ADOPTER


def test_a_zombie_child_of_a_thread_that_execs() -> None:
    events: list[Event] = [
        fork(100, P),
        fork(110, C, by=P, forker_tid=21),
        exit_(150, C),
        zombie(160, C, parent=P, parent_tid=21),
        exec_(200, P, old_tid=21),
        reparent(300, P, to=1),
        reap(420, C, by=1),
    ]
    assert adoptions(life_of(events, C)) == [(300, P, 1, AdopterKind.INIT, True)]


def test_the_dead_leaders_children_come_back_with_the_exec() -> None:
    # de_thread(): the leader dies, its children go to the thread that execs, which then
    # takes the leader's number
    events = [
        *family(),
        reparent(190, P, to=P, adopter_tid=21),
        exec_(200, P, old_tid=21),
        exit_(400, C),
        zombie(410, C, parent=P),
        reap(420, C, by=P),
    ]
    life = life_of(events, C)
    assert (life.reaped_by, life.orphaned) == (ReapedBy.PARENT, False)
    assert dict(life.unseen) == {}


def test_an_exec_gave_the_dead_leaders_number_to_the_adopter() -> None:
    # the leader's last switch comes late: the adopter that is read has its number by then
    events = [
        *family(),
        exec_(200, P, old_tid=21),
        reparent(210, P, to=P, exact=False),
        exit_(400, C),
        zombie(410, C, parent=P),
        reap(420, C, by=P),
    ]
    life = life_of(events, C)
    (change,) = life.reparents  # by the exec itself, as a late bound; the switch says no more
    assert (change.ns, change.kind, change.while_zombie, change.exact) == (
        200,
        AdopterKind.THREAD,
        False,
        False,
    )
    assert change.from_ == change.to == Actor(P, P, "p10")  # its name before the exec
    assert (life.orphaned, life.reaped_by, dict(life.unseen)) == (False, ReapedBy.PARENT, {})


def test_all_children_of_a_thread_that_execs_and_no_others() -> None:
    events: list[Event] = [
        fork(100, P),
        fork(110, C, by=P, forker_tid=21),
        fork(120, 31, by=P, forker_tid=21),
        fork(130, 32, by=P, forker_tid=22),
        exec_(200, P, old_tid=21),
        reparent(210, P, to=P, tid=22, exact=False),  # it died in the exec
        reparent(300, P, to=1),
    ]
    lives = lives_of(events)
    by_init = (300, P, 1, AdopterKind.INIT, False)
    assert [adoptions(lives[pid]) for pid in (C, 31)] == [[by_init], [by_init]]
    assert adoptions(lives[32]) == [(210, P, P, AdopterKind.THREAD, False), by_init]


def test_an_exec_of_a_thread_that_is_not_known() -> None:
    """It may be any thread but the leader: all their children are the leader's then."""
    events: list[Event] = [
        fork(100, P),
        fork(110, C, by=P, forker_tid=21),
        fork(120, 31, by=P, forker_tid=22),
        fork(130, 32, by=P),
        fork(140, 40, by=SHEPHERD),
        fork(150, 41, by=P, forker_tid=22, forker_start_ns=1),  # of an earlier process
        exit_(160, C),
        zombie(170, C, parent=P, parent_tid=21),
        exec_(200, P)._replace(old_tid=0),
        reparent(300, P, to=1),
        reparent(310, P, to=1, tid=22, start_ns=1),
    ]
    lives = lives_of(events)
    assert adoptions(lives[C]) == [(300, P, 1, AdopterKind.INIT, True)]
    assert adoptions(lives[31]) == [(300, P, 1, AdopterKind.INIT, False)]
    assert adoptions(lives[32])[-1] == (300, P, 1, AdopterKind.INIT, False)
    assert adoptions(lives[40]) == []
    assert adoptions(lives[41]) == [(310, P, 1, AdopterKind.INIT, False)]


def test_an_adopted_process_ends_with_its_reap() -> None:
    machine = lifecycle()
    events = [*family(), reparent(200, P, to=1), exit_(300, C), zombie(310, C, parent=1)]
    assert [each.pid for each in machine.feed([*events, reap(320, C, by=1)])] == [C]


def test_from_one_invisible_parent_to_another() -> None:
    # both have PID 0 for the observer
    events: list[Event] = [
        fork(110, C, by=0, forker_tid=0, forker_start_ns=1),
        reparent(200, 0, to=0, start_ns=1, adopter_start_ns=2, tid=0, adopter_tid=5),
        exit_(400, C),
        zombie(410, C, parent=0, parent_tid=5),
        reap(420, C, by=0, parent_tid=5),
    ]
    life = life_of(events, C)
    assert [each.kind for each in life.reparents] == [AdopterKind.SUBREAPER]
    assert life.reaped_by is ReapedBy.ADOPTER


def test_the_children_of_a_process_that_is_not_followed() -> None:
    # the exec of a stranger moves the children it adopted
    events = [
        *family(),
        reparent(200, P, to=SHEPHERD, adopter_tid=51),
        exec_(210, SHEPHERD, old_tid=51),
        reparent(300, SHEPHERD, to=1),
    ]
    assert [each.to.pid for each in life_of(events, C).reparents] == [SHEPHERD, 1]


# identity


def test_the_children_of_an_earlier_user_of_the_number() -> None:
    """Nobody could tell who adopted C. Then its parent's number is used again."""
    second = start(P) + 1000
    events = [
        *family(),
        exit_(200, P),
        zombie(210, P),
        reparent(211, P, to=0, resolved=False, adopter_start_ns=0),
        reap(220, P),
        fork(1000, P, start_ns=second),
        fork(1100, 31, by=P, forker_start_ns=second),
        exit_(1200, P, start_ns=second),
        reparent(1210, P, to=SHEPHERD, start_ns=second),
        exit_(1300, C),
        zombie(1310, C, parent=1),
        reap(1320, C, by=1),
    ]
    lives = lives_by_start(events)
    assert [each.to.pid for each in lives[start(31)].reparents] == [SHEPHERD]
    assert lives[start(C)].reparents == ()
    assert list(lives[start(C)].unseen) == ["reparents"]


def lives_by_start(events: list[Event]) -> dict[int, Life]:
    machine = lifecycle()
    return {life.start_ns: life for life in [*machine.feed(events), *machine.finish()]}


def test_the_children_of_an_earlier_adopter_of_the_number() -> None:
    events = [
        *family(),
        reparent(200, P, to=SHEPHERD),
        reparent(300, SHEPHERD, to=1, start_ns=start(SHEPHERD) + 1000),
    ]
    assert [each.to.pid for each in life_of(events, C).reparents] == [SHEPHERD]
