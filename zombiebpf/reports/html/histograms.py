# SPDX-License-Identifier: Apache-2.0
"""Durations by reaping call: percentiles, and bars upon one logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Callable, NamedTuple

from zombiebpf.attribution.sites import LONG_NS
from zombiebpf.life import Life
from zombiebpf.reports.places import by_kind
from zombiebpf.reports.wording import Wording, printable
from zombiebpf.statistics import Bucket, distribution, histogram

WIDTH, HEIGHT = 400.0, 36.0
LOWEST_NS = 1_000  # what lies below stands at the left edge

ALL = "all calls"

Durations = Callable[[Sequence[Life]], list[int]]


class Bar(NamedTuple):
    x: float
    width: float
    height: float
    title: str
    late: bool  # nothing that one would overlook


class Tick(NamedTuple):
    x: float
    percent: float
    text: str


class Row(NamedTuple):
    kind: str
    number: int  # of durations
    figures: Sequence[tuple[int, str]]  # p50, p90, p99, max: nanoseconds, and in words
    bars: Sequence[Bar]


class Chart(NamedTuple):
    rows: Sequence[Row]
    ticks: Sequence[Tick]


def chart(lives: Sequence[Life], durations: Durations) -> Chart:
    """A row for all, and one for each call if there is more than one."""
    kinds = [(kind, durations(those)) for kind, those in by_kind(lives)]
    kinds = [(kind, those) for kind, those in kinds if those]
    everything = [each for _, those in kinds for each in those]
    if not everything:
        return Chart((), ())
    buckets = histogram(everything)
    scale = _Scale(max(buckets[0].low_ns, LOWEST_NS), max(buckets[-1].high_ns, 10 * LOWEST_NS))
    groups = kinds if len(kinds) == 1 else [(ALL, everything), *kinds]
    return Chart([_row(kind, those, scale) for kind, those in groups], scale.ticks())


class _Scale:
    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def x(self, ns: int) -> float:
        """0..WIDTH."""
        part = math.log(max(ns, self.low) / self.low) / math.log(self.high / self.low)
        return round(part * WIDTH, 2)

    def ticks(self) -> list[Tick]:
        """At powers of ten; every third of them where there are many."""
        powers = [10**n for n in range(3, 16) if self.low <= 10**n <= self.high]
        if len(powers) > 5:
            powers = [each for each in powers if math.log10(each) % 3 == 0]
        words = Wording()
        return [
            Tick(self.x(each), round(self.x(each) / WIDTH * 100, 2), words.duration(each))
            for each in powers
        ]


def _row(kind: str, durations: Sequence[int], scale: _Scale) -> Row:
    found = distribution(durations)
    assert found is not None
    words = Wording()
    figures = [
        (each, words.duration(each))
        for each in (found.p50_ns, found.p90_ns, found.p99_ns, found.max_ns)
    ]
    buckets = [each for each in histogram(durations) if each.count]
    most = max(each.count for each in buckets)
    return Row(printable(kind), found.count, figures, [_bar(each, most, scale) for each in buckets])


def _bar(bucket: Bucket, most: int, scale: _Scale) -> Bar:
    words = Wording()
    begin, end = scale.x(bucket.low_ns), scale.x(bucket.high_ns)
    height = max(bucket.count / most * HEIGHT, 2.0)
    low = words.duration(bucket.low_ns) if bucket.low_ns else "0"
    title = f"{low} - {words.duration(bucket.high_ns)}: {bucket.count}"
    return Bar(
        begin, round(max(end - begin - 1, 1), 2), round(height, 2), title, bucket.low_ns >= LONG_NS
    )
