# SPDX-License-Identifier: Apache-2.0
"""From batches of events to whole lives and joins, each with its lines of Python."""

from __future__ import annotations

import mmap
import time
from collections.abc import Sequence
from typing import Any, Optional, cast

import pytest

from tests.unit.encoded_records import records
from tests.unit.event_builders import (
    APP,
    S,
    autoreap,
    exit_,
    fork,
    plain,
    program,
    reap,
    start,
    zombie,
)
from zombiebpf.attribution.joins.joins import Joins
from zombiebpf.kernel.observer import RING_PAGES, Observer
from zombiebpf.kernel.thread_activity import ThreadActivity
from zombiebpf.model.events import (
    Event,
    ForkFlags,
    ReapFlags,
    Snapshot,
    StackKind,
    StackOf,
    StackProblem,
    Wait,
)
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import LATE_NS, Activity, Actor, Life, LifeRow, State
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.model.wire import RECORD_BYTES, Records
from zombiebpf.observe.pipeline import POLL_S, SOON_POLL_S, SOON_READS, Pipeline
from zombiebpf.observe.rule_files import load_rules
from zombiebpf.observe.sinks import MemorySink

RULES = load_rules()
P, C, OUTSIDER = 20, 30, 90
LIB = "/usr/lib/python3.11/"
MAIN = Frame("main", "/home/user/app.py", 9)
SPAWN = Stack(
    (
        Frame("Popen._launch", LIB + "multiprocessing/popen_fork.py", 66),
        Frame("BaseProcess.start", LIB + "multiprocessing/process.py", 121),
        Frame("main", "/home/user/app.py", 7),
    )
)
JOIN = Stack(
    (
        Frame("Popen.poll", LIB + "multiprocessing/popen_fork.py", 27),
        Frame("Popen.wait", LIB + "multiprocessing/popen_fork.py", 43),
        Frame("BaseProcess.join", LIB + "multiprocessing/process.py", 149),
        MAIN,
    )
)
ASLEEP = Stack((Frame("main", "/home/user/app.py", 12),))
SPAWN_ID, JOIN_ID, ASLEEP_ID = 1, 2, 3


class FakeStacks:
    """zombiebpf.python.stacks.Stacks, with what was sent already."""

    def get(self, stack_id: int, problem: int = 0) -> Optional[Stack]:
        return {SPAWN_ID: SPAWN, JOIN_ID: JOIN, ASLEEP_ID: ASLEEP}.get(stack_id)


class FakeInterpreters:
    """An InterpreterRegistry: what it says of processes without stacks."""

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}  # by PID
        self.any_unsupported = False
        self.any_unread = True
        self.asked: list[tuple[int, int]] = []
        self.inherited: list[tuple[int, int]] = []

    def why_no_stack(self, pid: int, ns: int) -> Optional[str]:
        self.asked.append((pid, ns))
        return self.reasons.get(pid)

    def why_unfollowed(self, pid: int) -> Optional[str]:
        return "this Python is not followed" if pid == OUTSIDER else None

    def inherit(self, forker: int, child: int) -> None:
        self.inherited.append((forker, child))


class FakeObserver:
    """Gives its batches one after the other; `doing` is what each thread does."""

    def __init__(self, *batches: Sequence[Event]) -> None:
        self.batches = [records(batch) for batch in batches]
        self.stacks = FakeStacks()
        self.interpreters = FakeInterpreters()
        self.doing: Optional[ThreadActivity] = None
        self.looked_at: list[tuple[int, int]] = []
        self.expects_interpreters = False

    def read(self) -> Records:
        return self.batches.pop(0) if self.batches else Records()

    def activity_of(self, pid: int, tid: int) -> Optional[ThreadActivity]:
        self.looked_at.append((pid, tid))
        return self.doing


class Noted(MemorySink):
    """How often it was called, too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def add(self, lives: Sequence[LifeRow], joins: Sequence[Join]) -> None:
        super().add(lives, joins)
        self.calls += 1


def made(observer: FakeObserver, **options: Any) -> tuple[Pipeline, Noted]:
    sink = Noted()
    return Pipeline(cast(Observer, observer), sink, RULES, **options), sink


def unfinished(pipeline: Pipeline) -> Life:
    (row,) = pipeline.unfinished
    return row.life()


def stack_of(ns: int, pid: int, kind: StackKind, number: int, problem: int = 0) -> StackOf:
    return StackOf(ns, start(pid), pid, number, APP, kind, problem, 0, (0,) * 6)


def joined(ns: int, pid: int) -> list[Event]:
    """APP, a Python process, forks a Process, joins it without a timeout, and reaps it."""
    return [
        fork(ns, pid, flags=ForkFlags.STACKED),
        stack_of(ns, pid, StackKind.FORK, SPAWN_ID),
        Wait(ns + 200, start(APP), APP, APP, 61, 0, pid, 0),
        stack_of(ns + 200, APP, StackKind.WAIT, JOIN_ID),
        exit_(ns + 300, pid),
        zombie(ns + 400, pid),
        reap(
            ns + 600,
            pid,
            wait_ns=ns + 200,
            flags=ReapFlags.BY_PARENT | ReapFlags.STACKED,
        ),
        stack_of(ns + 600, pid, StackKind.REAP, JOIN_ID),
    ]


# lives


def test_a_life_with_its_lines_and_its_call() -> None:
    pipeline, sink = made(FakeObserver(joined(0, C)))
    assert pipeline.drain()
    (life,) = sink.lives
    assert life.fork_stack is SPAWN
    assert life.fork_site == SPAWN.frames[-1]
    assert life.reap_call is not None
    assert life.reap_call.kind == "join"
    assert life.reap_call.stack is JOIN
    assert life.reap_call.site == MAIN
    assert life.reap_call.blocked_ns == 400


def test_a_reaper_that_is_not_python() -> None:
    pipeline, sink = made(FakeObserver(plain(0, C)))
    pipeline.drain()
    (life,) = sink.lives
    assert life.reap_call is not None
    assert (life.reap_call.kind, life.reap_call.site) == ("not Python", None)
    assert life.fork_site is None


def test_a_reapers_stack_that_was_lost_is_not_said_to_be_none() -> None:
    events = joined(0, C)[:-1]
    lost = stack_of(600, C, StackKind.REAP, 99, StackProblem.LOST)
    pipeline, sink = made(FakeObserver([*events, lost]))
    pipeline.drain()
    (life,) = sink.lives
    assert life.reap_call is not None
    assert life.reap_call.kind is None
    assert "reap_call.stack" in life.unseen


def test_a_reaper_that_is_not_followed_may_be_python() -> None:
    pipeline, sink = made(FakeObserver(plain(0, C, by=OUTSIDER)))
    pipeline.drain()
    (life,) = sink.lives
    assert life.unseen == {"reap_call.stack": "this Python is not followed"}
    assert life.reap_call is not None
    assert life.reap_call.kind is None  # not "not Python"


def test_why_an_interpreter_has_no_stacks() -> None:
    observer = FakeObserver([fork(0, P), *plain(10, C, by=P)])
    observer.interpreters.reasons[P] = "the stacks of PyPy 3.9 are not read: PyPy"
    pipeline, sink = made(observer)
    pipeline.drain()
    (life,) = sink.lives
    why = observer.interpreters.reasons[P]
    assert life.unseen == {"fork_stack": why, "reap_call.stack": why}
    assert life.reap_call is not None
    assert life.reap_call.kind is None
    assert (P, 10) in observer.interpreters.asked  # the fork's time, the reap's
    assert (P, 610) in observer.interpreters.asked


def test_what_is_known_is_not_explained() -> None:
    """The probes' own reason is the better one, and a stack needs none."""
    events = joined(0, C)
    events[-1] = stack_of(600, C, StackKind.REAP, 99, StackProblem.NO_THREAD)
    observer = FakeObserver(events)
    observer.interpreters.reasons[APP] = "it is late"
    pipeline, sink = made(observer)
    pipeline.drain()
    (life,) = sink.lives
    assert life.unseen == {"reap_call.stack": "the thread is none of Python's"}


@pytest.mark.parametrize("unsupported", [False, True])
def test_forks_of_what_cannot_be_read_are_told(unsupported: bool) -> None:
    observer = FakeObserver([fork(0, P), fork(1, C, by=P), exit_(2, C)])
    observer.interpreters.any_unsupported = unsupported
    made(observer)[0].drain()
    assert observer.interpreters.inherited == ([(APP, P), (P, C)] if unsupported else [])


def test_a_join_with_a_timeout_is_told_to_the_life(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def had_timeout(self: Joins, pid: int, start_ns: int) -> bool:
        asked.append((pid, start_ns))
        return True

    monkeypatch.setattr(Joins, "had_timeout", had_timeout)
    pipeline, sink = made(FakeObserver(joined(0, C)))
    pipeline.drain()
    assert set(asked) == {(C, start(C))}
    assert sink.lives[0].reap_call is not None
    assert sink.lives[0].reap_call.kind == "join(timeout)"


def test_lives_come_batch_by_batch() -> None:
    pipeline, sink = made(FakeObserver(plain(0, P)[:2], plain(0, P)[2:], plain(1000, C)))
    assert pipeline.drain()
    assert (sink.calls, pipeline.alive) == (0, 1)
    assert [life.pid for life in pipeline.unfinished] == [P]
    assert pipeline.drain()
    assert (sink.calls, pipeline.alive) == (1, 0)
    assert pipeline.drain()
    assert [life.pid for life in sink.lives] == [P, C]
    assert sink.calls == 2


def test_nothing_to_read() -> None:
    pipeline, sink = made(FakeObserver())
    assert not pipeline.drain()
    assert pipeline.read_to_ns == 0
    pipeline.finish()
    assert sink.calls == 0


def test_what_is_unfinished_in_the_end() -> None:
    pipeline, sink = made(FakeObserver([fork(5, P), fork(6, C), exit_(7, C)]))
    pipeline.drain()
    assert pipeline.read_to_ns == 7
    pipeline.finish()
    assert [(life.pid, life.state) for life in sink.lives] == [
        (P, State.RUNNING),
        (C, State.RUNNING),
    ]
    assert pipeline.alive == 0
    pipeline.finish()
    assert sink.calls == 1


def test_everything_until_now() -> None:
    """A batch is the most that is read at a time; others may be behind it."""
    now = time.monotonic_ns()
    observer = FakeObserver(plain(0, 40), plain(1000, 41), plain(now + 600 * S, 42), plain(0, 43))
    pipeline, sink = made(observer)
    pipeline.drain_all()
    assert [life.pid for life in sink.lives] == [40, 41, 42]
    pipeline.drain_all()
    assert [life.pid for life in sink.lives] == [40, 41, 42, 43]


# joins


def test_a_join_and_its_child() -> None:
    pipeline, sink = made(FakeObserver(joined(0, C)))
    pipeline.drain()
    pipeline.finish()
    (join,) = sink.joins
    assert (join.pid, join.tid, join.child_pid) == (APP, APP, C)
    assert list(join.children) == [Child(C, start(C))]
    assert (join.kind, join.returned) == ("Process.join", "reaped")
    assert join.began_ns == 200
    assert join.stack is JOIN
    assert join.site == MAIN


def test_a_join_that_lasts_on() -> None:
    pipeline, sink = made(FakeObserver(joined(0, C)[:4]))
    pipeline.drain()
    assert sink.joins == []
    pipeline.finish()
    (join,) = sink.joins
    assert join.ended_ns is None
    assert join.child_pid == C
    assert [life.pid for life in sink.lives] == [C]


# what a zombie's parent does


def until_zombie(ns: int, parent: int = APP) -> list[Event]:
    return [
        fork(ns, C, by=parent, forker_tid=parent + 1),
        exit_(ns + 300, C),
        zombie(ns + 400, C, parent, parent_tid=parent + 1),
    ]


def test_a_zombie_that_lasts_is_asked_for_once() -> None:
    observer = FakeObserver(until_zombie(0))
    observer.doing = ThreadActivity("app", "clock_nanosleep", 5, ASLEEP_ID)
    pipeline, sink = made(observer)
    before = time.monotonic_ns()
    pipeline.drain()
    after = time.monotonic_ns()
    life = unfinished(pipeline)
    seen = life.meanwhile
    assert seen is not None
    assert before <= seen.ns <= after
    assert seen == Activity(
        seen.ns, Actor(APP, APP + 1, "app"), 5, "clock_nanosleep", ASLEEP, ASLEEP.frames[0]
    )
    pipeline.drain()
    assert observer.looked_at == [(APP, APP + 1)]
    pipeline.finish()
    assert sink.lives[0].meanwhile == seen


def test_a_parent_that_is_not_blocked_in_python() -> None:
    observer = FakeObserver(until_zombie(0))
    observer.doing = ThreadActivity("app", None, None, 0)
    pipeline, _ = made(observer)
    pipeline.drain()
    life = unfinished(pipeline)
    assert life.meanwhile is not None
    assert life.meanwhile[1:] == (Actor(APP, APP + 1, "app"), None, None, None, None)


def test_a_parent_that_is_gone() -> None:
    observer = FakeObserver(until_zombie(0))
    pipeline, _ = made(observer)
    pipeline.drain()
    life = unfinished(pipeline)
    assert life.meanwhile is None
    assert observer.looked_at == [(APP, APP + 1)]


def test_a_parent_that_we_cannot_see() -> None:
    observer = FakeObserver([fork(0, C, by=0), exit_(1, C), zombie(2, C, 0)])
    made(observer)[0].drain()
    assert observer.looked_at == []


@pytest.mark.parametrize(
    "events",
    [plain(0, C), [fork(0, C), exit_(1, C), autoreap(2, C)], [fork(0, C), exit_(1, C)]],
)
def test_a_process_that_is_no_zombie_is_not_asked_for(events: list[Event]) -> None:
    observer = FakeObserver(events)
    made(observer)[0].drain()
    assert observer.looked_at == []


def test_a_young_zombie_is_not_asked_for() -> None:
    ahead = time.monotonic_ns() + 600 * S
    observer = FakeObserver(until_zombie(ahead))
    pipeline, _ = made(observer)
    pipeline.drain()
    assert observer.looked_at == []
    assert LATE_NS == S // 10


# how long to sleep


def test_the_pause_is_short_for_a_second_after_an_unknown_program() -> None:
    observer = FakeObserver()
    pipeline, _ = made(observer)
    for unknown in (False, True):
        observer.expects_interpreters = unknown
        pipeline.drain()
        observer.expects_interpreters = False
        for _ in range(SOON_READS - 1):
            assert pipeline.poll_s == SOON_POLL_S
            pipeline.drain()
        pipeline.drain()
        assert pipeline.poll_s == POLL_S


def settled(observer: FakeObserver) -> Pipeline:
    """A pipeline that nothing new has happened to for a second."""
    batches, observer.batches = observer.batches, []
    pipeline, _ = made(observer)
    for _ in range(SOON_READS):
        pipeline.drain()
    observer.batches = batches
    return pipeline


def test_processes_that_come_and_go_are_read_in_large_batches() -> None:
    pipeline = settled(FakeObserver(plain(0, C), plain(1000, P)))
    for _ in range(2):
        assert pipeline.drain()
        assert pipeline.poll_s == POLL_S


def test_a_zombie_is_looked_at_when_it_becomes_late() -> None:
    born = time.monotonic_ns() - LATE_NS // 2
    pipeline = settled(FakeObserver(until_zombie(born - 400), [reap(born + 1, C)]))
    pipeline.drain()
    assert SOON_POLL_S <= pipeline.poll_s <= (LATE_NS // 2) / S
    pipeline.drain()  # it was reaped
    assert pipeline.poll_s == POLL_S


def test_a_full_batch_is_followed_by_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zombiebpf.observe.pipeline.MAX_BATCH", len(plain(0, C)))
    pipeline, _ = made(FakeObserver(plain(0, C), plain(1000, P)[:-1]))
    pipeline.drain()
    assert pipeline.poll_s == 0
    pipeline.drain()
    assert pipeline.poll_s > 0


def test_the_ring_buffer_holds_what_comes_in_the_longest_pause() -> None:
    records = RING_PAGES * mmap.PAGESIZE // (RECORD_BYTES + 8)
    assert records / POLL_S > 1_500_000
    assert SOON_POLL_S < POLL_S
    assert SOON_READS * SOON_POLL_S >= 1


# what only /proc tells


def test_events_are_completed_before_anything_sees_them() -> None:
    existing = Snapshot(50, start(C), C, start(P), 0, P, P, 17, 1, C, 0, 0, C, "app")
    given: list[Records] = []

    def completed(event: Snapshot) -> Snapshot:
        assert len(given) == 1, "the batch was not prepared"
        return event._replace(parent_comm="shell", argv=("app", "-x"))

    observer = FakeObserver([existing, *program(60, P, b"/bin/x")])
    pipeline, _ = made(observer, prepare=given.append, completed=completed)
    pipeline.drain()
    life = unfinished(pipeline)
    assert life.argv == ("app", "-x")
    assert life.parent == Actor(P, P, "shell")
    assert len(given) == 1
    assert next(given[0].events()) == existing
