# SPDX-License-Identifier: Apache-2.0
"""Two observations of the same program: what got better, what worse, and by how much.

Pure. A verdict is given only where chance alone hardly makes such a difference; with
few observations there is none, and the figures stand for themselves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from zombiebpf.analysis import Analysis, Meta
from zombiebpf.attribution.sites import LONG_NS, Line, fork_sites, kind_of, least_ns, waited_ns
from zombiebpf.life import Life, State
from zombiebpf.statistics import Distribution, distribution, reap_latencies

FEWEST = 5  # observations on each side, from which a verdict is given
CHANCE = 0.01  # the most that a difference may owe to chance, to be called one
SMALLEST = 1.1  # of two medians' ratio, that is worth a word

ABSENT = Line("", None, "")  # what a line is compared with that only one side has

BETTER, WORSE, MIXED = "better", "worse", "mixed"
SAME, FEW, NEW, GONE = "no clear change", "too few to tell", "new", "gone"


@dataclass(frozen=True)
class Side:
    """The children of one line, or all, in one observation."""

    lives: int
    zombies: int  # that were one, or are
    late: int  # for LONG_NS or longer
    still: int  # at the end of the observation
    waited: Optional[Distribution]  # zombie intervals; up to the end for those that still are;
    # without those that were one before the observation began
    latency: Optional[Distribution]
    kinds: Mapping[str, int]  # reaping call -> children


@dataclass(frozen=True)
class Row:
    before_at: Optional[Line]
    after_at: Optional[Line]
    before: Side
    after: Side
    verdict: str
    median_ratio: Optional[float]  # after / before, of the zombie intervals' medians
    chance: Optional[float]  # of the medians' difference, if nothing had changed
    late_chance: Optional[float]  # the same of how many were late


@dataclass(frozen=True)
class Comparison:
    whole: Row
    sites: Sequence[Row]  # the worse first
    complete: tuple[bool, bool]  # no record was lost: before, after


def compare(before: Analysis, after: Analysis) -> Comparison:
    """All lives, and by the line that forked them."""
    old, new = _by_line(before), _by_line(after)
    rows = []
    for one, two in _pairs(list(old), list(new)):
        first, second = old.get(one, ()), new.get(two, ())
        was, is_ = (None if line is ABSENT else line for line in (one, two))
        rows.append(_row(was, is_, first, before.meta, second, after.meta))
    order = (WORSE, MIXED, NEW, FEW, SAME, BETTER, GONE)
    rows.sort(key=lambda row: (order.index(row.verdict), -row.after.late, -row.after.lives))
    whole = _row(None, None, before.lives, before.meta, after.lives, after.meta)
    return Comparison(whole, rows, (not before.meta.lost_events, not after.meta.lost_events))


def _by_line(analysis: Analysis) -> dict[Optional[Line], Sequence[Life]]:
    return {site.where: site.lives for site in fork_sites(analysis.lives, analysis.meta)}


def _pairs(
    old: Sequence[Optional[Line]], new: Sequence[Optional[Line]]
) -> list[tuple[Optional[Line], Optional[Line]]]:
    """The same line in both. Where lines have moved: the one line of the same function of
    the same file; where the files have moved: of files of the same name."""
    left, right = dict.fromkeys(old), dict.fromkeys(new)
    pairs: list[tuple[Optional[Line], Optional[Line]]] = []
    keys: tuple[Callable[[Line], object], ...] = (
        lambda line: line,
        lambda line: (line.file, line.function),
        lambda line: (line.file.rsplit("/", 1)[-1], line.function, line.line),
        lambda line: (line.file.rsplit("/", 1)[-1], line.function),
    )
    if None in left and None in right:
        pairs.append((None, None))
    for key in keys:
        ones, twos = _only(left, key), _only(right, key)
        for name in ones.keys() & twos.keys():
            pairs.append((ones[name], twos[name]))
            del left[ones[name]], right[twos[name]]
    gone = [(line, ABSENT) for line in left if line is not None or None not in right]
    come = [(ABSENT, line) for line in right if line is not None or None not in left]
    return [*pairs, *gone, *come]


def _only(lines: Iterable[Optional[Line]], key: Callable[[Line], object]) -> dict[object, Line]:
    """By their keys, those that share theirs with no other."""
    known = [line for line in lines if line is not None]
    counts = Counter(key(line) for line in known)
    return {key(line): line for line in known if counts[key(line)] == 1}


def _row(
    before_at: Optional[Line],
    after_at: Optional[Line],
    old: Sequence[Life],
    old_meta: Meta,
    new: Sequence[Life],
    new_meta: Meta,
) -> Row:
    before, after = _side(old, old_meta), _side(new, new_meta)
    ratio = chance = late_chance = None
    if before.waited and after.waited:
        if before.waited.p50_ns:
            ratio = after.waited.p50_ns / before.waited.p50_ns
        if min(before.waited.count, after.waited.count) >= FEWEST:
            chance = rank_chance(_waits(old, old_meta), _waits(new, new_meta))
            late_chance = share_chance(before.late, before.zombies, after.late, after.zombies)
    verdict = _verdict(before, after, ratio, chance, late_chance)
    return Row(before_at, after_at, before, after, verdict, ratio, chance, late_chance)


def _verdict(
    before: Side,
    after: Side,
    ratio: Optional[float],
    chance: Optional[float],
    late_chance: Optional[float],
) -> str:
    if not before.lives or not after.lives:
        return NEW if after.lives else GONE
    if chance is None or late_chance is None:
        return FEW
    found = set()
    if late_chance < CHANCE:
        more = after.late * before.zombies > before.late * after.zombies
        found.add(WORSE if more else BETTER)
    if chance < CHANCE and ratio is not None:
        if ratio >= SMALLEST:
            found.add(WORSE)
        elif ratio <= 1 / SMALLEST:
            found.add(BETTER)
    if not found:
        return SAME
    return found.pop() if len(found) == 1 else MIXED


def _waits(lives: Iterable[Life], meta: Meta) -> list[int]:
    return [ns for each in lives if (ns := waited_ns(each, meta.ended_ns)) is not None]


def _side(lives: Sequence[Life], meta: Meta) -> Side:
    waits = _waits(lives, meta)
    least = [ns for each in lives if (ns := least_ns(each, meta)) is not None]
    kinds = Counter(kind for each in lives if (kind := kind_of(each)) is not None)
    return Side(
        lives=len(lives),
        zombies=len(least),
        late=sum(each >= LONG_NS for each in least),
        still=sum(each.state is State.ZOMBIE for each in lives),
        waited=distribution(waits),
        latency=distribution(reap_latencies(lives)),
        kinds=dict(kinds.most_common()),
    )


def rank_chance(old: Sequence[int], new: Sequence[int]) -> float:
    """How likely ranks differ so much by chance: Mann-Whitney's U, two-sided.

    By the normal approximation with its corrections for ties and continuity.
    """
    ranked = sorted([(value, 0) for value in old] + [(value, 1) for value in new])
    total, ranks, ties, place = len(ranked), 0.0, 0, 0
    while place < total:
        end = place
        while end < total and ranked[end][0] == ranked[place][0]:
            end += 1
        count = end - place
        ranks += (place + end + 1) / 2 * sum(side == 0 for _, side in ranked[place:end])
        ties += count**3 - count
        place = end
    pairs = len(old) * len(new)
    away = abs(ranks - len(old) * (len(old) + 1) / 2 - pairs / 2) - 0.5
    variance = pairs / 12 * (total + 1 - ties / (total * (total - 1)))
    return 1.0 if variance <= 0 or away <= 0 else math.erfc(away / math.sqrt(2 * variance))


def share_chance(some: int, old: int, others: int, new: int) -> float:
    """How likely shares of `some` in `old` and `others` in `new` differ so by chance.

    Fisher's exact test, two-sided, by logarithms of factorials.
    """
    hits, total = some + others, old + new

    def log(count: int) -> float:
        ways = math.lgamma(old + 1) - math.lgamma(count + 1) - math.lgamma(old - count + 1)
        rest = hits - count
        return ways + math.lgamma(new + 1) - math.lgamma(rest + 1) - math.lgamma(new - rest + 1)

    every = math.lgamma(total + 1) - math.lgamma(hits + 1) - math.lgamma(total - hits + 1)
    seen = log(some)
    likely = [log(count) for count in range(max(0, hits - new), min(old, hits) + 1)]
    return min(1.0, math.fsum(math.exp(each - every) for each in likely if each <= seen + 1e-9))
