# SPDX-License-Identifier: Apache-2.0
"""Tables of events -> joins."""

from __future__ import annotations

import os
from typing import Callable, Optional

import pytest

from tests.unit.join_events import APP, MS, RULES, SYSCALLS, JoinEvents, feed, in_ms
from tests.unit.stack_builders import (
    POLL,
    REAPING_JOIN,
    SELECT,
    STARTING,
    frame,
    stack,
)
from zombiebpf.attribution.joins import children, joins, open_joins
from zombiebpf.attribution.joins.capture import Capture, capture_of, is_popen_sleep
from zombiebpf.attribution.joins.children import Children
from zombiebpf.attribution.joins.joins import Joins
from zombiebpf.model.events import (
    Block,
    Event,
    Exec,
    Fork,
    Reap,
    ReapFlags,
    StackKind,
    StackOf,
    Text,
    TextKind,
)
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import Actor
from zombiebpf.model.stack import Stack

POPEN_WAIT = ("subprocess:Popen._wait", "subprocess:Popen.wait")
ATEXIT = (*REAPING_JOIN, "multiprocessing.util:_exit_function")
IS_ALIVE = (POLL, "multiprocessing.process:BaseProcess.is_alive", "main:15")
POOL_STARTING = (
    *STARTING,
    "multiprocessing.pool:Pool._repopulate_pool_static",
    "multiprocessing.pool:Pool._repopulate_pool",
    "multiprocessing.pool:Pool.__init__",
    "multiprocessing.context:BaseContext.Pool",
    "main:5",
)
POOL_JOIN = ("threading:Thread._wait_for_tstate_lock", "threading:Thread.join",
             "multiprocessing.pool:Pool.join", "main:9")  # fmt: skip
POOL = 0xF00


@pytest.fixture
def it() -> JoinEvents:
    return JoinEvents()


def test_join_blocks_until_the_child_dies(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA, process=0xB)
    it.join_waits(10, 7, popen=0xA, process=0xB)
    it.exit(49, 7)
    it.join_blocked(10.1, 50, popen=0xA)
    it.join_reaps(50.1, 7, wait=10, popen=0xA)
    for batch in (1, 2, 100):
        (join,) = it.joins(batch)
        assert in_ms(join) == ("Process.join", 7, 10, 50.1, "reaped")
        assert (join.pid, join.tid, join.timeout_s, join.by) == (APP, APP, None, None)
        assert (join.children, join.blocked_ns) == ((Child(7, 7),), 39.9 * MS)
        assert join.site == frame("main:9")
        assert join.stack is not None


def test_join_of_a_zombie_does_not_block(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.exit(2, 7)
    it.join_waits(10, 7)
    it.join_reaps(10.1, 7, wait=10)
    assert list(map(in_ms, it.joins())) == [("Process.join", 7, 10, 10.1, "reaped")]
    assert it.joins()[0].blocked_ns is None


def test_join_that_runs_out_of_time_ends_with_its_poll(it: JoinEvents) -> None:
    """No wait call at all: the child is told by its Popen."""
    it.start(1, 7, popen=0xA)
    it.start(2, 8, popen=0xC)
    it.join_polls(10, 60.1, timeout=50, popen=0xA)
    joins = it.machine()
    (join,) = feed(joins, it.events)  # at once
    assert in_ms(join) == ("Process.join(timeout)", 7, 10, 60.1, "timeout")
    assert (join.timeout_s, join.blocked_ns) == (0.05, 50.1 * MS)


def test_join_in_time_is_one_join_of_a_poll_and_a_wait(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.exit(29, 7)
    it.join_polls(10, 30, timeout=50, popen=0xA)
    it.join_waits(30.1, 7, popen=0xA)
    it.join_blocked(30.2, 30.9, popen=0xA)
    it.join_reaps(31, 7, wait=30.1, popen=0xA)
    (join,) = it.joins()
    assert in_ms(join) == ("Process.join(timeout)", 7, 10, 31, "reaped")
    assert (join.timeout_s, join.blocked_ns) == (0.05, 20.7 * MS)
    machine = it.machine()
    feed(machine, it.events)
    assert machine.had_timeout(7, 7)
    assert not machine.had_timeout(8, 8)


def test_join_without_a_timeout_had_none(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.join_waits(10, 7)
    it.join_reaps(11, 7, wait=10)
    machine = it.machine()
    feed(machine, it.events)
    assert not machine.had_timeout(7, 7)


def test_a_child_that_dies_as_the_time_runs_out(it: JoinEvents) -> None:
    """poll() looks once more: the wait that follows belongs to the same join."""
    it.start(1, 7, popen=0xA)
    it.exit(59.5, 7)
    it.join_polls(10, 60.1, timeout=50, popen=0xA)
    it.join_waits(60.2, 7, popen=0xA)
    it.join_reaps(60.3, 7, wait=60.2, popen=0xA)
    assert list(map(in_ms, it.joins())) == [("Process.join(timeout)", 7, 10, 60.3, "reaped")]


def test_a_loop_of_joins_on_one_line_is_as_many_joins(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    for turn in range(5):
        it.join_polls(10 + 20 * turn, 30 + 20 * turn, timeout=20, popen=0xA)
    it.exit(109, 7)
    it.join_polls(110, 110.9, timeout=20, popen=0xA)
    it.join_waits(111, 7, popen=0xA)
    it.join_reaps(111.1, 7, wait=111, popen=0xA)
    joins = it.joins()
    assert [each.returned for each in joins] == ["timeout"] * 5 + ["reaped"]
    assert [(each.began_ns or 0) / MS for each in joins] == [10, 30, 50, 70, 90, 110]


def test_a_loop_over_children_on_one_line(it: JoinEvents) -> None:
    for index, child in enumerate((7, 8, 9)):
        it.start(1 + index, child, popen=0xA0 + index)
    for index in range(3):
        it.join_polls(10 + index, 11.06 + index, timeout=1, popen=0xA0 + index)
    assert [in_ms(each)[1:5:3] for each in it.joins()] == [(7, "timeout"), (8, "timeout"),
                                                          (9, "timeout")]  # fmt: skip


def test_a_signal_interrupts_a_poll_and_the_same_join_goes_on(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.join_polls(10, 30, timeout=50, popen=0xA)  # PEP 475: again with what is left
    it.join_polls(30.2, 40, timeout=30, popen=0xA)
    it.join_polls(40.1, 60.2, timeout=20, popen=0xA)
    (join,) = it.joins()
    assert in_ms(join) == ("Process.join(timeout)", 7, 10, 60.2, "timeout")
    assert join.timeout_s == 0.05


def test_a_handlers_own_wait_is_a_join_within_the_join(it: JoinEvents) -> None:
    handler = ("on_child:3", *REAPING_JOIN, "main:9")
    it.start(1, 7, popen=0xA)
    it.start(2, 8, popen=0xC)
    it.join_waits(10, 7, popen=0xA)
    it.join_blocked(10.1, 20, popen=0xA)
    it.wait(20.1, 8, handler)
    it.reap(20.2, 8, handler, wait=20.1)
    it.join_waits(20.3, 7, popen=0xA)
    it.join_blocked(20.4, 30, popen=0xA)
    it.join_reaps(30.1, 7, wait=20.3, popen=0xA)
    assert list(map(in_ms, it.joins())) == [
        ("signal handler", 8, 20.1, 20.2, "reaped"),
        ("Process.join", 7, 10, 30.1, "reaped"),
    ]


def test_a_handler_takes_the_status_that_its_own_join_waits_for(it: JoinEvents) -> None:
    handler = ("on_child:3", *REAPING_JOIN, "main:9")
    it.start(1, 7, popen=0xA)
    it.join_waits(10, 7, popen=0xA)
    it.exit(19, 7)
    it.join_blocked(10.1, 20, popen=0xA)
    it.reap(20.2, 7, handler, options=1)
    it.join_waits(20.3, 7, popen=0xA)  # ECHILD
    (join,) = it.joins()
    assert in_ms(join) == ("Process.join", 7, 10, 20.3, "stolen")
    assert join.by == Actor(APP, APP, "python3")


def test_another_thread_steals_the_status(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.join_waits(10, 7, popen=0xA)
    it.exit(29, 7)
    it.reap(30, 7, ("thief:3",), options=1, tid=105)
    it.join_blocked(10.1, 30.2, popen=0xA)
    joins = feed(it.machine(), it.events)
    assert list(map(in_ms, joins)) == [("Process.join", 7, 10, 30.2, "stolen")]
    assert joins[0].by == Actor(APP, 105, "python3")


def test_an_earlier_call_of_the_same_object_has_reaped(it: JoinEvents) -> None:
    """Two threads join one Process: the second is told by the first."""
    it.start(1, 7, popen=0xA)
    it.join_waits(10, 7, popen=0xA)
    it.join_waits(11, 7, popen=0xA, tid=105)
    it.exit(29, 7)
    it.join_blocked(11.1, 30, popen=0xA, tid=105)
    it.join_reaps(30, 7, wait=11, popen=0xA, tid=105)
    it.join_blocked(10.1, 30.1, popen=0xA)
    assert [(in_ms(each)[4], each.tid) for each in it.joins()] == [
        ("reaped", 105),
        ("already_reaped", APP),
    ]


def test_the_kernel_released_it(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.join_waits(10, 7, popen=0xA)
    it.exit(29, 7)
    it.reap(30, 7, pid=7, kernel=True)
    it.join_blocked(10.1, 30.2, popen=0xA)
    (join,) = it.joins()
    assert (join.returned, join.by) == ("stolen", None)


def test_an_exception_in_a_handler_ends_a_join(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.join_waits(10, 7, popen=0xA)
    it.join_blocked(10.1, 20, popen=0xA)
    it.block(21, 30, "clock_nanosleep", ("main:15",))
    assert list(map(in_ms, it.joins())) == [("Process.join", 7, 10, 20, "interrupted")]


@pytest.mark.parametrize(
    ("timeout", "lasted", "returned"),
    [
        (100, 60, "interrupted"),
        (100, 89.9, "interrupted"),
        (100, 90, "timeout"),  # 10 % early: it slept on for a time that was not observed
        (5, 3.9, "interrupted"),
        (5, 4, "timeout"),  # 1 ms early: poll() counts in ms
    ],
)
def test_a_join_that_was_left_before_its_time(
    it: JoinEvents, timeout: float, lasted: float, returned: str
) -> None:
    it.start(1, 7, popen=0xA)
    it.join_polls(10, 10 + lasted, timeout=timeout, popen=0xA)
    it.block(200, 210, "clock_nanosleep", ("main:15",))
    (join,) = it.joins()
    assert (join.kind, join.returned) == ("Process.join(timeout)", returned)


@pytest.mark.parametrize(
    ("remaining", "ends"),
    [
        (25, [50]),  # PEP 475: the same call again, with the time that is left
        (27, [50]),  # rounded up, and some time passed meanwhile
        (28, [30, 50]),  # more than was left: another call
    ],
)
def test_a_poll_with_more_time_than_was_left_is_another_join(
    it: JoinEvents, remaining: float, ends: list[float]
) -> None:
    it.start(1, 7, popen=0xA)
    it.join_polls(10, 30, timeout=50, popen=0xA)
    it.join_polls(35, 50, timeout=remaining, popen=0xA)
    assert [in_ms(each)[3] for each in it.joins()] == ends


@pytest.mark.parametrize(
    ("exited", "reaped", "returned"),
    [
        (29, 30.9, "stolen"),  # the waiter ran again before the reap was recorded
        (29, 31.1, None),
        (30, 100, None),  # dead, but not reaped: why the call ended is unknown
        (30.1, 100, "interrupted"),
    ],
)
def test_a_join_that_ends_beside_a_reap_by_another_thread(
    it: JoinEvents, exited: float, reaped: float, returned: Optional[str]
) -> None:
    it.start(1, 7, popen=0xA)
    it.join_waits(10, 7, popen=0xA)
    it.exit(exited, 7)
    it.join_blocked(10.1, 30, popen=0xA)
    it.reap(reaped, 7, ("thief:3",), options=1, tid=105)
    it.block(200, 210, "clock_nanosleep", ("main:15",))
    assert [each.returned for each in it.joins()] == [returned]


@pytest.mark.parametrize(
    ("options", "returned"),
    [
        (0, ["interrupted"]),
        (0x40000000, ["interrupted"]),  # __WALL
        (os.WUNTRACED, [None, None]),  # it may have returned for a stopped child
        (os.WCONTINUED, [None, None]),
        (os.WNOWAIT, [None, None]),
    ],
)
def test_waits_for_other_events_than_an_exit(
    it: JoinEvents, options: int, returned: list[Optional[str]]
) -> None:
    it.fork(1, 7, ("main:5",))
    for at in (10, 20):
        it.wait(at, 7, ("main:9",), options=options)
        it.block(at + 0.1, at + 5, "wait4", ("main:9",))
    it.block(30, 40, "clock_nanosleep", ("main:15",))
    assert [each.returned for each in it.joins()] == returned


def test_a_join_that_lasts_has_no_end(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.join_waits(10, 7, popen=0xA)
    it.exit(5000, 99)
    assert list(map(in_ms, it.joins())) == [("Process.join", 7, 10, None, None)]


def test_the_waiters_death_ends_a_join(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.join_waits(10, 7, popen=0xA)
    it.exit(20, APP)
    assert list(map(in_ms, it.joins())) == [("Process.join", 7, 10, 20, "interrupted")]


@pytest.mark.parametrize(("later", "ends"), [(900, []), (1500, [20])])
def test_a_call_that_was_left_is_given_up_a_second_later(
    it: JoinEvents, later: float, ends: list[float]
) -> None:
    it.start(1, 7, popen=0xA)
    it.join_waits(10, 7, popen=0xA)
    it.join_blocked(10.1, 20, popen=0xA)
    machine = it.machine()
    assert feed(machine, it.events) == []
    assert feed(machine, []) == []
    other = JoinEvents()
    other.exit(later, 99)
    assert [in_ms(each)[3] for each in feed(machine, other.events)] == ends


def test_the_exit_function_joins_each_child(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.start(2, 8, popen=0xC)
    it.wait(10, 8, ATEXIT, (0xC, 0xC))
    it.block(10.1, 20, "wait4", ATEXIT, (0xC, 0xC))
    it.reap(20.1, 8, ATEXIT, (0xC, 0xC), wait=10)
    it.wait(20.2, 7, ATEXIT, (0xA, 0xA))
    it.reap(20.3, 7, ATEXIT, (0xA, 0xA), wait=20.2)
    assert list(map(in_ms, it.joins())) == [
        ("atexit", 8, 10, 20.1, "reaped"),
        ("atexit", 7, 20.2, 20.3, "reaped"),
    ]


def test_what_only_asks_is_no_join(it: JoinEvents) -> None:
    """is_alive(), poll(), a waitpid with WNOHANG, the _cleanup of start()."""
    asking = (POLL, "multiprocessing.process:BaseProcess.is_alive", "main")
    it.start(1, 7, popen=0xA)
    it.wait(10, 7, asking, (0xA,), options=1)
    it.reap(11, 7, asking, (0xA,), options=1)
    it.wait(12, -1, ("main:4",), options=1)
    it.wait(13, 9, ("subprocess:Popen._internal_poll", "subprocess:Popen.poll", "main"), options=1)
    it.block(14, 20, "read", ("subprocess:Popen._execute_child", "subprocess:Popen.__init__"))
    it.block(21, 30, "clock_nanosleep", ("main:5",))
    assert it.joins() == []


def test_join_0_that_reaps(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.join_reaps(10, 7, wait=10, popen=0xA, options=1)
    (join,) = it.joins()
    assert (in_ms(join), join.timeout_s) == (("Process.join(timeout)", 7, 10, 10, "reaped"), 0)


def nap(it: JoinEvents, at: float, lasts: float) -> float:
    it.wait(at, 7, ("subprocess:Popen._try_wait", *POPEN_WAIT, "main:9"), (0xA, 0xA, 0xA), 1)
    it.block(at + 0.1, at + 0.1 + lasts, "clock_nanosleep", (*POPEN_WAIT, "main:9"), (0xA, 0xA))
    return at + 0.2 + lasts


def test_popen_wait_with_a_timeout_naps(it: JoinEvents) -> None:
    it.fork(1, 7, ("subprocess:Popen._execute_child", "subprocess:Popen.__init__"), (0xA, 0xA))
    at = 10.0
    for lasts in (1.1, 2.1, 21.0, 8.1, 16.1, 77.0, 50.1, 50.2, 30.0):  # some woke up late
        at = nap(it, at, lasts)
    it.reap(at, 7, ("subprocess:Popen._try_wait", *POPEN_WAIT, "main:9"), (0xA, 0xA, 0xA),
            options=1)  # fmt: skip
    (join,) = it.joins()
    assert in_ms(join) == ("Popen.wait(timeout)", 7, 10, round(at, 6), "reaped")
    assert join.timeout_s is None  # its value is in no system call


def test_two_popen_waits_on_one_line_are_two(it: JoinEvents) -> None:
    it.fork(1, 7, ("subprocess:Popen._execute_child", "subprocess:Popen.__init__"), (0xA, 0xA))
    at, begins = 10.0, []
    for _ in range(3):
        begins.append(at)
        for lasts in (1.1, 2.1, 4.1, 8.1, 16.1, 9.0):
            at = nap(it, at, lasts)
    joins = it.joins()
    assert [each.returned for each in joins] == ["timeout"] * 3
    assert [abs((each.began_ns or 0) / MS - begin) < 0.2 for each, begin in zip(joins, begins)
            ] == [True] * 3  # fmt: skip


def test_subprocess_run_is_one_join_from_the_first_read_to_the_reap(it: JoinEvents) -> None:
    run = ("subprocess:run", "main:9")
    reading = (SELECT, "subprocess:Popen._communicate", "subprocess:Popen.communicate", *run)
    it.fork(9, 7, ("subprocess:Popen._execute_child", "subprocess:Popen.__init__", *run),
            (0xA, 0xA))  # fmt: skip
    it.block(10, 20, "poll", reading, (0, 0xA, 0xA))
    it.block(20.1, 30, "poll", reading, (0, 0xA, 0xA))
    waiting = (*POPEN_WAIT, "subprocess:Popen.communicate", *run)
    it.wait(30.1, 7, waiting, (0xA, 0xA, 0xA))
    it.reap(30.2, 7, waiting, (0xA, 0xA, 0xA), wait=30.1)
    assert list(map(in_ms, it.joins())) == [("subprocess.run", 7, 10, 30.2, "reaped")]


def test_subprocess_run_out_of_time_kills_and_waits_on(it: JoinEvents) -> None:
    run = ("subprocess:run", "main:9")
    reading = (SELECT, "subprocess:Popen._communicate", "subprocess:Popen.communicate", *run)
    it.fork(9, 7, ("subprocess:Popen._execute_child", "subprocess:Popen.__init__", *run),
            (0xA, 0xA))  # fmt: skip
    it.block(10, 60.1, "poll", reading, (0, 0xA, 0xA), timeout=50)
    it.wait(60.2, 7, (*POPEN_WAIT, *run), (0xA, 0xA))
    it.reap(60.3, 7, (*POPEN_WAIT, *run), (0xA, 0xA), wait=60.2)
    (join,) = it.joins()
    assert in_ms(join) == ("subprocess.run", 7, 10, 60.3, "reaped")
    assert join.timeout_s == 0.05


def test_communicate_out_of_time(it: JoinEvents) -> None:
    reading = (SELECT, "subprocess:Popen._communicate", "subprocess:Popen.communicate", "main:9")
    it.fork(9, 7, ("subprocess:Popen._execute_child", "subprocess:Popen.__init__"), (0xA, 0xA))
    it.block(10, 60.1, "poll", reading, (0, 0xA, 0xA), timeout=50)
    it.block(61, 111.1, "poll", reading, (0, 0xA, 0xA), timeout=50)
    assert list(map(in_ms, it.joins())) == [
        ("Popen.communicate(timeout)", 7, 10, 60.1, "timeout"),
        ("Popen.communicate(timeout)", 7, 61, 111.1, "timeout"),
    ]


@pytest.mark.parametrize(("syscall", "kind"), [("wait4", "os.waitpid"), ("waitid", "os.waitid")])
def test_os_waitpid(it: JoinEvents, syscall: str, kind: str) -> None:
    it.fork(1, 7, ("main:5",))
    it.wait(10, 7, ("main:9",), syscall=syscall)
    it.block(10.1, 20, syscall, ("main:9",))
    it.reap(20.1, 7, ("main:9",), wait=10)
    assert list(map(in_ms, it.joins())) == [(kind, 7, 10, 20.1, "reaped")]


def test_os_wait_for_any_child_learns_which(it: JoinEvents) -> None:
    for child in (7, 8):
        it.fork(child / 10, child, ("main:5",))
    for turn, child in enumerate((8, 7)):
        it.wait(10 + 10 * turn, -1, ("main:9",))
        it.reap(15 + 10 * turn, child, ("main:9",), wait=10 + 10 * turn)
    assert list(map(in_ms, it.joins())) == [
        ("os.waitpid", 8, 10, 15, "reaped"),
        ("os.waitpid", 7, 20, 25, "reaped"),
    ]


def test_a_number_in_a_container_is_the_childs_own(it: JoinEvents) -> None:
    it.fork(1, 70007, ("main:5",), ns_pid=7)
    it.fork(2, 7, ("main:5",), pid=200)  # the observer's 7 is somebody else's
    it.wait(10, 7, ("main:9",))
    it.block(10.1, 20, "wait4", ("main:9",))
    it.block(21, 30, "read", ("main:15",))
    assert [in_ms(each)[1] for each in it.joins()] == [70007]


def test_os_system_is_known_by_its_child(it: JoinEvents) -> None:
    it.fork(9, 7, ("main:9",))
    it.wait(9.5, 7, ("main:9",))
    it.exec(10, 7, "/bin/sh")
    it.reap(20, 7, ("main:9",), wait=9.5)
    assert [in_ms(each)[0] for each in it.joins()] == ["os.system"]


@pytest.mark.parametrize(
    ("programs", "kind"),
    [
        (["/bin/sh", "/bin/ls"], "os.system"),  # the shell replaced itself
        (["/bin/ls", "/bin/sh"], "os.waitpid"),
        (["/bin/sh", "/bin/ls", "/bin/sh"], "os.system"),
        ([], "os.waitpid"),
    ],
)
def test_only_the_first_program_of_a_child_counts(
    it: JoinEvents, programs: list[str], kind: str
) -> None:
    it.fork(9, 7, ("main:9",))
    it.wait(9.5, 7, ("main:9",))
    for number, program in enumerate(programs):
        it.exec(10 + number, 7, program)
    it.reap(20, 7, ("main:9",), wait=9.5)
    assert [in_ms(each)[0] for each in it.joins()] == [kind]


def test_pool_join_waits_for_the_thread_that_reaps(it: JoinEvents) -> None:
    for child in (7, 8):
        it.fork(child / 10, child, POOL_STARTING, (0xA, 0xA, 0, 0xB, 0xC, POOL, POOL))
    it.block(10, 20, "futex", POOL_JOIN, (1, 1, POOL))
    it.block(20.1, 25, "futex", POOL_JOIN, (2, 2, POOL))
    handler = (*REAPING_JOIN, "multiprocessing.pool:Pool._join_exited_workers")
    for child in (7, 8):
        it.reap(18 + child / 10, child, handler, options=1, tid=105)
    it.block(30, 40, "clock_nanosleep", ("main:12",))
    (join,) = (each for each in it.joins() if each.kind == "Pool.join")
    assert in_ms(join) == ("Pool.join", None, 10, 25, "reaped")
    assert join.children == (Child(7, 7), Child(8, 8))
    assert join.by == Actor(APP, 105, "python3")
    assert join.blocked_ns == 14.9 * MS


def test_a_wait_for_another_processs_child(it: JoinEvents) -> None:
    it.fork(1, 7, ("main:5",))
    it.fork(2, 8, ("main:6",))
    it.wait(10, 7, ("child:9",), pid=8)  # ECHILD, at once
    it.block(11, 20, "clock_nanosleep", ("child:10",), pid=8)
    (join,) = it.joins()
    assert (join.pid, *in_ms(join)) == (8, "os.waitpid", 7, 10, 10, None)


def test_an_object_at_an_old_address_is_the_latest_childs(it: JoinEvents) -> None:
    for index, child in enumerate((7, 8)):
        it.start(1 + 20 * index, child, popen=0xA)
        it.join_polls(10 + 20 * index, 11.1 + 20 * index, timeout=1, popen=0xA)
    assert [each.child_pid for each in it.joins()] == [7, 8]


def test_asyncios_thread_waits(it: JoinEvents) -> None:
    watching = ("asyncio.unix_events:ThreadedChildWatcher._do_waitpid", "threading:Thread.run",
                "threading:Thread._bootstrap_inner")  # fmt: skip
    it.fork(1, 7, ("subprocess:Popen._execute_child", "main:5"))
    it.wait(2, 7, watching, tid=105)
    it.reap(20, 7, watching, wait=2, tid=105)
    (join,) = it.joins()
    assert in_ms(join) == ("asyncio child watcher (thread)", 7, 2, 20, "reaped")
    assert join.site is None


def test_a_number_or_an_object_that_is_used_again_is_its_users_of_that_time() -> None:
    """Two children in turn have PID 7 and the object 0xA."""
    children, parent = Children(), (APP, APP)
    for ns in (10, 30):
        children.fork(Fork(ns, ns, 7, APP, 0, APP, APP, APP, APP, 17, 1, 7, "python3", 1))
        children.fork_stack((7, ns), None, [0xA])
    for ns, expected in ((9, []), (10, [10]), (29, [10]), (30, [10, 30])):
        by_pid = children.of_pid(parent, 7, ns)
        by_object = children.of_objects(parent, [0xB, 0xA], ns)
        latest = children.get((7, expected[-1])) if expected else None
        assert by_pid is by_object is latest
        assert [each.fork_ns for each in children.all_of_object(parent, 0xA, ns)] == expected
    other = (200, 200)
    assert children.of_pid(other, 7, 30) is children.get((7, 30))  # anybody's: it will be refused
    assert children.of_objects(other, [0xA], 30) is None


def test_a_million_lives_leave_nothing_behind(it: JoinEvents) -> None:
    machine = it.machine()
    for index in range(9_000):
        one = JoinEvents()
        one.stacks = it.stacks
        one.start(index * 3, 1000 + index, popen=0xA00 + 16 * index)
        one.join_waits(index * 3 + 1, 1000 + index, popen=0xA00 + 16 * index)
        one.join_reaps(index * 3 + 2, 1000 + index, wait=index * 3 + 1)
        feed(machine, one.events)
        it.stacks.clear()
    assert len(machine._children) <= 8192
    assert len(machine._children._by_object) <= 8192
    assert len(machine._children._by_pid) <= 8192
    assert not machine._open
    assert not machine._reaps


# which child


def test_a_child_that_existed_before_the_observation(it: JoinEvents) -> None:
    it.existing(6)
    it.wait(10, 6, ("main:9",))
    it.reap(19, 6, ("thief:3",), options=1, tid=105)
    it.block(10.1, 20, "wait4", ("main:9",))
    (join,) = it.joins()
    assert in_ms(join) == ("os.waitpid", 6, 10, 20, "stolen")
    assert join.children == (Child(6, 6),)


def test_a_child_that_is_not_known_before_its_reap(it: JoinEvents) -> None:
    it.wait(10, 99, ("main:9",))
    it.reap(20, 99, ("main:9",), wait=10)
    (join,) = it.joins()
    assert in_ms(join) == ("os.waitpid", 99, 10, 20, "reaped")
    assert join.children == (Child(99, 99),)


def test_the_object_decides_not_the_number(it: JoinEvents) -> None:
    """The number may be a file descriptor: waitid(P_PIDFD)."""
    it.start(1, 7, popen=0xA)
    it.fork(2, 3, ("main:6",))
    it.join_waits(10, 3, popen=0xA, syscall="waitid")
    assert [each.child_pid for each in it.joins()] == [7]


def test_a_wait_names_the_child_that_the_poll_did_not(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.join_polls(10, 20, timeout=50)
    it.join_waits(20.1, 7)
    assert list(map(in_ms, it.joins())) == [("Process.join(timeout)", 7, 10, None, None)]


def test_a_lost_fork_stack_leaves_the_childs_number(it: JoinEvents) -> None:
    it.start(1, 8, popen=0xC)
    it.join_waits(2, 8, popen=0xC)
    it.fork(3, 7)
    it.lose()
    it.wait(10, 7, ("main:9",))
    it.reap(20, 7, ("main:9",), wait=10)
    assert ("os.waitpid", 7, 10, 20, "reaped") in map(in_ms, it.joins())


@pytest.mark.parametrize("kind", [StackKind.FORK, StackKind.WAIT, StackKind.REAP])
def test_a_stack_whose_event_was_lost_is_no_join(it: JoinEvents, kind: StackKind) -> None:
    it._stack_of(10 * MS, 7, APP, kind, stack(*REAPING_JOIN, "main:9"), (0xA, 0xA))
    assert it.joins() == []


def test_a_filename_in_two_pieces(it: JoinEvents) -> None:
    it.fork(9, 7, ("main:9",))
    it.wait(9.5, 7, ("main:9",))
    it.events.append(Exec(10 * MS, 7, 7, 7, "sh"))
    for piece in (b"/bin/", b"sh"):
        it.events.append(Text(10 * MS, 7, 7, TextKind.FILENAME, len(piece), 0, piece))
    it.reap(20, 7, ("main:9",), wait=9.5)
    assert [each.kind for each in it.joins()] == ["os.system"]


# one call, or several


def test_a_loop_of_waits_on_one_line_is_a_join_for_each_child(it: JoinEvents) -> None:
    """Each wait is interrupted; that for 9 does not block and is not observed before its reap."""
    for child in (7, 8, 9):
        it.fork(child / 10, child, ("main:5",))
    it.wait(10, 7, ("main:9",))
    it.block(10.1, 20, "wait4", ("main:9",))
    it.wait(21, 8, ("main:9",))
    it.block(21.1, 30, "wait4", ("main:9",))
    it.reap(32, 9, ("main:9",), wait=31)
    assert list(map(in_ms, it.joins())) == [
        ("os.waitpid", 7, 10, 20, "interrupted"),
        ("os.waitpid", 8, 21, 30, "interrupted"),
        ("os.waitpid", 9, 31, 32, "reaped"),
    ]


def test_a_poll_for_another_object_is_another_join(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.start(2, 8, popen=0xC)
    it.join_waits(10, 7)  # its objects were not readable
    it.join_blocked(10.1, 15)
    it.join_polls(20, 30, timeout=10, popen=0xC)
    assert [each.child_pid for each in it.joins()] == [7, 8]


def test_a_join_whose_objects_are_not_all_readable_is_one(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA, process=0xB)
    it.join_waits(10, 7, popen=0xA, process=0xB)
    it.join_blocked(10.1, 20, popen=0xA)
    it.join_waits(20.1, 7, process=0xB)
    it.join_blocked(20.2, 30)
    it.join_waits(30.1, 7, popen=0xA)
    assert [each.began_ns for each in it.joins()] == [10 * MS]


def test_a_join_that_times_out_as_the_child_dies_is_not_the_next_one(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.exit(10.9, 7)
    it.join_polls(10, 11.06, timeout=1, popen=0xA)
    it.join_polls(11.1, 11.2, timeout=1, popen=0xA)
    it.join_waits(11.3, 7, popen=0xA)
    it.join_reaps(11.4, 7, wait=11.3, popen=0xA)
    assert [in_ms(each)[2:] for each in it.joins()] == [(10, 11.06, "timeout"),
                                                       (11.1, 11.4, "reaped")]  # fmt: skip


@pytest.mark.parametrize("cut", ["first", "second"])
def test_a_join_goes_on_if_one_of_its_stacks_is_incomplete(it: JoinEvents, cut: str) -> None:
    whole, part = (*REAPING_JOIN, "main:9", "run:20"), (*REAPING_JOIN, "main:9")
    it.start(1, 7, popen=0xA)
    it.wait(10, 7, part if cut == "first" else whole, (0xA, 0xA))
    if cut == "first":
        it.cut()
    it.block(10.1, 20, "wait4", part if cut == "second" else whole, (0xA, 0xA))
    if cut == "second":
        it.cut()
    assert list(map(in_ms, it.joins())) == [("Process.join", 7, 10, 20, "interrupted")]


@pytest.mark.parametrize(
    ("first", "second", "cut"),
    [
        (("main:9",), ("main:9", "run:20"), False),
        (("main:9", "run:20"), ("main:9",), False),
        (("main:9", "run:20"), ("main:10",), True),
    ],
)
def test_a_call_from_elsewhere_is_another_join(
    it: JoinEvents, first: tuple[str, ...], second: tuple[str, ...], cut: bool
) -> None:
    it.start(1, 7, popen=0xA)
    it.wait(10, 7, (*REAPING_JOIN, *first), (0xA, 0xA))
    it.block(10.1, 20, "wait4", (*REAPING_JOIN, *first), (0xA, 0xA))
    it.wait(21, 7, (*REAPING_JOIN, *second), (0xA, 0xA))
    if cut:
        it.cut()
    assert [each.began_ns for each in it.joins()] == [10 * MS, 21 * MS]


@pytest.mark.parametrize(
    "naps",
    [
        [[1.1, 2.1, 4.1, 8.1, 9.0], [20.0, 2.1]],  # the first nap of the second woke up late
        [[1.1, 2.1, 4.1], [1.1, 2.1]],  # the first had no time left for a short nap
        [[1.1, 2.1, 4.1, 2.5], [1.1, 2.1]],
        [[1, 2, 4, 8, 16, 32, 50, 50]],
    ],
)
def test_the_length_of_a_nap_tells_whose_it_is(it: JoinEvents, naps: list[list[float]]) -> None:
    it.fork(1, 7, ("subprocess:Popen._execute_child", "subprocess:Popen.__init__"), (0xA, 0xA))
    at, begins = 10.0, []
    for call in naps:
        begins.append(at)
        for lasts in call:
            at = nap(it, at, lasts)
    began = [(each.began_ns or 0) / MS for each in it.joins()]
    assert began == pytest.approx(begins, abs=0.2)


# the end of a join


def test_a_lost_reap_stack_does_not_hide_the_reap(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.join_waits(10, 7, popen=0xA)
    it.reap(20, 7, wait=10)
    assert list(map(in_ms, it.joins())) == [("Process.join", 7, 10, 20, "reaped")]


def test_another_thread_without_a_stack_steals_the_status(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.join_waits(10, 7, popen=0xA)
    it.reap(20, 7, tid=105)
    it.join_blocked(10.1, 20.1, popen=0xA)
    (join,) = it.joins()
    assert (join.returned, join.by) == ("stolen", Actor(APP, 105, "python3"))


def test_a_join_of_a_child_that_is_gone_ends_at_once(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.reap(5, 7, ("thief:3",), options=1, tid=105)
    it.join_waits(10, 7, popen=0xA)
    assert list(map(in_ms, feed(it.machine(), it.events))) == [
        ("Process.join", 7, 10, 10, "stolen")
    ]


def test_a_wait_for_another_processs_child_that_is_gone(it: JoinEvents) -> None:
    it.fork(1, 7, ("main:5",))
    it.fork(2, 8, ("main:6",))
    it.reap(5, 7, ("main:9",))
    it.wait(10, 7, ("child:9",), pid=8)
    (join,) = (each for each in it.joins() if each.pid == 8)
    assert in_ms(join) == ("os.waitpid", 7, 10, 10, None)
    assert join.by == Actor(APP, APP, "python3")


def test_a_wait_that_only_looked_has_no_end(it: JoinEvents) -> None:
    it.fork(1, 7, ("subprocess:Popen._execute_child", "subprocess:Popen.__init__"), (0xA, 0xA))
    it.wait(10, 7, ("subprocess:Popen._try_wait", *POPEN_WAIT, "main:9"), (0xA, 0xA, 0xA), 1)
    assert list(map(in_ms, it.joins())) == [("Popen.wait", 7, 10, None, None)]


def left_by_an_exception(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.start(2, 8, popen=0xC)
    it.join_waits(10, 7, popen=0xA)
    it.join_blocked(10.1, 20, popen=0xA)


def forks(it: JoinEvents) -> None:
    it.start(30, 9)


def asks(it: JoinEvents) -> None:
    it.wait(30, 8, IS_ALIVE, options=1)


def asks_and_reaps(it: JoinEvents) -> None:
    it.reap(30, 8, IS_ALIVE, options=1)


@pytest.mark.parametrize("goes_on", [forks, asks, asks_and_reaps])
def test_whatever_the_thread_does_next_ends_a_join(
    it: JoinEvents, goes_on: Callable[[JoinEvents], None]
) -> None:
    left_by_an_exception(it)
    goes_on(it)
    assert list(map(in_ms, feed(it.machine(), it.events))) == [
        ("Process.join", 7, 10, 20, "interrupted")
    ]


def test_an_exception_leaves_a_join_and_the_one_in_its_handler(it: JoinEvents) -> None:
    handler = ("on_child:3", *REAPING_JOIN, "main:9")
    left_by_an_exception(it)
    it.wait(20.1, 8, handler)
    it.block(20.2, 25, "wait4", handler)
    it.block(30, 40, "clock_nanosleep", ("main:15",))
    assert [each.child_pid for each in feed(it.machine(), it.events)] == [7, 8]


def test_joins_are_in_the_order_of_their_ends_and_the_open_ones_last(it: JoinEvents) -> None:
    for tid, end in ((101, None), (102, 30), (103, 20)):
        it.start(tid / 100, tid + 900, popen=tid)
        it.join_waits(10, tid + 900, popen=tid, tid=tid)
        if end is not None:
            it.join_blocked(10.1, end, popen=tid, tid=tid)
    assert [each.tid for each in it.joins()] == [103, 102, 101]


# a reap whose wait was not observed


@pytest.mark.parametrize(("syscall", "kind"), [("wait4", "os.waitpid"), ("waitid", "os.waitid")])
def test_a_reap_without_its_wait_is_a_join(it: JoinEvents, syscall: str, kind: str) -> None:
    it.fork(1, 7, ("main:5",))
    it.reap(20, 7, ("main:9",), wait=10, syscall=syscall)
    assert list(map(in_ms, it.joins())) == [(kind, 7, 10, 20, "reaped")]


def test_a_join_that_reaps_without_its_wait_had_no_timeout(it: JoinEvents) -> None:
    it.start(1, 7, popen=0xA)
    it.join_reaps(20, 7, wait=0, popen=0xA)
    (join,) = it.joins()
    assert (in_ms(join), join.timeout_s) == (("Process.join", 7, 20, 20, "reaped"), None)


@pytest.mark.parametrize("blocked", [False, True])
def test_os_system_is_known_without_its_wait(it: JoinEvents, blocked: bool) -> None:
    it.fork(9, 7, ("main:9",))
    it.exec(10, 7, "/bin/sh")
    if blocked:
        it.block(10.1, 19.9, "wait4", ("main:9",))
    it.reap(20, 7, ("main:9",), wait=9.5)
    assert [in_ms(each)[::4] for each in it.joins()] == [("os.system", "reaped")]


# joins for several children


def makes_a_pool(it: JoinEvents) -> None:
    for child in (7, 8):
        popen = 0xA0 + child
        it.fork(child / 10, child, POOL_STARTING, (popen, popen, 0, 0xB, 0xC, POOL, POOL))


def joins_the_pool(it: JoinEvents) -> Join:
    it.block(10, 20, "futex", POOL_JOIN, (1, 1, POOL))
    it.block(30, 40, "clock_nanosleep", ("main:12",))
    (join,) = (each for each in it.joins() if each.kind == "Pool.join")
    return join


def test_pool_join_reaps_by_itself(it: JoinEvents) -> None:
    reaping = (*REAPING_JOIN, "multiprocessing.pool:Pool.join", "main:9")
    makes_a_pool(it)
    for child in (7, 8):
        popen = 0xA0 + child
        it.wait(child, child, reaping, (popen, popen, popen + 16, POOL))
        it.block(child + 0.1, child + 0.4, "wait4", reaping, (popen, popen, popen + 16))
        it.reap(child + 0.5, child, reaping, (popen, popen, popen + 16, POOL), wait=child)
    it.block(30, 40, "clock_nanosleep", ("main:12",))
    (join,) = it.joins()
    assert in_ms(join) == ("Pool.join", None, 7, 8.5, "reaped")
    assert (join.children, join.by) == ((Child(7, 7), Child(8, 8)), None)


def test_pool_join_is_told_of_the_last_reap(it: JoinEvents) -> None:
    makes_a_pool(it)
    it.reap(18, 7, ("thief:3",), options=1, tid=105)
    it.reap(19, 8, ("thief:3",), options=1, tid=106)
    join = joins_the_pool(it)
    assert (join.returned, join.by) == ("reaped", Actor(APP, 106, "python3"))


def test_pool_join_of_workers_that_the_kernel_released(it: JoinEvents) -> None:
    makes_a_pool(it)
    for child in (7, 8):
        it.reap(18, child, pid=child, kernel=True)
    join = joins_the_pool(it)
    assert (join.returned, join.by) == ("reaped", None)


def test_pool_join_of_workers_that_are_gone(it: JoinEvents) -> None:
    makes_a_pool(it)
    for child in (7, 8):
        it.reap(5, child, ("thief:3",), options=1, tid=105)
    assert joins_the_pool(it).returned == "already_reaped"


def test_pool_join_that_leaves_a_worker(it: JoinEvents) -> None:
    makes_a_pool(it)
    it.reap(18, 7, ("thief:3",), options=1, tid=105)
    join = joins_the_pool(it)
    assert (join.returned, join.children) == (None, (Child(7, 7), Child(8, 8)))


def test_pool_join_of_a_pool_that_was_made_before_the_observation(it: JoinEvents) -> None:
    join = joins_the_pool(it)
    assert (in_ms(join), join.children) == (("Pool.join", None, 10, 20, None), ())


# captures


def capture(frames: tuple[str, ...], selves: tuple[int, ...], first: int = 0) -> Capture:
    event = StackOf(5, 1, 7, 1, 8, StackKind.WAIT, 0, first, selves)
    return capture_of(RULES, event, (7, 1), stack(*frames))


def test_a_capture_without_a_joining_call_has_no_objects() -> None:
    found = capture(IS_ALIVE, (0xA, 0xB, 0, 0, 0, 0))
    assert found[:4] == ((7, 1), 8, 5, stack(*IS_ALIVE))
    assert (found.match.call, found.addresses, found.call_address) == (None, (), 0)


@pytest.mark.parametrize(
    ("selves", "first", "addresses", "call_address"),
    [
        ((0xA, 0xB, 0xC, 0xD, 0xE, 0xF), 0, (0xA, 0xB, 0xC), 0xC),  # main is no object
        ((0xA, 0xB, 0, 0, 0, 0), 0, (0xA, 0xB), 0),
        ((0xC, 0xD, 0, 0, 0, 0), 2, (0xC,), 0xC),
    ],
)
def test_a_capture_has_the_objects_up_to_the_joining_call(
    selves: tuple[int, ...], first: int, addresses: tuple[int, ...], call_address: int
) -> None:
    found = capture((*REAPING_JOIN, "main:9"), selves, first)
    assert (found.match.call, found.addresses, found.call_address) == (2, addresses, call_address)


@pytest.mark.parametrize(
    ("frames", "syscall", "expected"),
    [
        (POPEN_WAIT, "clock_nanosleep", True),
        (("subprocess:_wait",), "clock_nanosleep", True),  # before Python 3.11
        (("subprocess:make.<locals>.Popen._wait",), "clock_nanosleep", True),
        (("subprocess:Popen.wait",), "clock_nanosleep", False),
        (POPEN_WAIT, "wait4", False),
        ((), "clock_nanosleep", False),
    ],
)
def test_popen_wait_sleeps(frames: tuple[str, ...], syscall: str, expected: bool) -> None:
    assert is_popen_sleep(stack(*frames), syscall) is expected


def test_stacks_are_asked_for_by_their_numbers_and_problems() -> None:
    asked = []

    def whole(number: int, problem: int) -> Optional[Stack]:
        asked.append((number, problem))
        return None

    events: list[Event] = [
        StackOf(5, 7, 7, 0, 8, StackKind.WAIT, 3, 0, (0,) * 6),
        StackOf(6, 7, 7, 11, 8, StackKind.REAP, 1, 0, (0,) * 6),
        Block(7, 7, 7, 8, 12, -1, 8, 61, 0, (0,) * 3),
        Block(8, 7, 7, 9, 0, -1, 8, 61, 0, (0,) * 3),  # it has none
    ]
    assert feed(Joins(RULES, whole, SYSCALLS), events) == []
    assert asked == [(0, 3), (11, 1), (12, 0)]


# what is forgotten


def reaped(child: int) -> Reap:
    flags = int(ReapFlags.BY_PARENT)
    return Reap(20, child, child, APP, 0, APP, APP, APP, APP, 0, 61, 0, flags, "python3")


def forked(child: int) -> Fork:
    return Fork(10, child, child, APP, 0, APP, APP, APP, APP, 17, 1, child, "python3", 1)


def test_the_oldest_fork_without_a_stack_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "MAX_PENDING", 2)
    known = Children()
    for child in (7, 8, 9):
        known.fork(forked(child))
    found = [known.fork_stack((child, child), None, []) for child in (7, 8, 9)]
    assert [each and each.key for each in found] == [None, (8, 8), (9, 9)]


def test_the_child_that_was_reaped_first_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "MAX_REAPED", 2)
    known = Children()
    for child in (7, 8, 9):
        known.fork(forked(child))
        known.fork_stack((child, child), None, [])
    for child in (8, 9, 7):
        known.reap(reaped(child))
    assert [known.get((child, child)) is not None for child in (7, 8, 9)] == [True, False, True]


def test_the_join_of_the_oldest_thread_is_given_up(
    it: JoinEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_joins, "MAX_THREADS", 2)
    for tid in (101, 102, 103):
        it.start(tid / 100, tid + 900, popen=tid)
        it.join_waits(tid - 90, tid + 900, popen=tid, tid=tid)
    assert list(map(in_ms, feed(it.machine(), it.events))) == [
        ("Process.join", 1001, 11, None, None)
    ]


def test_the_oldest_join_with_a_timeout_is_forgotten(
    it: JoinEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joins, "MAX_TIMEOUTS", 2)
    for child in (7, 8, 9):
        it.start(child, child, popen=child)
        it.join_reaps(child + 0.5, child, wait=0, popen=child, options=1)  # join(0)
    machine = it.machine()
    feed(machine, it.events)
    assert [machine.had_timeout(child, child) for child in (7, 8, 9)] == [False, True, True]
