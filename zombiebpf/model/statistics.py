# SPDX-License-Identifier: Apache-2.0
"""Counts and distributions of process records, in integer nanoseconds.

A *zombie interval* (reap - zombie) and a *reap latency* (reap - exit) are never
mixed. A process without one of them, because it was not reaped yet or the kernel
released it without a zombie, is left out of its figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from zombiebpf.model.life import Life
from zombiebpf.model.units import NS_PER_US


@dataclass(frozen=True)
class Distribution:
    """A set of durations: extremes and nearest-rank percentiles, in nanoseconds."""

    count: int
    min_ns: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    max_ns: int


@dataclass(frozen=True)
class Bucket:
    """The number of durations in [low_ns, high_ns)."""

    low_ns: int
    high_ns: int
    count: int


@dataclass(frozen=True)
class Spread:
    """How durations are spread."""

    distribution: Optional[Distribution]  # None: there are no durations
    histogram: Sequence[Bucket]  # see histogram()


@dataclass
class Totals:
    """The number of processes, by what became of them."""

    processes: int = 0
    running: int = 0
    zombie: int = 0  # still, at the end of the observation
    by_parent: int = 0
    by_adopter: int = 0
    by_tracer: int = 0
    by_kernel: int = 0
    by_unseen: int = 0  # reaped, but the reaper was not observed
    orphaned: int = 0
    killed: int = 0  # ended by a signal
    late: int = 0  # zombies for LATE_NS or longer, reaped or not
    longest_zombie_ns: Optional[int] = None  # reaped or not; None: no zombie
    already_zombies: int = 0  # zombies since before the observation
    interval_bounds: int = 0  # zombie intervals with a late zombie or reap instant
    latency_bounds: int = 0  # reap latencies with a late reap instant

    @property
    def reaped(self) -> int:
        """Return the number of reaped processes."""
        return self.by_parent + self.by_adopter + self.by_tracer + self.by_kernel + self.by_unseen


def zombie_intervals(lives: Iterable[Life]) -> list[int]:
    """Return the observed zombie intervals in nanoseconds, in the order of `lives`.

    An interval whose late zombie instant lies after the reap counts as 0.
    """
    intervals = (life.zombie_interval_ns for life in lives)
    return [max(each, 0) for each in intervals if each is not None]


def reap_latencies(lives: Iterable[Life]) -> list[int]:
    """Return the observed reap latencies in nanoseconds, in the order of `lives`."""
    latencies = (life.reap_latency_ns for life in lives)
    return [max(each, 0) for each in latencies if each is not None]


def bounds(lives: Iterable[Life]) -> tuple[int, int]:
    """Return how many zombie intervals and how many reap latencies have a late instant."""
    intervals = latencies = 0
    for life in lives:
        exact = life.zombie_exact and life.reap_exact
        intervals += life.zombie_interval_ns is not None and not exact
        latencies += life.reap_latency_ns is not None and not life.reap_exact
    return intervals, latencies


def percentile(ordered: Sequence[int], percent: int) -> int:
    """Return the nearest-rank percentile of an ascending sequence.

    It is the value at rank ceil(percent / 100 * count), counted from 1: always one of
    the values, never interpolated. Raise ValueError if the sequence is empty or
    `percent` is not in 1..100.
    """
    if not ordered or not 1 <= percent <= 100:
        raise ValueError("a percentile needs a value and a percent in 1..100")
    return ordered[nearest_rank(percent, len(ordered)) - 1]


def nearest_rank(percent: int, count: int) -> int:
    """Return ceil(percent / 100 * count): the rank of a percentile, counted from 1."""
    return (percent * count + 99) // 100


def distribution(durations_ns: Iterable[int]) -> Optional[Distribution]:
    """Return the distribution of the durations; None if there are none."""
    ordered = sorted(durations_ns)
    if not ordered:
        return None
    return Distribution(
        count=len(ordered),
        min_ns=ordered[0],
        p50_ns=percentile(ordered, 50),
        p90_ns=percentile(ordered, 90),
        p99_ns=percentile(ordered, 99),
        max_ns=ordered[-1],
    )


def histogram(durations_ns: Iterable[int]) -> list[Bucket]:
    """Return a log2 histogram over microseconds: [0, 1), [1, 2), [2, 4), [4, 8)... us.

    Buckets are adjacent, from the lowest to the highest that holds a duration. There are
    none without durations. Raise ValueError for a negative duration.
    """
    counts: dict[int, int] = {}
    for duration in durations_ns:
        index = bucket_of(duration)
        counts[index] = counts.get(index, 0) + 1
    return buckets(counts)


def bucket_of(duration_ns: int) -> int:
    """Return the number of the bucket that holds a duration. Raise ValueError if it is negative."""
    if duration_ns < 0:
        raise ValueError(f"negative duration: {duration_ns} ns")
    return (duration_ns // NS_PER_US).bit_length()


def bucket_end_ns(index: int) -> int:
    """Return the end of the bucket with this number, which it does not hold."""
    return NS_PER_US << index


def buckets(counts: Mapping[int, int]) -> list[Bucket]:
    """Return a histogram from the count of each bucket number that holds a duration."""
    if not counts:
        return []
    return [
        Bucket(bucket_end_ns(index - 1) if index else 0, bucket_end_ns(index), counts.get(index, 0))
        for index in range(min(counts), max(counts) + 1)
    ]
