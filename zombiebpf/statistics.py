# SPDX-License-Identifier: Apache-2.0
"""How long, how many: figures drawn from lives. Pure, integer nanoseconds.

A *zombie interval* (reap - zombie) and a *reap latency* (reap - exit) are never
mixed. A life without one of them adds nothing to its figures: neither a process
that was not reaped yet, nor one that the kernel released without a zombie.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from zombiebpf.life import Life, ReapedBy, State

NS_PER_US = 1_000


@dataclass(frozen=True)
class Distribution:
    """What a set of durations looks like, in nanoseconds."""

    count: int
    min_ns: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    max_ns: int


@dataclass(frozen=True)
class Bucket:
    """Durations in [low_ns, high_ns)."""

    low_ns: int
    high_ns: int
    count: int


@dataclass
class Totals:
    """How many processes there were, and what became of them."""

    processes: int = 0
    running: int = 0
    zombie: int = 0  # still, at the end of the observation
    by_parent: int = 0
    by_adopter: int = 0
    by_tracer: int = 0
    by_kernel: int = 0
    by_unseen: int = 0  # reaped, but by whom was not seen
    orphaned: int = 0
    killed: int = 0  # ended by a signal

    @property
    def reaped(self) -> int:
        return self.by_parent + self.by_adopter + self.by_tracer + self.by_kernel + self.by_unseen


def totals(lives: Iterable[Life]) -> Totals:
    """Count the processes. Each is one of running, zombie or reaped."""
    result = Totals()
    for life in lives:
        result.processes += 1
        result.orphaned += life.orphaned
        result.killed += life.signal is not None
        if life.state is State.RUNNING:
            result.running += 1
        elif life.state is State.ZOMBIE:
            result.zombie += 1
        elif life.reaped_by is ReapedBy.PARENT:
            result.by_parent += 1
        elif life.reaped_by is ReapedBy.ADOPTER:
            result.by_adopter += 1
        elif life.reaped_by is ReapedBy.TRACER:
            result.by_tracer += 1
        elif life.reaped_by is ReapedBy.KERNEL:
            result.by_kernel += 1
        else:
            result.by_unseen += 1
    return result


def zombie_intervals(lives: Iterable[Life]) -> list[int]:
    """The zombie intervals seen, in nanoseconds, in the order of the lives.

    A late bound of the zombie instant may lie after the reap; the interval is
    then known to be >= 0 only, and counts as 0.
    """
    intervals = (life.zombie_interval_ns for life in lives)
    return [max(each, 0) for each in intervals if each is not None]


def reap_latencies(lives: Iterable[Life]) -> list[int]:
    """The reap latencies seen, in nanoseconds, in the order of the lives."""
    latencies = (life.reap_latency_ns for life in lives)
    return [max(each, 0) for each in latencies if each is not None]


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The nearest-rank percentile of an ascending, non-empty sequence.

    That is the smallest value such that at least `percent` % of all values are
    less than or equal to it: the value at rank ceil(percent / 100 * count),
    counted from 1. It is always one of the values; nothing is interpolated.

    Raises ValueError if the sequence is empty or `percent` is not in 1..100.
    """
    if not ordered or not 1 <= percent <= 100:
        raise ValueError("a percentile needs a value and a percent in 1..100")
    rank = (percent * len(ordered) + 99) // 100
    return ordered[rank - 1]


def distribution(durations_ns: Iterable[int]) -> Optional[Distribution]:
    """Count, extremes and nearest-rank percentiles; None of nothing."""
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
    """A log2 histogram over microseconds: [0, 1), [1, 2), [2, 4), [4, 8)... us.

    Buckets are adjacent, from the lowest to the highest that holds a duration;
    those between are there even if empty. Empty of nothing.

    Raises ValueError for a negative duration.
    """
    counts: dict[int, int] = {}
    for duration in durations_ns:
        if duration < 0:
            raise ValueError(f"negative duration: {duration} ns")
        index = (duration // NS_PER_US).bit_length()
        counts[index] = counts.get(index, 0) + 1
    if not counts:
        return []
    return [
        Bucket(_edge_ns(index), _edge_ns(index + 1), counts.get(index, 0))
        for index in range(min(counts), max(counts) + 1)
    ]


def _edge_ns(index: int) -> int:
    return NS_PER_US << (index - 1) if index else 0
