# SPDX-License-Identifier: Apache-2.0
"""Compare every field of 100,000 process records, and their joins, with what 0.1 made of them.

0.1 decoded each record into an event, and passed the events to Joins.feed(), then to
Lifecycle.feed(). data/lives-0.1.txt has a digest of its output for each random recording. The
file says how it was made, and which two differences are intended. Both follow from a flag in
the record of a fork that announces a stack:

- a fork whose stack was lost has the reason in `unseen`;
- a fork that announces no stack does not keep joins under a fork server waiting for one.
"""

from __future__ import annotations

import enum
from collections import Counter
from pathlib import Path

import pytest

from tests.unit.life_builders import analysis
from tests.unit.life_texts import JOIN_FIELDS, LIFE_FIELDS, join_text, life_text
from tests.unit.lives_of_records import FORKS, STRIDE, digest, made_of, read_in, texts
from tests.unit.random_records import HEADER_BYTES, Recording, recording
from zombiebpf.model import wire
from zombiebpf.model.events import (
    ForkFlags,
    ReapFlags,
    ReparentFlags,
    SnapshotFlags,
    StackKind,
    StackProblem,
    TextKind,
    ZombieHook,
)
from zombiebpf.model.join import Join
from zombiebpf.model.life import AdopterKind, Life, ReapedBy, State
from zombiebpf.model.wire import Records
from zombiebpf.trace import TraceWriter, read_trace

DIGESTS = Path(__file__).parent / "data" / "lives-0.1.txt"
EXPECTED = {
    int(seed): made
    for line in DIGESTS.read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
    for seed, made in [line.split(" ", 1)]
}
SOME = 3, 4, 5, 6  # seeds: with and without losses and scans
FEW = 500  # forks

HOW_TO_SEE = """
seed {seed}: a process record or a join differs from what 0.1 made of the recording.
Print them here and at a commit where this test passes, and compare:
    python -m tests.unit.lives_of_records {seed} > after
A line is a process or a join, with its fields in the order of tests/unit/life_texts.py."""


@pytest.mark.parametrize("seed", EXPECTED)
def test_as_0_1_made_them(seed: int) -> None:
    found = digest(texts(made_of(recording(seed, FORKS))))
    assert found == EXPECTED[seed], HOW_TO_SEE.format(seed=seed)


def test_a_hundred_thousand() -> None:
    lives, joins = (
        sum(int(made.split()[column]) for made in EXPECTED.values()) for column in (0, 1)
    )
    assert lives >= 100_000
    assert joins >= 20_000
    assert set(SOME) < set(EXPECTED)


@pytest.mark.parametrize("seed", SOME)
def test_reads_of_any_size(seed: int) -> None:
    recorded = recording(seed, FEW)
    expected = texts(made_of(recorded, timed=False))
    assert len(expected) > FEW
    for count in (1, 7, 1_000, 1_000_000):
        made = made_of(read_in(recorded, count), timed=False)
        assert Counter(texts(made)) == Counter(expected), f"{count} records a read"


@pytest.mark.parametrize("seed", SOME)
def test_what_a_trace_has_of_them(seed: int, tmp_path: Path) -> None:
    made = made_of(recording(seed, FEW))
    path = str(tmp_path / "t.db")
    meta = analysis([]).meta
    with TraceWriter(path, meta) as trace:
        for lives, joins in made:
            trace.add(lives, joins)
            trace.flush()
        trace.close(meta)
        assert trace.problem is None
    read = read_trace(path)
    found = [*map(life_text, read.lives), *map(join_text, read.joins or ())]
    assert Counter(found) == Counter(line[len("life ") :] for line in texts(made))


def test_every_field_of_0_1_is_compared() -> None:
    assert set(LIFE_FIELDS) == set(Life._fields)
    assert set(JOIN_FIELDS) == set(Join._fields)


# what the recordings have in them


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    return [recording(seed, FORKS) for seed in SOME]


def test_the_same_bytes_each_time(recordings: list[Recording]) -> None:
    assert recording(SOME[0], FORKS) == recordings[0]
    assert recording(SOME[1], FORKS).reads != recordings[0].reads


MEMBERS: tuple[tuple[int, str, type[enum.IntEnum]], ...] = (
    (wire.TEXT, "kind", TextKind),
    (wire.ZOMBIE, "hook", ZombieHook),
    (wire.STACK, "kind", StackKind),
    (wire.STACK, "problem", StackProblem),
)
FLAGS: tuple[tuple[int, type[enum.IntFlag]], ...] = (
    (wire.FORK, ForkFlags),
    (wire.REPARENT, ReparentFlags),
    (wire.REAP, ReapFlags),
    (wire.SNAPSHOT, SnapshotFlags),
)


def test_the_records_have_every_kind_and_flag(recordings: list[Recording]) -> None:
    kinds: Counter[int] = Counter()
    members: Counter[enum.IntEnum] = Counter()
    flags: Counter[tuple[enum.IntFlag, bool]] = Counter()
    for recorded in recordings:
        for read in recorded.reads:
            records = Records(read, STRIDE, HEADER_BYTES)
            kinds.update(records.kinds)
            for kind, name, values in MEMBERS:
                members.update(values(getattr(event, name)) for event in records.events(kind))
            for kind, named in FLAGS:
                flags.update(
                    (flag, bool(event.flags & flag))  # type: ignore[union-attr]
                    for event in records.events(kind)
                    for flag in named
                )
    assert [kind for kind in wire.EVENTS if kinds[kind] < 20] == []
    assert [each for *_, values in MEMBERS for each in values if members[each] < 5] == []
    every = [(flag, is_set) for _, named in FLAGS for flag in named for is_set in (True, False)]
    assert [each for each in every if flags[each] < 5] == []


KINDS_OF_JOINS = (
    "Pool.join", "Popen.communicate", "Popen.wait", "Popen.wait(timeout)", "Process.join",
    "Process.join(timeout)", "asyncio child watcher (thread)", "atexit", "os.spawn*", "os.system",
    "os.waitid", "os.waitpid", "signal handler", "subprocess.check_output", "subprocess.run",
)  # fmt: skip


def test_the_lives_have_every_outcome(recordings: list[Recording]) -> None:
    made = [each for recorded in recordings for each in made_of(recorded)]
    lives = [row.life() for each in made for row in each.lives]
    joins = [join for each in made for join in each.joins]
    assert {life.reaped_by for life in lives} == {None, *ReapedBy}
    assert {life.state for life in lives} == set(State)
    steps = {
        (step.kind, step.while_zombie, step.exact) for life in lives for step in life.reparents
    }
    assert steps == {
        (kind, zombie, exact)
        for kind in AdopterKind
        for zombie in (True, False)
        for exact in (True, False)
    }
    assert {field for life in lives for field in life.unseen} == {
        "argv", "exec", "exit_ns", "fork_ns", "fork_stack", "forker", "reap_call",
        "reap_call.stack", "reaper", "reparents", "zombie_ns",
    }  # fmt: skip
    assert {join.returned for join in joins} == {
        None, "already_reaped", "interrupted", "reaped", "stolen", "timeout",
    }  # fmt: skip
    kinds = Counter(join.kind for join in joins)
    assert [kind for kind in KINDS_OF_JOINS if kinds[kind] < 20] == []
    assert any(len(join.children) > 5 for join in joins)
    numbers = {life.pid for life in lives}
    assert len({life.key for life in lives}) > 10 * len(numbers)  # each is used again
