# SPDX-License-Identifier: Apache-2.0
"""Compare two observations of the same program: what got better or worse, and by how much.

A verdict is given only if the difference is statistically significant. With few
observations there is none, only the figures.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Callable, Optional

from zombiebpf.model.analysis import Analysis, Meta
from zombiebpf.model.life import LATE_NS, Life, State
from zombiebpf.model.stack import Frame
from zombiebpf.model.statistics import Distribution, distribution, reap_latencies

MIN_COUNT = 5  # zombie intervals on each side that a verdict needs
MAX_P_VALUE = 0.01  # of a significant difference
MIN_RATIO = 1.1  # of two medians that differ noticeably

ABSENT = Frame("", "", None)  # the counterpart of a line that only one side has

BETTER, WORSE, MIXED = "better", "worse", "mixed"
SAME, FEW, NEW, GONE = "no clear change", "too few to tell", "new", "gone"


@dataclass(frozen=True)
class Side:
    """The children of one line, or all, in one observation."""

    lives: int
    zombies: int  # reaped or not
    late: int  # zombies for LATE_NS or longer
    still: int  # zombies at the end of the observation
    # Zombie intervals, up to the end for those that were not reaped, without those that were
    # zombies already when the observation began.
    intervals: Optional[Distribution]
    latency: Optional[Distribution]
    kinds: Mapping[str, int]  # reaping call -> children


@dataclass(frozen=True)
class Row:
    """A line of the user's code, or all children, before and after."""

    before_at: Optional[Frame]
    after_at: Optional[Frame]
    before: Side
    after: Side
    median_ratio: Optional[float]  # after / before, of the medians of `intervals`
    p_value: Optional[float]  # of the difference of `intervals`: mann_whitney_p()
    late_p_value: Optional[float]  # of the difference of the shares of `late`: fisher_exact_p()

    @property
    def verdict(self) -> str:
        """Return BETTER, WORSE, MIXED, SAME, NEW or GONE; FEW with too few observations."""
        before, after, ratio = self.before, self.after, self.median_ratio
        if not before.lives or not after.lives:
            return NEW if after.lives else GONE
        if self.p_value is None or self.late_p_value is None:
            return FEW
        found = set()
        if self.late_p_value < MAX_P_VALUE:
            more = after.late * before.zombies > before.late * after.zombies
            found.add(WORSE if more else BETTER)
        if self.p_value < MAX_P_VALUE and ratio is not None:
            if ratio >= MIN_RATIO:
                found.add(WORSE)
            elif ratio <= 1 / MIN_RATIO:
                found.add(BETTER)
        if not found:
            return SAME
        return found.pop() if len(found) == 1 else MIXED


@dataclass(frozen=True)
class Comparison:
    """Two observations compared: as a whole, and by the line that forked."""

    whole: Row
    sites: Sequence[Row]  # the worst first
    complete: tuple[bool, bool]  # whether no record was lost: before, after


def compare(before: Analysis, after: Analysis) -> Comparison:
    """Compare all processes, and those of each line that forked some."""
    old, new = _by_line(before), _by_line(after)
    rows = []
    for left, right in _pairs(list(old), list(new)):
        before_at, after_at = (None if line is ABSENT else line for line in (left, right))
        first = replace(before, lives=old.get(left, ()))
        second = replace(after, lives=new.get(right, ()))
        rows.append(_row(before_at, after_at, first, second))
    order = (WORSE, MIXED, NEW, FEW, SAME, BETTER, GONE)
    rows.sort(key=lambda row: (order.index(row.verdict), -row.after.late, -row.after.lives))
    complete = (not before.meta.lost_events, not after.meta.lost_events)
    return Comparison(_row(None, None, before, after), rows, complete)


def _by_line(analysis: Analysis) -> dict[Optional[Frame], Sequence[Life]]:
    """Return the children of each line: most late zombies first, then most children."""
    lines: dict[Optional[Frame], list[Life]] = {}
    for life in analysis.lives:
        lines.setdefault(life.fork_site, []).append(life)

    def order(item: tuple[Optional[Frame], Sequence[Life]]) -> tuple[bool, int, int]:
        late = sum(each >= LATE_NS for each in _durations(item[1], analysis.meta))
        return item[0] is None, -late, -len(item[1])

    return dict(sorted(lines.items(), key=order))


def _pairs(
    old: Sequence[Optional[Frame]], new: Sequence[Optional[Frame]]
) -> list[tuple[Optional[Frame], Optional[Frame]]]:
    """Pair the lines of both sides; ABSENT is the counterpart of a line without one.

    Lines that moved are paired if they are the only ones of the same function and file; if
    the files moved, of files of the same name.
    """
    left, right = dict.fromkeys(old), dict.fromkeys(new)
    pairs: list[tuple[Optional[Frame], Optional[Frame]]] = []
    keys: tuple[Callable[[Frame], object], ...] = (
        lambda line: line,
        lambda line: (line.file, line.function),
        lambda line: (line.file.rsplit("/", 1)[-1], line.function, line.line),
        lambda line: (line.file.rsplit("/", 1)[-1], line.function),
    )
    if None in left and None in right:
        pairs.append((None, None))
    for key in keys:
        ones, twos = _unique(left, key), _unique(right, key)
        for name in [each for each in ones if each in twos]:
            pairs.append((ones[name], twos[name]))
            del left[ones[name]], right[twos[name]]
    gone = [(line, ABSENT) for line in left if line is not None or None not in right]
    added = [(ABSENT, line) for line in right if line is not None or None not in left]
    return [*pairs, *gone, *added]


def _unique(
    lines: Iterable[Optional[Frame]], key: Callable[[Frame], object]
) -> dict[object, Frame]:
    """Return key -> line for the lines whose key no other line has."""
    frames = [line for line in lines if line is not None]
    counts = Counter(map(key, frames))
    return {key(line): line for line in frames if counts[key(line)] == 1}


def _row(
    before_at: Optional[Frame], after_at: Optional[Frame], old: Analysis, new: Analysis
) -> Row:
    before, after = _side(old), _side(new)
    ratio = p_value = late_p_value = None
    if before.intervals and after.intervals:
        if before.intervals.p50_ns:
            ratio = after.intervals.p50_ns / before.intervals.p50_ns
        if min(before.intervals.count, after.intervals.count) >= MIN_COUNT:
            p_value = mann_whitney_p(_intervals(old), _intervals(new))
            late_p_value = fisher_exact_p(before.late, before.zombies, after.late, after.zombies)
    return Row(before_at, after_at, before, after, ratio, p_value, late_p_value)


def _durations(lives: Iterable[Life], meta: Meta) -> list[int]:
    found = (each.zombie_duration_ns(meta.started_ns, meta.ended_ns) for each in lives)
    return [each for each in found if each is not None]


def _intervals(analysis: Analysis) -> list[int]:
    return _durations((each for each in analysis.lives if not each.already_zombie), analysis.meta)


def _side(analysis: Analysis) -> Side:
    lives = analysis.lives
    durations = _durations(lives, analysis.meta)
    kinds = Counter(kind for each in lives if (kind := each.reap_kind) is not None)
    return Side(
        lives=len(lives),
        zombies=len(durations),
        late=sum(each >= LATE_NS for each in durations),
        still=sum(each.state is State.ZOMBIE for each in lives),
        intervals=distribution(_intervals(analysis)),
        latency=distribution(reap_latencies(lives)),
        kinds=dict(kinds.most_common()),
    )


def mann_whitney_p(old: Sequence[int], new: Sequence[int]) -> float:
    """Return the two-sided p-value of Mann-Whitney's U test.

    It is the normal approximation with corrections for ties and continuity.
    """
    ranked = sorted([(value, 0) for value in old] + [(value, 1) for value in new])
    total, ranks, ties, begin = len(ranked), 0.0, 0, 0
    while begin < total:
        end = begin
        while end < total and ranked[end][0] == ranked[begin][0]:
            end += 1
        count = end - begin
        ranks += (begin + end + 1) / 2 * sum(side == 0 for _, side in ranked[begin:end])
        ties += count**3 - count
        begin = end
    pairs = len(old) * len(new)
    away = abs(ranks - len(old) * (len(old) + 1) / 2 - pairs / 2) - 0.5
    variance = pairs / 12 * (total + 1 - ties / (total * (total - 1)))
    return 1.0 if variance <= 0 or away <= 0 else math.erfc(away / math.sqrt(2 * variance))


def fisher_exact_p(old_hits: int, old: int, new_hits: int, new: int) -> float:
    """Return the two-sided p-value of Fisher's exact test: hits among `old`, hits among `new`."""
    hits, total = old_hits + new_hits, old + new

    def log(count: int) -> float:
        ways = math.lgamma(old + 1) - math.lgamma(count + 1) - math.lgamma(old - count + 1)
        rest = hits - count
        return ways + math.lgamma(new + 1) - math.lgamma(rest + 1) - math.lgamma(new - rest + 1)

    every = math.lgamma(total + 1) - math.lgamma(hits + 1) - math.lgamma(total - hits + 1)
    seen = log(old_hits)
    likely = [log(count) for count in range(max(0, hits - new), min(old, hits) + 1)]
    return min(1.0, math.fsum(math.exp(each - every) for each in likely if each <= seen + 1e-9))
