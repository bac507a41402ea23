# SPDX-License-Identifier: Apache-2.0
"""Short tables of events -> lives: how processes are born, run, die and are reaped."""

from __future__ import annotations

import pytest

from tests.unit.event_builders import (
    APP,
    DUMPED,
    EXITED_3,
    KILLED,
    MS,
    PIDNS,
    S,
    as_fields,
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
    program,
    reap,
    reparent,
    start,
    wait,
    zombie,
)
from zombiebpf.lifecycle.builder import UNSEEN_LOST, UNSEEN_REAP
from zombiebpf.lifecycle.lifecycle import UNSEEN_ZOMBIE
from zombiebpf.model.events import Event, Exit, ReapFlags, ZombieHook
from zombiebpf.model.life import (
    Actor,
    Execution,
    Life,
    PidNamespace,
    ReapCall,
    ReapedBy,
    State,
)

P = 20


def test_a_whole_life() -> None:
    events: list[Event] = [
        fork(100, P, cgroup_id=77, ns_pid=3, pidns=5),
        *program(200, P, b"/bin/sleep", b"1"),
        exit_(500, P, EXITED_3, comm="sleep"),
        zombie(600, P, code=EXITED_3),
        wait(620, APP),
        reap(700, P, code=EXITED_3, wait_ns=450, options=1),
    ]
    life = life_of(events, P, cgroup_path={77: "/user.slice"}.get)
    assert as_fields(life) == as_fields(
        Life(
            pid=P,
            start_ns=start(P),
            comm="sleep",
            argv=("/bin/sleep", "1"),
            pidns=PidNamespace(5, 3),
            cgroup="/user.slice",
            forker=Actor(APP, APP, "p10"),
            fork_ns=100,
            execs=(Execution(200, "/bin/sleep"),),
            exit_ns=500,
            zombie_ns=600,
            reap_ns=700,
            wait_status=EXITED_3,
            reaper=Actor(APP, APP, "p10"),
            reaped_by=ReapedBy.PARENT,
            reap_call=ReapCall("wait4", 1, 450, 250),
        )
    )
    assert type(life) is Life
    assert (life.state, life.zombie_interval_ns, life.reap_latency_ns) == (State.REAPED, 100, 200)


def test_a_life_is_given_once_it_is_over_and_once_only() -> None:
    machine = lifecycle()
    *before, last = plain(100, P)
    for event in before:
        assert machine.feed([event]) == []
        assert machine.alive == 1
        assert [life.pid for life in machine.unfinished] == [P]
    (life,) = machine.feed([last])
    assert life.reap_ns == 700
    assert_empty(machine)
    assert machine.feed([]) == []
    assert machine.finish() == []


def test_lives_that_are_not_over() -> None:
    machine = lifecycle()
    assert machine.feed([fork(100, 21), fork(110, 22), exit_(200, 22), zombie(210, 22)]) == []
    assert [life.pid for life in machine.unfinished] == [21, 22]
    running, dead = machine.finish()
    assert (running.pid, running.state, running.exit_ns) == (21, State.RUNNING, None)
    assert (dead.pid, dead.state, dead.zombie_ns) == (22, State.ZOMBIE, 210)
    assert (dead.reaped_by, dead.reaper, dead.reap_call) == (None, None, None)
    assert dict(running.unseen) == dict(dead.unseen) == {}
    assert_empty(machine)


def test_events_of_processes_that_are_not_followed() -> None:
    strange: list[Event] = [
        *program(10, 99, b"/bin/true"),
        exec_(11, 99, old_tid=98),
        exit_(20, 99),
        zombie(30, 99),
        reparent(31, 99, to=1),
        wait(35, 99),
        reap(40, 99),
        freed(50, 99),
    ]
    assert lives_of(strange) == {}
    with_plain = lives_of([*strange, *plain(100, P), *strange])
    assert {pid: as_fields(life) for pid, life in with_plain.items()} == {
        P: as_fields(life_of(plain(100, P), P))
    }


# zombies


def test_a_late_zombie() -> None:
    events: list[Event] = [
        fork(100, P),
        exit_(200, P),
        zombie(300, P, hook=ZombieHook.LATE),
        reap(400, P),
    ]
    life = life_of(events, P)
    assert (life.zombie_ns, life.zombie_exact, life.zombie_interval_ns) == (300, False, 100)
    assert life_of(plain(100, P), P).zombie_exact


def test_a_late_zombie_that_comes_behind_its_reap() -> None:
    machine = lifecycle()
    assert machine.feed([fork(100, P), exit_(200, P), reap(400, P)]) == []
    assert machine.alive == 0
    machine.feed([zombie(390, P, hook=ZombieHook.LATE)])
    (life,) = machine.finish()
    assert (life.zombie_ns, life.zombie_exact, dict(life.unseen)) == (390, False, {})


def test_a_zombie_that_is_not_seen() -> None:
    machine = lifecycle(late_event_ns=MS)
    assert machine.feed([fork(100, P, exit_signal=0), exit_(200, P), reap(400, P)]) == []
    assert machine.feed([fork(400 + MS, 30)]) == []
    (life,) = machine.feed([fork(401 + MS, 31)])
    assert (life.pid, life.state, life.zombie_ns) == (P, State.REAPED, None)
    assert (life.reap_latency_ns, life.zombie_interval_ns) == (200, None)
    assert dict(life.unseen) == {"zombie_ns": UNSEEN_ZOMBIE}
    assert life.reaped_by is ReapedBy.PARENT


# reapers


@pytest.mark.parametrize("seen", [P, 0], ids=["visible", "of another PID namespace"])
def test_an_autoreap(seen: int) -> None:
    events: list[Event] = [
        fork(100, P),
        exit_(200, P),
        autoreap(300, P, reaper_start_ns=start(P))._replace(reaper_pid=seen),
    ]
    (life,) = lifecycle().feed(events)  # at once: there is nothing to wait for
    assert (life.zombie_ns, life.reaped_by) == (None, ReapedBy.KERNEL)
    assert (life.reaper, life.reap_call) == (None, None)
    assert (life.state, life.reap_latency_ns) == (State.REAPED, 100)
    assert dict(life.unseen) == {}


@pytest.mark.parametrize("seen", [P, 0], ids=["visible", "of another PID namespace"])
def test_the_signal_before_an_autoreap_is_no_zombie(seen: int) -> None:
    # SA_NOCLDWAIT: the signal is sent, and then the child is released all the same
    released = autoreap(300, P)._replace(reaper_pid=seen)
    events: list[Event] = [fork(100, P), exit_(200, P), zombie(250, P), released]
    life = life_of(events, P)
    assert (life.zombie_ns, life.reaped_by, dict(life.unseen)) == (None, ReapedBy.KERNEL, {})


def test_a_zombie_that_its_dying_parent_releases() -> None:
    # its adopter ignores SIGCHLD: forget_original_parent() releases it
    events: list[Event] = [
        fork(100, P),
        fork(110, 30, by=P),
        exit_(200, 30),
        zombie(210, 30, parent=P),
        exit_(300, P),
        autoreap(310, 30, parent=APP, reaper_start_ns=start(P))._replace(reaper_pid=P),
        reparent(320, P, to=APP),
    ]
    life = life_of(events, 30)
    assert (life.zombie_ns, life.reap_ns) == (210, 310)
    assert (life.reaped_by, life.reaper) == (ReapedBy.KERNEL, None)
    assert [(each.to.pid, each.while_zombie) for each in life.reparents] == [(APP, True)]
    assert dict(life.unseen) == {}


def test_a_zombie_that_an_invisible_dying_parent_releases() -> None:
    # the parent lies in a PID namespace that the observer cannot see: it, too, has PID 0
    released = autoreap(310, P, parent=0, reaper_start_ns=start(99))._replace(reaper_pid=0)
    events: list[Event] = [fork(100, P, by=0), exit_(200, P), zombie(210, P, parent=0), released]
    life = life_of(events, P)
    assert (life.zombie_ns, life.reaped_by) == (210, ReapedBy.KERNEL)


def test_a_late_switch_after_an_autoreap_is_no_zombie() -> None:
    machine = lifecycle()
    events: list[Event] = [fork(100, 30, by=P), exit_(200, 30), autoreap(300, 30, parent=APP)]
    assert machine.feed(events) == []  # its adoption by APP has not come yet
    machine.feed([zombie(310, 30, hook=ZombieHook.LATE), reparent(320, P, to=APP)])
    (life,) = machine.finish()
    assert (life.zombie_ns, life.reaped_by) == (None, ReapedBy.KERNEL)
    assert dict(life.unseen) == {}


def test_a_tracer_reaps() -> None:
    events = [*plain(100, P)[:3], reap(700, P, by=50, parent_pid=APP, flags=ReapFlags(0))]
    life = life_of(events, P)
    assert (life.reaped_by, life.reaper) == (ReapedBy.TRACER, Actor(50, 50, "p50"))
    assert life.reparents == ()


def test_another_thread_of_the_parent_reaps() -> None:
    events = [*plain(100, P)[:3], reap(700, P, reaper_tid=12)]
    life = life_of(events, P)
    assert (life.reaped_by, life.reaper) == (ReapedBy.PARENT, Actor(APP, 12, "p10"))


def test_a_child_of_its_forkers_parent() -> None:
    # CLONE_PARENT
    events = [
        fork(100, P),
        fork(200, 30, by=P, parent_pid=APP, parent_tid=APP),
        *plain(200, 30)[1:],
    ]
    life = life_of(events, 30)
    assert (life.forker, life.reaped_by) == (Actor(P, P, "p20"), ReapedBy.PARENT)
    assert dict(life.unseen) == {}


@pytest.mark.parametrize(
    ("given", "call"),
    [
        ({"wait_ns": 650, "options": 1}, ReapCall("wait4", 1, 650, 50)),
        ({"syscall": 247, "wait_ns": 650, "options": 5}, ReapCall("waitid", 5, 650, 50)),
        ({"wait_ns": 0}, ReapCall("wait4", 0, None, None)),
        ({"syscall": 247, "wait_ns": 0, "options": 5}, ReapCall("waitid", 5, None, None)),
        ({"syscall": 0, "wait_ns": 0}, ReapCall("syscall_0", None, None, None)),
        (
            {"syscall": 426, "wait_ns": 0, "options": -1},
            ReapCall("io_uring_enter", None, None, None),
        ),
        ({"syscall": 999, "wait_ns": 0, "options": -1}, ReapCall("syscall_999", None, None, None)),
    ],
    ids=["wait4", "waitid", "wait not seen", "waitid not seen", "0", "io_uring", "no name"],
)
def test_the_call_of_the_reap(given: dict[str, int], call: ReapCall) -> None:
    events = [*plain(100, P)[:3], reap(700, P, **given)]
    assert life_of(events, P).reap_call == call


def test_the_call_of_a_reap_that_cannot_be_read() -> None:
    unread = reap(700, P, syscall=-1, wait_ns=0, options=-1)
    life = life_of([*plain(100, P)[:3], unread], P)
    assert life.reap_call is None
    assert "registers" in life.unseen["reap_call"]


def test_a_process_that_was_freed_without_a_reap() -> None:
    events = [*plain(100, P, code=KILLED)[:3], freed(16 * MS, P, code=KILLED)]
    (life,) = lifecycle().feed(events)
    assert (life.reap_ns, life.reap_exact, life.state) == (16 * MS, False, State.REAPED)
    assert (life.reaped_by, life.reaper, life.reap_call) == (ReapedBy.UNSEEN, None, None)
    assert dict(life.unseen) == {"reaper": UNSEEN_REAP, "reap_call": UNSEEN_REAP}
    assert life.signal == 9


def test_a_process_that_was_freed_is_alive_no_more() -> None:
    machine = lifecycle()
    machine.feed([fork(100, P), fork(110, 30), fork(120, 31), freed(16 * MS, P)])
    assert machine.alive == 2


def test_a_free_behind_the_reap_tells_nothing_new() -> None:
    machine = lifecycle()
    (life,) = machine.feed([*plain(100, P), freed(16 * MS, P)])
    assert (life.reap_ns, life.reap_exact, life.reaped_by) == (700, True, ReapedBy.PARENT)
    assert machine.finish() == []
    waiting: list[Event] = [
        fork(100, P),
        exit_(200, P),
        reap(400, P),
        freed(16 * MS, P),
    ]  # for its zombie
    life = life_of(waiting, P)
    assert (life.reap_ns, life.reap_exact) == (400, True)


def test_a_release_that_was_told_when_it_was_over() -> None:
    flags = ReapFlags.EXITING | ReapFlags.LATE
    life = life_of([*plain(100, P)[:2], autoreap(700, P, flags=flags)], P)
    assert (life.reap_ns, life.reap_exact, life.reaped_by) == (700, False, ReapedBy.KERNEL)
    exact = life_of([*plain(100, P)[:2], autoreap(700, P)], P)
    assert (exact.reap_exact, exact.reaped_by) == (True, ReapedBy.KERNEL)


def test_an_exit_that_was_lost() -> None:
    events = [each for each in plain(100, P, code=DUMPED) if not isinstance(each, Exit)]
    life = life_of(events, P)
    assert (life.exit_ns, life.reap_latency_ns, life.core_dumped) == (None, None, True)
    assert dict(life.unseen) == {"exit_ns": UNSEEN_LOST}


# identity


def test_a_pid_that_is_used_again() -> None:
    first, second = start(P), start(P) + 1000
    events: list[Event] = [
        fork(100, P),
        exit_(200, P, EXITED_3),
        reap(300, P, code=EXITED_3),  # its zombie has not come yet
        fork(400, P, start_ns=second),
        exec_(450, P, start_ns=second, comm="second"),
        zombie(290, P, code=EXITED_3, hook=ZombieHook.LATE),
        exit_(500, P, KILLED, start_ns=second, comm="second"),
        zombie(510, P, code=KILLED, start_ns=second),
        reap(520, P, code=KILLED, start_ns=second),
    ]
    machine = lifecycle()
    lives = {life.start_ns: life for life in [*machine.feed(events), *machine.finish()]}
    assert_empty(machine)
    assert set(lives) == {first, second}
    one, two = lives[first], lives[second]
    assert (one.fork_ns, one.exit_ns, one.zombie_ns, one.reap_ns) == (100, 200, 290, 300)
    assert (one.exit_status, one.execs) == (3, ())
    assert (two.fork_ns, two.exit_ns, two.zombie_ns, two.reap_ns) == (400, 500, 510, 520)
    assert (two.signal, two.comm) == (9, "second")


def test_processes_that_the_observer_cannot_see_share_pid_0() -> None:
    events: list[Event] = []
    for number in range(7):
        given = {"start_ns": 1000 + number}
        events += [fork(100 + number, 0, ns_pid=5, **given), exit_(200 + number, 0, **given)]
        events += [zombie(300 + number, 0, **given), reap(400 + number, 0, **given)]
    lives = lifecycle().feed(events)
    assert [(life.start_ns, life.reap_ns) for life in lives] == [
        (1000 + number, 400 + number) for number in range(7)
    ]


# memory


def test_nothing_is_kept_of_lives_that_are_over() -> None:
    machine = lifecycle(late_event_ns=MS)
    seen = 0
    for number in range(0, 20_000, 2):
        at, pid = number * 1000, 100 + number % 3000
        given = {"start_ns": number}
        child = {"start_ns": number + 1, "forker_start_ns": number}
        seen += len(
            machine.feed(
                [
                    fork(at, pid, **given),
                    fork(at + 10, pid + 1, by=pid, **child),
                    exit_(at + 20, pid, **given),
                    zombie(at + 30, pid, **given),
                    reparent(at + 31, pid, to=APP, **given),
                    reap(at + 40, pid, **given),
                    exit_(at + 50, pid + 1, start_ns=number + 1),
                    reap(at + 60, pid + 1, start_ns=number + 1),  # zombie not seen: kept a while
                ]
            )
        )
        assert machine.alive == 0
    assert seen > 18_000
    assert seen + len(machine.finish()) == 20_000
    assert_empty(machine)


def test_the_default_grace_is_a_second() -> None:
    machine = lifecycle()
    machine.feed([fork(100, P), exit_(200, P), reap(400, P)])
    assert machine.feed([fork(400 + S, 30)]) == []
    assert [life.pid for life in machine.feed([fork(401 + S, 31)])] == [P]


def test_the_namespace_of_a_child() -> None:
    assert life_of(plain(100, P), P).pidns == PidNamespace(PIDNS, P)
    assert life_of(plain(100, P), P).cgroup is None
