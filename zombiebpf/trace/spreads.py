# SPDX-License-Identifier: Apache-2.0
"""Percentiles and histograms of many groups in one pass over durations in ascending order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zombiebpf.model.statistics import (
    Bucket,
    Distribution,
    Spread,
    bucket_end_ns,
    bucket_of,
    buckets,
    nearest_rank,
)

PERCENTS = (50, 90, 99)


class Figures:
    """The figures of one group, whose number of durations is known before."""

    __slots__ = ("_before", "_buckets", "_found", "_ranks", "count", "due", "seen")

    def __init__(self, count: int) -> None:
        self.count = count
        self.seen = 0
        ranks = {1, count, *(nearest_rank(percent, count) for percent in PERCENTS)}
        self._ranks = sorted(ranks, reverse=True)
        self.due = self._ranks.pop()  # the next rank that is wanted
        self._found: dict[int, int] = {}
        self._buckets: dict[int, int] = {}
        self._before = 0

    def take(self, ns: int) -> None:
        """Take the duration at the rank `due`."""
        self._found[self.due] = ns
        self.due = self._ranks.pop() if self._ranks else 0

    def end_bucket(self, index: int) -> None:
        """Count what was seen since the last call into a bucket of the histogram."""
        if self.seen > self._before:
            self._buckets[index] = self.seen - self._before
            self._before = self.seen

    def distribution(self) -> Distribution:
        """Return the percentiles."""
        found, count = self._found, self.count
        p50, p90, p99 = (found[nearest_rank(percent, count)] for percent in PERCENTS)
        return Distribution(count, found[1], p50, p90, p99, found[count])

    def spread(self) -> Spread:
        """Return the percentiles and the histogram."""
        return Spread(self.distribution(), self.histogram())

    def histogram(self) -> list[Bucket]:
        """Return the histogram; empty if end_bucket() was not called."""
        return buckets(self._buckets)


def collect(
    rows: Iterable[tuple[Any, ...]],
    groups_of: Mapping[tuple[Any, ...], tuple[Figures, ...]],
    histograms: Iterable[Figures] = (),
) -> None:
    """Give each duration to its groups. A row is a duration and the key of its groups.

    `histograms` are the groups that get one, too.
    """
    histograms = tuple(histograms)
    index = end_ns = 0
    for row in rows:
        ns = row[0]
        if ns >= end_ns:
            for each in histograms:
                each.end_bucket(index)
            index = bucket_of(ns)
            end_ns = bucket_end_ns(index)
        for each in groups_of[row[1:]]:
            each.seen = seen = each.seen + 1
            if seen == each.due:
                each.take(ns)
    for each in histograms:
        each.end_bucket(index)


def spread_of(rows: Iterable[tuple[int]], count: int) -> Spread:
    """Return the spread of `count` durations."""
    if not count:
        return Spread(None, ())
    figures = Figures(count)
    index = end_ns = seen = 0
    due = figures.due
    for (ns,) in rows:
        if ns >= end_ns:
            figures.seen = seen
            figures.end_bucket(index)
            index = bucket_of(ns)
            end_ns = bucket_end_ns(index)
        seen += 1
        if seen == due:
            figures.take(ns)
            due = figures.due
    figures.seen = seen
    figures.end_bucket(index)
    return figures.spread()
