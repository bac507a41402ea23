# SPDX-License-Identifier: Apache-2.0
"""Events that come twice or not at all: what is known stays right, what is not says so."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.event_builders import (
    APP,
    EXITED_3,
    as_fields,
    assert_empty,
    autoreap,
    exec_,
    exit_,
    fields_of,
    filename,
    fork,
    freed,
    life_of,
    lifecycle,
    lives_of,
    program,
    reap,
    reparent,
    wait,
    zombie,
)
from zombiebpf.model.events import (
    Event,
    Exec,
    Exit,
    Fork,
    Reap,
    Reparent,
    Text,
    TextKind,
    Wait,
    Zombie,
    ZombieHook,
)
from zombiebpf.model.life import Execution, Life, ReapedBy, State

P, C, D, SHEPHERD = 20, 30, 31, 50


def story() -> list[Event]:
    """P execs twice, C is given to a shepherd, D releases itself; each has its own program."""
    return [
        fork(100, SHEPHERD),
        *program(110, SHEPHERD, b"/bin/shepherd"),
        fork(120, P, by=SHEPHERD),
        *program(200, P, b"/usr/bin/env", b"sh"),
        *program(210, P, b"/bin/sh", b"-c", b"x" * 200),
        fork(300, C, by=P),
        *program(310, C, b"/bin/sleep", b"1"),
        fork(320, D, by=P),
        *program(330, D, b"/bin/true"),
        exit_(400, D),
        autoreap(410, D, parent=P),
        wait(450, SHEPHERD),
        exit_(500, P, EXITED_3),
        zombie(510, P, parent=SHEPHERD, code=EXITED_3),
        reparent(511, P, to=SHEPHERD),
        reap(520, P, by=SHEPHERD, code=EXITED_3),
        exit_(600, C),
        zombie(610, C, parent=SHEPHERD),
        reap(620, C, by=SHEPHERD),
        exit_(700, SHEPHERD),
        zombie(710, SHEPHERD),
        reap(720, SHEPHERD),
    ]


WHOLE = fields_of(lives_of(story()))
NUMBERED = [
    pytest.param(index, id=f"{index}-{type(event).__name__}-{event.pid}")
    for index, event in enumerate(story())
]


def test_the_story_is_whole() -> None:
    assert set(WHOLE) == {P, C, D, SHEPHERD}
    assert all(life["unseen"] == {} for life in WHOLE.values())
    assert {pid: life["reaped_by"] for pid, life in WHOLE.items()} == {
        SHEPHERD: ReapedBy.PARENT,
        P: ReapedBy.PARENT,
        C: ReapedBy.ADOPTER,
        D: ReapedBy.KERNEL,
    }
    kinds = {type(event) for event in story()}
    assert kinds == {Fork, Exec, Text, Exit, Zombie, Reparent, Wait, Reap}


# once too often


# Nothing tells two equal pieces of a text apart; the ring gives each once.
REPEATABLE = [each for each, event in zip(NUMBERED, story()) if not isinstance(event, Text)]


@pytest.mark.parametrize("index", REPEATABLE)
def test_an_event_comes_twice(index: int) -> None:
    events = story()
    again = events[index]
    assert fields_of(lives_of([*events[: index + 1], again, *events[index + 1 :]])) == WHOLE


def test_everything_comes_twice() -> None:
    twice: list[Event] = [
        event for event in story() for _ in range(1 + (not isinstance(event, Text)))
    ]
    assert fields_of(lives_of(twice)) == WHOLE


def test_of_two_exits_the_first_counts() -> None:
    # before sched_process_exit told of the group's death, two threads could both be the last
    events: list[Event] = [
        fork(100, P),
        exit_(200, P, EXITED_3),
        exit_(201, P, tid=21),
        zombie(300, P),
    ]
    life = life_of([*events[:3]], P)
    assert (life.exit_ns, life.exit_status) == (200, 3)
    assert life_of(events, P).exit_ns == 200


def test_of_two_zombies_the_first_counts() -> None:
    late = zombie(350, P, hook=ZombieHook.LATE)
    life = life_of([fork(100, P), exit_(200, P), zombie(300, P), late], P)
    assert (life.zombie_ns, life.zombie_exact) == (300, True)


def test_of_two_reaps_the_first_counts() -> None:
    machine = lifecycle()
    first, second = reap(300, P), reap(310, P, by=50)
    assert machine.feed([fork(100, P), exit_(200, P), first, second]) == []  # no zombie yet
    assert machine.alive == 0
    (life,) = machine.finish()
    assert (life.reap_ns, life.reaper and life.reaper.pid) == (300, APP)
    assert_empty(machine)


@pytest.mark.parametrize("index", [0, 4, 14])
def test_a_fork_comes_again_much_later(index: int) -> None:
    events = story()
    again = events[index]
    end = max(at for at, event in enumerate(events) if event.pid == again.pid)
    told_twice = [*events[:end], again, *events[end:]]
    assert fields_of(lives_of(told_twice)) == WHOLE


# not at all


def without(index: int) -> tuple[Event, dict[int, Life]]:
    events = story()
    lost = events.pop(index)
    return lost, lives_of(events)


@pytest.mark.parametrize("index", NUMBERED)
def test_one_loss_leaves_other_lives_as_they_are(index: int) -> None:
    lost, lives = without(index)
    touched = {C if isinstance(lost, Reparent) else lost.pid}
    for pid, whole in WHOLE.items():
        if pid not in touched:
            assert as_fields(lives[pid]) == whole


def reason(life: Life, name: str) -> str:
    """Why a field is null."""
    value = getattr(life, name)
    assert value is None or value == (), f"{name} is {value!r}"
    assert name in life.unseen, f"{name} is null, and nothing says why"
    return life.unseen[name]


@pytest.mark.parametrize("index", NUMBERED)
def test_one_loss_is_told(index: int) -> None:
    lost, lives = without(index)
    if isinstance(lost, Fork):
        assert lost.pid not in lives
        return
    if isinstance(lost, Wait):
        assert fields_of(lives) == WHOLE
        return
    victim = lives[C if isinstance(lost, Reparent) else lost.pid]
    changed = differences(victim)
    if isinstance(lost, Exit):
        assert {"exit_ns"} <= changed <= {"exit_ns", "comm"}
        assert reason(victim, "exit_ns")
    elif isinstance(lost, Zombie):
        assert changed == {"zombie_ns"}
        assert reason(victim, "zombie_ns")
    elif isinstance(lost, Reparent):
        assert changed == {"reparents"}
        assert f"PID {SHEPHERD}" in reason(victim, "reparents")
    elif isinstance(lost, Reap):
        # it was never seen to be reaped: no more is claimed, but that D lives on
        assert changed <= {"reap_ns", "reaper", "reaped_by", "reap_call", "reparents"}
        assert victim.state is (State.RUNNING if lost.pid == D else State.ZOMBIE)
    elif isinstance(lost, Exec):
        assert changed <= {"execs", "argv"}
        assert victim.unseen["exec"]
        assert_no_mixture(victim)
    elif isinstance(lost, Text):
        assert changed <= {"execs", "argv", "argv_cut"}
        assert_no_mixture(victim)


def differences(life: Life) -> set[str]:
    """The fields that the loss changed, beside the reasons."""
    now, whole = as_fields(life), WHOLE[life.pid]
    return {name for name in whole if now[name] != whole[name]} - {"unseen"}


def assert_no_mixture(life: Life) -> None:
    """Each program that is told of is one that was run."""
    whole: Any = WHOLE[life.pid]["execs"]
    names = {each.ns: each.filename for each in whole}
    for each in life.execs:
        assert each.filename in (names[each.ns], None)
    if life.argv is not None and not life.argv_cut:
        assert life.argv in {
            ("/usr/bin/env", "sh"),
            ("/bin/sh", "-c", "x" * 200),
            ("/bin/sleep", "1"),
            ("/bin/true",),
            ("/bin/shepherd",),
        }


def test_the_text_of_a_lost_exec_is_not_the_one_befores() -> None:
    events = [
        fork(100, P),
        *program(200, P, b"/usr/bin/env", b"sh"),
        *filename(300, P, b"/bin/sh"),  # its Exec was lost
    ]
    assert life_of(events, P).execs == (Execution(200, "/usr/bin/env"),)


def test_arguments_that_never_came() -> None:
    life = life_of([fork(100, P), exec_(200, P), *filename(200, P, b"/bin/sh")], P)
    assert reason(life, "argv")


@pytest.mark.parametrize("piece", range(4))
def test_a_piece_of_the_arguments_is_lost(piece: int) -> None:
    events = [
        fork(100, P),
        *program(200, P, b"/bin/echo", *(b"argument-%03d" % number for number in range(14))),
    ]
    argv = [event for event in events if isinstance(event, Text) and event.kind == TextKind.ARGV]
    assert len(argv) == 4
    events.remove(argv[piece])
    life = life_of(events, P)
    assert life.argv_cut or life.argv is None


def test_a_lost_reap_is_mended_by_the_free() -> None:
    events = [event for event in story() if not (isinstance(event, Reap) and event.pid == C)]
    machine = lifecycle()
    first = machine.feed(events)
    assert C not in {life.pid for life in first}
    (life,) = machine.feed([freed(20_000_000, C, parent=SHEPHERD)])
    assert (life.pid, life.reaped_by, life.reap_exact) == (C, ReapedBy.UNSEEN, False)
    assert reason(life, "reaper")
    assert reason(life, "reap_call")
    assert life.zombie_ns == 610


@pytest.mark.parametrize("kind", [Fork, Exec, Text, Exit, Zombie, Reparent, Wait, Reap])
def test_all_of_one_kind_is_lost(kind: type) -> None:
    lives = lives_of(event for event in story() if not isinstance(event, kind))
    if kind is Fork:
        assert lives == {}
        return
    assert set(lives) == set(WHOLE)
    if kind is Exit:
        assert all(reason(life, "exit_ns") for life in lives.values())
    elif kind is Zombie:
        assert all(reason(lives[pid], "zombie_ns") for pid in (P, C, SHEPHERD))
        assert dict(lives[D].unseen) == {}
    elif kind is Reap:
        assert {life.state for life in lives.values()} == {State.RUNNING, State.ZOMBIE}
        assert all(life.reaped_by is None for life in lives.values())


def test_only_the_end_was_seen() -> None:
    assert lives_of([zombie(100, P), reparent(110, P, to=1), reap(120, P), freed(130, P)]) == {}
    assert lives_of([fork(100, P), reap(200, P, by=APP)])[P].state is State.REAPED


@pytest.mark.parametrize(("exit_signal", "lost"), [(17, True), (10, True), (0, False)])
def test_why_a_zombie_was_not_seen(exit_signal: int, lost: bool) -> None:
    # with a signal to send, its record must have been lost; without, there may have been none
    events: list[Event] = [fork(100, P, exit_signal=exit_signal), exit_(200, P), reap(300, P)]
    assert ("lost" in life_of(events, P).unseen["zombie_ns"]) is lost
