# SPDX-License-Identifier: Apache-2.0
"""Durations by reaping call: percentiles, and histograms on one logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from zombiebpf.model.life import LATE_NS
from zombiebpf.model.observation import Spreads
from zombiebpf.model.statistics import Bucket, Spread
from zombiebpf.wording.text import printable
from zombiebpf.wording.wording import UNICODE_WORDS as WORDS

WIDTH, HEIGHT = 400.0, 36.0  # of a histogram, in units of its SVG viewBox
LOWEST_NS = 1_000  # shorter durations are drawn at the left edge

ALL = "all calls"


class Bar(NamedTuple):
    """A bucket of a histogram."""

    x: float
    width: float
    height: float
    title: str
    late: bool  # LATE_NS or longer: drawn in another colour


class Tick(NamedTuple):
    """A label of the scale."""

    x: float
    percent: float  # of the width
    text: str


class Row(NamedTuple):
    """The durations of one reaping call."""

    kind: str
    number: int  # of durations
    figures: Sequence[tuple[int, str]]  # p50, p90, p99, max: nanoseconds, and in words
    bars: Sequence[Bar]


class Chart(NamedTuple):
    """Histograms on one scale."""

    rows: Sequence[Row]
    ticks: Sequence[Tick]


def chart(spreads: Spreads) -> Chart:
    """Return a row for all durations, and one for each call if there are several."""
    buckets = spreads.whole.histogram
    if not buckets:
        return Chart((), ())
    scale = _Scale(max(buckets[0].low_ns, LOWEST_NS), max(buckets[-1].high_ns, 10 * LOWEST_NS))
    kinds = list(spreads.by_kind)
    groups = kinds if len(kinds) == 1 else [(ALL, spreads.whole), *kinds]
    return Chart([_row(kind, each, scale) for kind, each in groups], scale.ticks())


class _Scale:
    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def x(self, ns: int) -> float:
        """Return the position of a duration, 0 to WIDTH."""
        part = math.log(max(ns, self.low) / self.low) / math.log(self.high / self.low)
        return round(part * WIDTH, 2)

    def ticks(self) -> list[Tick]:
        """Return ticks at powers of ten; if there are more than five, at every third."""
        powers = [10**n for n in range(3, 16) if self.low <= 10**n <= self.high]
        if len(powers) > 5:
            powers = [each for each in powers if math.log10(each) % 3 == 0]
        return [
            Tick(self.x(each), round(self.x(each) / WIDTH * 100, 2), WORDS.duration(each))
            for each in powers
        ]


def _row(kind: str, spread: Spread, scale: _Scale) -> Row:
    found = spread.distribution
    assert found is not None
    figures = [
        (each, WORDS.duration(each))
        for each in (found.p50_ns, found.p90_ns, found.p99_ns, found.max_ns)
    ]
    buckets = [each for each in spread.histogram if each.count]
    most = max(each.count for each in buckets)
    return Row(printable(kind), found.count, figures, [_bar(each, most, scale) for each in buckets])


def _bar(bucket: Bucket, most: int, scale: _Scale) -> Bar:
    begin, end = scale.x(bucket.low_ns), scale.x(bucket.high_ns)
    height = max(bucket.count / most * HEIGHT, 2.0)
    low = WORDS.duration(bucket.low_ns) if bucket.low_ns else "0"
    title = f"{low} - {WORDS.duration(bucket.high_ns)}: {bucket.count}"
    return Bar(
        begin, round(max(end - begin - 1, 1), 2), round(height, 2), title, bucket.low_ns >= LATE_NS
    )
