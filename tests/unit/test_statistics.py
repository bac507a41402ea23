# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.unit.life_builders import (
    MS,
    US,
    S,
    analysis,
    app,
    autoreaped,
    crowd,
    ended,
    life,
    zombie,
)
from tests.unit.observations import asked
from zombiebpf.model.life import Life, ReapedBy
from zombiebpf.model.statistics import (
    Bucket,
    Distribution,
    Totals,
    distribution,
    histogram,
    percentile,
    reap_latencies,
    zombie_intervals,
)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5], 1, 5),
        ([5], 99, 5),
        ([15, 20, 35, 40, 50], 5, 15),
        ([15, 20, 35, 40, 50], 30, 20),
        ([15, 20, 35, 40, 50], 40, 20),
        ([15, 20, 35, 40, 50], 50, 35),
        ([15, 20, 35, 40, 50], 100, 50),
        ([1, 2], 50, 1),  # half of the values are <= 1: no rounding up, no mean
        (list(range(1, 101)), 99, 99),
        (list(range(1, 102)), 99, 100),  # rank ceil(99.99)
        (list(range(1, 1001)), 90, 900),
    ],
)
def test_percentile_is_the_nearest_rank(values: list[int], percent: int, expected: int) -> None:
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1], 0), ([1], 101)])
def test_percentile_of_nothing_is_refused(values: list[int], percent: int) -> None:
    with pytest.raises(ValueError, match=r"^a percentile needs a value and a percent in"):
        percentile(values, percent)


def test_distribution_sorts_by_itself() -> None:
    assert distribution(iter([7, 1, 23, 3])) == Distribution(4, 1, 3, 23, 23, 23)


def test_distribution_of_nothing_is_none() -> None:
    assert distribution([]) is None


@pytest.mark.parametrize(
    ("duration", "low", "high"),
    [
        (0, 0, US),
        (999, 0, US),
        (1_000, US, 2 * US),
        (1_999, US, 2 * US),
        (2_000, 2 * US, 4 * US),
        (1_023_999, 512 * US, 1024 * US),
        (1_024_000, 1024 * US, 2048 * US),
        (3 * S, 2_097_152 * US, 4_194_304 * US),
    ],
)
def test_bucket_edges(duration: int, low: int, high: int) -> None:
    assert histogram([duration]) == [Bucket(low, high, 1)]


def test_buckets_are_adjacent_and_hold_every_duration() -> None:
    durations = [500, 700, 5 * US, 6 * US, 7 * US, 40 * US]
    buckets = histogram(durations)
    assert [bucket.count for bucket in buckets] == [2, 0, 0, 3, 0, 0, 1]
    assert buckets[0].low_ns == 0
    assert all(one.high_ns == next_.low_ns for one, next_ in zip(buckets, buckets[1:]))


def test_histogram_of_nothing_is_empty() -> None:
    assert histogram([]) == []


def test_histogram_refuses_a_negative_duration() -> None:
    with pytest.raises(ValueError, match="-1 ns"):
        histogram([5, -1])


def test_interval_and_latency_are_not_mixed() -> None:
    lives = [ended(7, latency=131 * US), ended(23, latency=2 * MS)]
    assert zombie_intervals(lives) == [87 * US, 1_956 * US]
    assert reap_latencies(lives) == [131 * US, 2 * MS]


def test_what_was_not_seen_counts_as_nothing_rather_than_zero() -> None:
    lives = [life(1), zombie(2), autoreaped(3), ended(4, exit_ns=None), ended(5, zombie_ns=None)]
    assert zombie_intervals(lives) == [87 * US]  # of 4
    assert reap_latencies(lives) == [40 * US, 131 * US]  # of 3 and 5


def test_a_reap_at_the_instant_of_the_exit() -> None:
    assert reap_latencies([ended(7, latency=0)]) == [0]


def test_a_zombie_bound_later_than_the_reap_counts_as_zero() -> None:
    late = ended(7, zombie_exact=False)
    bound = (late.reap_ns or 0) + 5 * US
    assert zombie_intervals([late._replace(zombie_ns=bound)]) == [0]


def totals(lives: Sequence[Life]) -> Totals:
    return asked(analysis(lives), lambda observation: observation.totals())


def test_totals() -> None:
    assert totals(crowd().lives) == Totals(
        processes=20,
        running=1,
        zombie=2,
        by_parent=13,
        by_adopter=1,
        by_tracer=1,
        by_kernel=1,
        by_unseen=1,
        orphaned=2,
        killed=2,
        late=3,
        longest_zombie_ns=4_994_956_000,
        interval_bounds=2,
        latency_bounds=1,
    )
    assert totals(crowd().lives).reaped == 17


def test_totals_count_a_reap_by_nobody_known_as_unseen() -> None:
    found = totals([ended(7, reaped_by=None), ended(8, reaped_by=ReapedBy.UNSEEN)])
    assert (found.by_unseen, found.reaped) == (2, 2)


def test_totals_of_several_that_run() -> None:
    assert totals([life(7), life(8), life(9)]).running == 3


def test_totals_of_nothing() -> None:
    assert totals(analysis([]).lives) == Totals()
    assert totals([app()]).by_parent == 1
