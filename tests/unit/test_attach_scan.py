# SPDX-License-Identifier: Apache-2.0
"""Processes that ran before: from the attach scan's event to the life and its line."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.unit.encoded_records import records
from tests.unit.event_builders import Machine
from zombiebpf.cli.follow import LineWriter, status_text, text_line
from zombiebpf.kernel.interpreters import InterpreterRegistry
from zombiebpf.lifecycle.lifecycle import UNSEEN_ZOMBIE
from zombiebpf.model.events import (
    Event,
    Exit,
    Fork,
    Freed,
    Reap,
    ReapFlags,
    Reparent,
    ReparentFlags,
    Snapshot,
    SnapshotFlags,
    Zombie,
)
from zombiebpf.model.life import Actor, Life, PidNamespace, State
from zombiebpf.observe.snapshots import SnapshotCompleter
from zombiebpf.wording.wording import Wording

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
MS = 1_000_000
BEFORE = "since before we looked"


def existing(pid: int = 10, flags: int = 0, **fields: Any) -> Snapshot:
    given = Snapshot(
        ns=1000 * MS, start_ns=pid * TICK_NS, pid=pid, parent_start_ns=5 * TICK_NS, cgroup_id=3,
        parent_pid=5, parent_tid=6, exit_signal=17, pidns=99, ns_pid=1, code=0, flags=flags,
        tgid=pid, comm="app",
    )  # fmt: skip
    return given._replace(**fields)


def reap(event: Snapshot, ns: int = 2000 * MS) -> Reap:
    return Reap(ns, event.start_ns, event.pid, event.parent_start_ns, 0, event.parent_pid,
                event.parent_tid, event.parent_pid, event.parent_tid, 3 << 8, 61, 0,
                ReapFlags.BY_PARENT, "parent")  # fmt: skip


def lifecycle() -> Machine:
    return Machine({61: "wait4"}, lambda number: f"/group{number}")


def test_one_that_runs() -> None:
    cycle = lifecycle()
    assert cycle.feed([existing(parent_comm="parent", argv=("app", "x"))]) == []
    assert cycle.alive == 1
    (life,) = cycle.finish()
    assert (life.pid, life.start_ns, life.state) == (10, 10 * TICK_NS, State.RUNNING)
    assert (life.comm, life.argv, life.cgroup) == ("app", ("app", "x"), "/group3")
    assert life.parent == Actor(5, 6, "parent")
    assert life.pidns == PidNamespace(99, 1)
    assert (life.forker, life.fork_ns) == (None, None)
    assert life.unseen == {"forker": BEFORE, "fork_ns": BEFORE, "exec": BEFORE}


def test_its_whole_end() -> None:
    cycle = lifecycle()
    event = existing()
    lives = cycle.feed([
        event,
        Exit(1100 * MS, event.start_ns, 10, 10, 5, 3 << 8, "app"),
        Zombie(1101 * MS, event.start_ns, 10, 5, 6, 3 << 8, 0),
        reap(event),
    ])  # fmt: skip
    (life,) = lives
    assert cycle.alive == 0
    assert (life.exit_ns, life.zombie_interval_ns) == (1100 * MS, 899 * MS)
    assert not {"exit_ns", "zombie_ns"} & life.unseen.keys()


def test_a_zombie() -> None:
    cycle = lifecycle()
    event = existing(flags=SnapshotFlags.EXITING | SnapshotFlags.ZOMBIE, code=3 << 8)
    cycle.feed([event])
    (unfinished,) = cycle.unfinished
    assert (unfinished.state, unfinished.exit_status) == (State.ZOMBIE, 3)
    (life,) = cycle.feed([reap(event)])  # at once, not after a second of waiting
    assert (life.state, life.zombie_ns, life.exit_ns) == (State.REAPED, None, None)
    assert (life.zombie_interval_ns, life.reap_latency_ns) == (None, None)
    assert life.unseen["zombie_ns"] == life.unseen["exit_ns"] == BEFORE
    assert life.reaper == Actor(5, 6, "parent")


def test_one_that_died_while_it_was_looked_at() -> None:
    """It is told again, with more flags; an event that tells exactly goes before."""
    cycle = lifecycle()
    event = existing()
    again = event._replace(flags=SnapshotFlags.EXITING | SnapshotFlags.ZOMBIE)
    cycle.feed([event, again, Zombie(1101 * MS, event.start_ns, 10, 5, 6, 0, 0)])
    assert cycle.alive == 1
    (life,) = cycle.feed([reap(event)])
    assert life.zombie_ns == 1101 * MS
    assert life.was_zombie is False
    assert "zombie_ns" not in life.unseen
    assert life.unseen["exit_ns"] == BEFORE


def test_several_that_run() -> None:
    cycle = lifecycle()
    cycle.feed([existing(10), existing(11)])
    assert cycle.alive == 2


def test_the_arguments_of_one_that_could_not_be_read() -> None:
    cycle = lifecycle()
    cycle.feed([existing(10), existing(11, argv=())])
    without, empty = cycle.finish()
    assert without.unseen["argv"] == BEFORE
    assert "argv" not in empty.unseen


@pytest.mark.parametrize("times", [1, 2])
def test_a_zombie_is_listed_once(times: int) -> None:
    cycle = lifecycle()
    dead = existing(flags=SnapshotFlags.EXITING | SnapshotFlags.ZOMBIE)
    cycle.feed([*[dead] * times, existing(11)])
    assert [each.pid for each in cycle.zombies_since(2000 * MS)] == [10]


def test_one_without_an_exit_signal_that_is_reaped() -> None:
    """Nothing was lost: the kernel tells of no zombie without an exit signal."""
    cycle = lifecycle()
    event = existing(exit_signal=0)
    cycle.feed([event, reap(event)])
    (life,) = cycle.finish()
    assert life.unseen["zombie_ns"] == UNSEEN_ZOMBIE


@pytest.mark.parametrize(("parent_start", "adopters"), [(5, [1]), (4, [])])
def test_an_adoption_needs_the_parent_that_the_scan_saw(
    parent_start: int, adopters: list[int]
) -> None:
    """The PID of the dying parent may be that of another process by then."""
    cycle = lifecycle()
    dead = existing(flags=SnapshotFlags.EXITING | SnapshotFlags.ZOMBIE)
    flags = ReparentFlags.INIT | ReparentFlags.RESOLVED
    cycle.feed([
        dead,
        existing(11),
        Reparent(2000 * MS, parent_start * TICK_NS, 5, 1, 6, 1, 1, flags, "parent", "init"),
    ])  # fmt: skip
    zombie, running = (life.reparents for life in cycle.finish())
    assert [(each.to.pid, each.while_zombie) for each in zombie] == [(p, True) for p in adopters]
    assert [(each.to.pid, each.while_zombie) for each in running] == [(p, False) for p in adopters]


def test_a_reaper_whose_stack_is_not_known() -> None:
    cycle = Machine({61: "wait4"}, outsider=lambda pid: "it is not observed")
    event = existing(flags=SnapshotFlags.EXITING | SnapshotFlags.ZOMBIE)
    (life,) = cycle.feed([event, reap(event)])
    assert life.unseen["reap_call.stack"] == "it is not observed"


def test_one_whose_fork_is_told_too() -> None:
    """Looked at between its birth and the event: it is no life of before, and one only."""
    fork = Fork(1001 * MS, 10 * TICK_NS, 10, 5 * TICK_NS, 3, 5, 6, 5, 6, 17, 99, 1, "forker", 0)
    orders: list[list[Event]] = [[existing(), fork], [fork, existing()]]
    for events in orders:
        cycle = lifecycle()
        cycle.feed(events)
        (life,) = cycle.finish()
        assert (life.fork_ns, life.forker) == (1001 * MS, Actor(5, 6, "forker"))
        assert (life.parent, life.unseen) == (None, {})


def test_one_that_came_from_outside() -> None:
    cycle = lifecycle()
    cycle.feed([existing(flags=SnapshotFlags.JOINED)])
    (life,) = cycle.finish()
    assert set(life.unseen.values()) == {"it came from outside of what is observed"}


def test_a_zombie_whose_reap_is_seen_late() -> None:
    cycle = lifecycle()
    event = existing(flags=SnapshotFlags.EXITING | SnapshotFlags.ZOMBIE)
    (life,) = cycle.feed([event, Freed(3000 * MS, event.start_ns, 10, 5, 0)])
    assert (life.reap_exact, life.unseen["zombie_ns"]) == (False, BEFORE)


# what /proc adds


def process(proc: Path, pid: int, start: int, argv: bytes, comm: str = "app") -> None:
    place = proc / str(pid)
    place.mkdir(parents=True)
    fields = ["S", "1", "1", "1", "0", "-1", "0", *["0"] * 12, str(start), "0"]
    (place / "stat").write_text(f"{pid} ({comm}) {' '.join(fields)}\n")
    (place / "cmdline").write_bytes(argv)


class FakeRegistry(InterpreterRegistry):
    """Notes the calls; every process that is registered is Python."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def register(
        self,
        pid: int,
        tgid: Optional[int] = None,
        has_children: bool = False,
        since_ns: int = 0,
    ) -> bool:
        self.calls.append((pid, tgid, has_children))
        return True

    def note_exited(self, pid: int) -> None:
        self.calls.append(f"gone {pid}")

    def register_fork(self, forker: int, child: int, ns: int) -> bool:
        self.calls.append(f"{forker} forked {child}")
        return False


def test_what_proc_adds(tmp_path: Path) -> None:
    process(tmp_path, 5, 5, b"p\0", "parent")
    process(tmp_path, 10, 10, b"app\0\0x\0")
    process(tmp_path, 11, 10, b"another\0")  # 11 began later: it is another process by now
    process(tmp_path, 12, 12, b"")
    registry = FakeRegistry()
    completer = SnapshotCompleter(registry, tmp_path)
    fork = Fork(1, 1, 7, 1, 0, 1, 1, 1, 1, 17, 1, 1, "x", 0)
    gone = existing(13, SnapshotFlags.EXITING)
    events: list[Event] = [
        fork,
        existing(10, tgid=70),
        existing(11),
        existing(12, parent_pid=10),
        gone,
    ]
    completer.prepare(records(events))
    one, other, bare, dead = (
        completer.completed(event) for event in events if isinstance(event, Snapshot)
    )
    assert (one.parent_comm, one.argv) == ("parent", ("app", "", "x"))
    assert (other.parent_comm, other.argv) == ("parent", None)
    assert (bare.parent_comm, bare.argv) == (None, None)  # 10 began at another time
    assert dead.argv is None
    assert registry.calls == [(10, 70, True), "gone 11", "gone 12"]
    completer.prepare(records([fork._replace(ns=time.monotonic_ns())]))
    assert registry.calls == [(10, 70, True), "gone 11", "gone 12"]


def test_forks_before_their_forker_was_registered(tmp_path: Path) -> None:
    """Of its own batch and of later ones; a forker is registered as having children."""
    process(tmp_path, 10, 10, b"app\0")
    registry = FakeRegistry()
    completer = SnapshotCompleter(registry, tmp_path)
    fork = Fork(1, 1, 20, 10 * TICK_NS, 0, 10, 10, 10, 10, 17, 1, 1, "app", 0)
    early = fork._replace(pid=19)
    completer.prepare(records([early, existing(10), fork]))
    assert completer.completed(existing(10)) == existing(10, argv=("app",))
    assert registry.calls == [(10, 10, True), "10 forked 20"]
    late = fork._replace(pid=22, ns=time.monotonic_ns())
    completer.prepare(records([fork._replace(pid=21, ns=2), late]))
    completer.prepare(records([late]))
    assert registry.calls[2:] == ["10 forked 21"]


# lines


def ended(**fields: Any) -> Life:
    cycle = lifecycle()
    event = existing(argv=("app", "a\nb"), parent_comm="parent", **fields)
    (life,) = cycle.feed([event, reap(event)]) or cycle.finish()
    return life


def test_a_line_is_one_line() -> None:
    flags = SnapshotFlags.EXITING | SnapshotFlags.ZOMBIE
    line = text_line(ended(flags=flags), Wording())
    assert "\n" not in line
    assert line[2] == line[5] == ":"
    for part in (
        "PID 10", "child of parent 5 (thread 6), since before we looked", "exit 3",
        "zombie since before we looked", "reaped by parent parent 5",
    ):  # fmt: skip
        assert part.split(" (thread")[0] in line, line


def test_lines_of_json() -> None:
    out = io.StringIO()
    lines = LineWriter(out, True)
    flags = SnapshotFlags.EXITING | SnapshotFlags.ZOMBIE
    lines.write([ended(flags=flags), ended(flags=flags)])
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first == second
    assert (first["pid"], first["parent"]["comm"], first["forker"]) == (10, "parent", None)


def test_progress() -> None:
    words = Wording(unicode=False)
    zombies = [
        Life(7, 1, "sh", zombie_ns=10_000 * MS),
        Life(8, 1, "ab", zombie_ns=9_000 * MS),
    ]
    assert status_text(1204, zombies, 0, 0, 12_000 * MS, words) == (
        "12 s: 1204 lives, 2 zombies now, the oldest 3 s (PID 8 ab), 0 records lost"
    )
    before = Life(9, 1, "x\x1b", was_zombie=True)
    assert "1 zombie now, the oldest since before we looked (PID 9 x\\x1b), 1 record lost" in (
        status_text(1, [*zombies[:0], before], 1, 0, MS, words)
    )
    assert status_text(1, [], 0, 0, 0, words) == "0 ns: 1 life, 0 zombies now, 0 records lost"
