# SPDX-License-Identifier: Apache-2.0
"""The answers of queries, against sums and sorts over lists that share no code with them."""

from __future__ import annotations

import math
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.unit.life_builders import (
    APP,
    BEGAN,
    MS,
    S,
    adopted,
    analysis,
    app,
    ended,
    found_dead,
    rows,
)
from tests.unit.random_analyses import Maker
from zombiebpf.diagnosis.findings import findings
from zombiebpf.model.analysis import Analysis, Meta
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import Actor, Life, ReapedBy, State
from zombiebpf.model.stack import Frame
from zombiebpf.model.statistics import Distribution, Spread
from zombiebpf.reports.summary import absences
from zombiebpf.trace import TraceWriter, observe, open_traces
from zombiebpf.trace.decode import DamagedTraceError
from zombiebpf.wording.wording import Wording

LATE = 100_000_000


def consistent(life: Life) -> Life:
    """Without what no observation has: a reap before the death."""
    zombie_ns, reap_ns = life.zombie_ns, life.reap_ns
    if zombie_ns is not None and reap_ns is not None and zombie_ns > reap_ns:
        return life._replace(zombie_exact=False)
    return life


def made(seed: int) -> Analysis:
    """Up to 150 processes in which anything may be missing, and joins for some of them."""
    maker = Maker(seed)
    maker.now = 10**9
    meta = maker.meta()
    frames = [Frame(f"f{n}", "/srv/app.py", n) for n in range(4)]
    kinds = ["join", "atexit", "", None]
    lives = []
    for pid in range(1, maker.random.randrange(2, 150)):
        life = consistent(maker.life(maker.random.randrange(1, 60)))
        call = life.reap_call
        if call is not None:
            call = call._replace(
                kind=maker.random.choice(kinds), site=maker.random.choice([None, *frames])
            )
        lives.append(
            life._replace(
                start_ns=pid, fork_site=maker.random.choice([None, *frames]), reap_call=call
            )
        )
    lives.sort(key=lambda life: life.fork_ns or 0)
    joins = []
    for life in lives[::3]:
        children = (Child(life.pid, life.start_ns),)
        now = maker.now
        joins.append(Join(1, 1, life.pid, None, now, now + 5, "reaped", "Process.join", children))
    return Analysis(replace(meta, ended_ns=maker.now + 10**9), lives, joins)


def duration_of(life: Life, meta: Meta) -> Optional[int]:
    """How long it was a zombie within the observation."""
    begin = life.zombie_ns
    if begin is None and life.was_zombie and life.exit_ns is None:
        begin = meta.started_ns
    end = life.reap_ns if life.reap_ns is not None else meta.ended_ns
    return None if begin is None else max(end - begin, 0)


def intervals(lives: Sequence[Life]) -> list[int]:
    return sorted(
        max(each.reap_ns - each.zombie_ns, 0)
        for each in lives
        if each.reap_ns is not None and each.zombie_ns is not None
    )


def latencies(lives: Sequence[Life]) -> list[int]:
    return sorted(
        each.reap_ns - each.exit_ns
        for each in lives
        if each.reap_ns is not None and each.exit_ns is not None
    )


def kind_of(life: Life) -> Optional[str]:
    if life.reap_ns is None:
        return None
    if life.reaped_by is ReapedBy.KERNEL:
        return "kernel"
    if life.reaper is None or life.reap_call is None:
        return "unseen"
    return life.reap_call.kind or life.reap_call.syscall or "unseen"


def nearest(values: Sequence[int], percent: int) -> int:
    return values[math.ceil(percent / 100 * len(values)) - 1]


def check_spread(found: Spread, values: Sequence[int]) -> None:
    if not values:
        assert (found.distribution, list(found.histogram)) == (None, [])
        return
    distribution = found.distribution
    assert distribution is not None
    assert (distribution.count, distribution.min_ns, distribution.max_ns) == (
        len(values), values[0], values[-1],
    )  # fmt: skip
    assert [distribution.p50_ns, distribution.p90_ns, distribution.p99_ns] == [
        nearest(values, each) for each in (50, 90, 99)
    ]
    for bucket in found.histogram:
        assert bucket.count == sum(bucket.low_ns <= each < bucket.high_ns for each in values)
    assert sum(bucket.count for bucket in found.histogram) == len(values)


@pytest.mark.parametrize("seed", range(60))
def test_counts_and_percentiles(seed: int) -> None:
    observed = made(seed)
    meta, lives = observed.meta, observed.lives
    with observe(observed) as found:
        totals = found.totals()
        assert found.count == totals.processes == len(lives)
        assert totals.reaped == sum(each.reap_ns is not None for each in lives)
        still = [
            each for each in lives
            if each.reap_ns is None and (each.zombie_ns is not None or each.was_zombie)
        ]  # fmt: skip
        assert totals.zombie == len(still)
        assert totals.running == len(lives) - totals.reaped - totals.zombie
        by = Counter(
            each.reaped_by or ReapedBy.UNSEEN for each in lives if each.reap_ns is not None
        )
        for reaped_by in ReapedBy:
            assert getattr(totals, f"by_{reaped_by.value}") == by[reaped_by]
        assert totals.killed == sum(
            each.wait_status is not None and 0 < each.wait_status & 0x7F < 0x7F for each in lives
        )
        assert totals.orphaned == sum(
            any(move.kind.value != "thread" for move in each.reparents) for each in lives
        )
        durations = [duration_of(each, meta) for each in lives]
        known = [each for each in durations if each is not None]
        assert totals.late == sum(each >= LATE for each in known)
        assert totals.longest_zombie_ns == max(known, default=None)
        zombies, reaps = found.zombie_intervals(), found.reap_latencies()
        check_spread(zombies.whole, intervals(lives))
        check_spread(reaps.whole, latencies(lives))
        assert found.reap_latency() == reaps.whole
        for spreads, values_of in ((zombies, intervals), (reaps, latencies)):
            kinds = {each for each in map(kind_of, lives) if each is not None}
            expected = {
                kind: values for kind in kinds
                if (values := values_of([each for each in lives if kind_of(each) == kind]))
            }  # fmt: skip
            assert {kind for kind, _ in spreads.by_kind} == set(expected)
            for kind, spread in spreads.by_kind:
                check_spread(spread, expected[kind])
        assert list(found.lives()) == list(lives)


@pytest.mark.parametrize("seed", range(60))
def test_lines(seed: int) -> None:
    observed = made(seed)
    meta = observed.meta
    reaped = [each for each in observed.lives if each.reap_ns is not None]
    with observe(observed) as found:
        questions: list[tuple[Any, Sequence[Life], Callable[[Life], Optional[Frame]]]] = [
            (found.fork_sites(), observed.lives, lambda life: life.fork_site),
            (found.reap_sites(latencies=True), reaped,
             lambda life: life.reap_call.site if life.reap_call else None),
        ]  # fmt: skip
        for summaries, lives, site_of in questions:
            assert {each.site for each in summaries} == {site_of(each) for each in lives}
            order = [(each.site is None, -each.late, -each.children) for each in summaries]
            assert order == sorted(order)
            for summary in summaries:
                those = [each for each in lives if site_of(each) == summary.site]
                assert summary.children == len(those)
                assert dict(summary.reaped_by) == dict(
                    Counter(kind for each in those if (kind := kind_of(each)) is not None)
                )
                assert list(summary.reaped_by.values()) == sorted(
                    summary.reaped_by.values(), reverse=True
                )
                check_figures(summary.intervals, intervals(those))
                durations = [duration_of(each, meta) for each in those]
                known = [each for each in durations if each is not None]
                assert summary.longest_ns == max(known, default=None)
                assert summary.late == sum(each >= LATE for each in known)
                assert summary.running == sum(each.state is State.RUNNING for each in those)
                assert summary.still_zombies == sum(each.state is State.ZOMBIE for each in those)
                if lives is reaped:
                    times = latencies(those)
                    assert summary.latency_p50_ns == (nearest(times, 50) if times else None)
                else:
                    for kind in summary.reaped_by:
                        times = intervals([each for each in those if kind_of(each) == kind])
                        assert summary.medians.get(kind) == (nearest(times, 50) if times else None)


def check_figures(found: Optional[Distribution], values: Sequence[int]) -> None:
    if not values:
        assert found is None
        return
    assert found is not None
    assert (found.count, found.p50_ns, found.p99_ns, found.max_ns) == (
        len(values), nearest(values, 50), nearest(values, 99), values[-1],
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_late_zombies(seed: int) -> None:
    observed = made(seed)
    threshold = random.Random(seed).choice([0, 1, 1000, 10**9])
    meta = replace(observed.meta, command=())  # nothing is a command of zombiebpf
    now = meta.ended_ns + meta.boottime_offset_ns
    expected = []
    for life in observed.lives:
        duration = duration_of(life, meta) or 0
        already = life.was_zombie and life.zombie_ns is None and life.exit_ns is None
        age = now - life.start_ns if already and life.reap_ns is None else 0
        if max(duration, age) >= max(threshold, 1):
            expected.append((life.pid, life.start_ns, duration))
    with observe(replace(observed, meta=meta)) as found:
        candidates = list(found.late_zombies(threshold))
        assert [
            (life.pid, life.start_ns, each.duration_ns)
            for each, life in zip(candidates, found.some(each.n for each in candidates))
        ] == expected
        for each, life in zip(candidates, found.some(each.n for each in candidates)):
            assert (each.site, each.kind, each.state) == (
                life.fork_site, kind_of(life), life.state,
            )  # fmt: skip
            assert each.above == (life.forker or life.parent)
            assert found.stack(each.stack) == life.fork_stack
            joins = [
                number for number, join in enumerate(observed.joins or (), start=1)
                if join.children[0] == (life.pid, life.start_ns)
            ]  # fmt: skip
            assert each.join == (joins[-1] if joins else None)


@pytest.mark.parametrize("seed", range(60))
def test_absences(seed: int) -> None:
    observed = made(seed)
    words = Wording()
    expected: Counter[tuple[str, str]] = Counter()
    for life in observed.lives:
        expected.update(absences(life, words))
    counted: Counter[tuple[str, str]] = Counter()
    with observe(observed) as found:
        for life, count in found.absences():
            for each in absences(life, words):
                counted[each] += count
    assert counted == expected


def parent_of(life: Life, lives: Sequence[Life]) -> Optional[Life]:
    """Its forker: the last process with that PID before it, unless that was reaped by then."""

    def order(each: Life) -> tuple[int, int]:
        return -1 if each.fork_ns is None else each.fork_ns, each.start_ns

    above = life.forker or life.parent
    before = [
        each for each in lives
        if above is not None and each.pid == above.pid and order(each) < order(life)
    ]  # fmt: skip
    if not before:
        return None
    last = max(before, key=order)
    gone = last.reap_ns is not None and life.fork_ns is not None and last.reap_ns < life.fork_ns
    return None if gone else last


@pytest.mark.parametrize("seed", range(60))
def test_the_fork_tree(seed: int) -> None:
    observed = made(seed)
    chance = random.Random(seed)
    lives = [
        life._replace(forker=Actor(chance.randrange(1, 60), None, "sh")) for life in observed.lives
    ]
    with observe(replace(observed, lives=lives)) as found:
        branches = found.tree(10_000, 1)
        assert len(branches) == len(lives)
        assert {each.n for each in branches} == set(range(1, len(lives) + 1))
        for branch in branches:
            assert branch.life is not None
            above = parent_of(branch.life, lives)
            shown = branches[branch.parent].life if branch.parent >= 0 else None
            assert shown == above
            assert branch.depth == (branches[branch.parent].depth + 1 if above else 0)
        assert list(found.in_tree()) == [each.n for each in branches]
        fewer = found.tree(0, 5)
        counted = sum(1 if each.group is None else each.group.count for each in fewer)
        assert counted == len(lives)
        groups = [each.group for each in fewer if each.group is not None]
        alone = {each.n for each in fewer if each.group is None}
        others = [life for n, life in enumerate(lives, start=1) if n not in alone]
        assert sum(each.zombies for each in groups) == sum(
            each.state is State.ZOMBIE for each in others
        )
        assert sum(each.intervals.count for each in groups if each.intervals) == len(
            intervals(others)
        )
        for branch in fewer:
            assert branch.parent < fewer.index(branch)


def test_several_traces_are_one(tmp_path: Path) -> None:
    """Lines, stacks and texts have other numbers in each file."""
    observed = made(5)
    meta = observed.meta
    halves = observed.lives[::2], observed.lives[1::2]
    paths = []
    for number, half in enumerate(halves):
        path = tmp_path / f"{number}.db"
        with TraceWriter(str(path), meta) as trace:
            trace.add(rows(half), (observed.joins or [])[number::2])
            trace.close(meta)
        paths.append(str(path))
    with open_traces(paths) as both, both.observation() as together, observe(observed) as one:
        assert sorted(together.lives()) == sorted(one.lives())
        assert together.totals() == one.totals()
        assert {each.site: each for each in together.fork_sites()} == {
            each.site: each for each in one.fork_sites()
        }
        assert together.zombie_intervals().whole == one.zombie_intervals().whole
        assert sum(1 for _ in together.late_zombies(1)) == sum(1 for _ in one.late_zombies(1))
        assert sorted(map(str, together.joins())) == sorted(map(str, one.joins()))


@pytest.mark.parametrize(
    ("column", "value", "line"),
    [
        ("reap_ns", "'x'", "'x' stands where a number should"),
        ("zombie_ns", "1.5", "1.5 stands where a number should"),
        ("exit_ns", "-1", "-1 stands where a number should"),
        ("wait_status", "70000", "70000 stands where a number should"),
        ("was_zombie", "2", "2 stands where 0 or 1 should"),
        ("reaped_by", "'nobody'", "'nobody' stands where one of"),
        ("reap_ns", "1", "PID 50003 was reaped before it died"),
        ("fork_site", "99", "frame 99 is missing"),
    ],
)
def test_a_value_that_no_trace_has_is_refused_before_anything_is_counted(
    column: str, value: str, line: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.db"
    observed = analysis([app(), *(ended(50_000 + n, n * MS) for n in range(9))])
    with TraceWriter(str(path), observed.meta) as trace:
        trace.add(rows(observed.lives), ())
        trace.close(observed.meta)
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE life SET {column} = {value} WHERE pid = 50003")
    db.close()
    with open_traces([str(path)]) as read:
        with pytest.raises(DamagedTraceError) as caught, read.observation():
            pass
        assert caught.value.what.startswith(f"{path}: {line}")


def test_a_zombie_instant_after_the_reap_is_read_if_it_is_a_bound(tmp_path: Path) -> None:
    late = ended(7, zombie_exact=False)
    late = late._replace(zombie_ns=(late.reap_ns or 0) + 5)
    with observe(analysis([late])) as found:
        assert list(found.lives()) == [late]
        assert found.zombie_intervals().whole.distribution is not None
        assert found.totals().interval_bounds == 1


def test_a_group_keeps_a_few_examples_and_counts_all() -> None:
    lives = [app(), *(ended(100 + n, n, latency=S + n * MS) for n in range(300))]
    with observe(analysis(lives, lasted=10 * S)) as found:
        (finding,) = findings(found)
        assert len(finding.processes) == 300
        assert len(finding.evidence) == 6
        assert finding.evidence[0].startswith("PID 399 ")
        assert finding.evidence[-1] == "and 295 more"
        assert [each[0] for each in found.keys(finding.processes)] == list(range(100, 400))


def test_roots_are_no_children() -> None:
    with observe(analysis([app(), ended(7), found_dead(8)])) as found:
        assert found.children() == 2
        assert found.forked_at(None) == 2
    with observe(analysis([ended(7), ended(8, forker=Actor(7, 7, "sh"))], command=())) as found:
        assert found.children() == 2


def test_adopters_of_an_orphan(tmp_path: Path) -> None:
    parent = ended(8, ran=S, wait_status=9)
    moved = adopted(at=S)._replace(from_=Actor(8, 8, "python3"))
    left = ended(7, ran=3 * S, forker=Actor(8, 8, "python3"), reparents=(moved,))
    with observe(analysis([app(), parent, left])) as found:
        (orphan,) = found.orphans()
        assert (orphan.ns, orphan.parent_pid, orphan.parent_signal) == (BEGAN + S, 8, 9)
        assert orphan.adopter == moved.to
        assert found.at(APP.pid, BEGAN + S) == 1
