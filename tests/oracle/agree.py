# SPDX-License-Identifier: Apache-2.0
"""The same processes, observed by two sets of hooks at once: do both report the same?

Verdicts must be equal. Three things one of the two may not have seen, and then says so itself: a
zombie that no signal announced and that was claimed before the later look at it, a reap that comes
late, a stack of an interpreter that it came to know later. Where both look at one call of the
kernel, the function's hook comes before the tracepoint within it: an instant after it is wrong.

Where the kernel has left out runs of a set's programs (`lossy`), that set may lack more, which is
counted as seen by one, too; but what it reports must be the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Optional

from zombiebpf.model.life import AdopterKind, Life, ReapedBy
from zombiebpf.model.stack import Stack


@dataclass(frozen=True)
class Apart:
    """How far instants lie apart, the second set's less the first's, in microseconds."""

    count: int
    median: float
    p99: float  # of the distances
    max: float


class Agreement:
    """What agrees (`agreed`), what one has not seen and says so (`by_one`), what differs."""

    def __init__(self, lossy: bool = False) -> None:
        self.lossy = lossy
        self.agreed: Counter[str] = Counter()
        self.by_one: Counter[str] = Counter()
        self.different: list[str] = []
        self._apart_ns: dict[str, list[int]] = defaultdict(list)

    def same(self, fact: str, life: Life, one: object, other: object) -> None:
        if one == other:
            self.agreed[fact] += 1
        elif self.lossy and None in (one, other):
            self.by_one[fact] += 1
        else:
            self.different.append(f"pid {life.pid}: {fact}: {one} and {other}; {_short(life)}")

    def instant(
        self, fact: str, life: Life, one: Optional[int], other: Optional[int], ordered: bool
    ) -> None:
        """Nanoseconds that both have seen; `ordered`: the second hook is the first to be met."""
        if one is None or other is None:
            self.same(fact, life, one, other)
            return
        self._apart_ns[fact].append(other - one)
        if ordered and other > one:
            self.different.append(f"pid {life.pid}: {fact}: {other - one} ns after; {_short(life)}")

    @property
    def apart(self) -> dict[str, Apart]:
        """Fact -> how far its instants lie apart."""
        found = {}
        for fact, all_ns in self._apart_ns.items():
            far = sorted(abs(ns) / 1000 for ns in all_ns)
            p99 = far[min(len(far) - 1, len(far) * 99 // 100)]
            found[fact] = Apart(len(far), median(all_ns) / 1000, p99, far[-1])
        return found

    def table(self) -> str:
        rows = [f"{'fact':<22}{'agreed':>8}{'by one':>8}"]
        for fact in sorted({*self.agreed, *self.by_one}):
            rows.append(f"{fact:<22}{self.agreed[fact]:>8}{self.by_one[fact]:>8}")
        rows.append(f"{'instant, us apart':<22}{'count':>8}{'median':>10}{'p99':>10}{'max':>10}")
        for fact, each in self.apart.items():
            rows.append(
                f"{fact:<22}{each.count:>8}{each.median:>10.2f}{each.p99:>10.2f}{each.max:>10.2f}"
            )
        return "\n".join(rows)


def _short(life: Life) -> str:
    times = f"exit {life.exit_ns}, zombie {life.zombie_ns}, reap {life.reap_ns}"
    by = life.reaped_by and life.reaped_by.value
    return f"{life.comm} {life.pid} of {life.forker}, {times} by {by}, {life.reparents}"


def compare(
    base: Sequence[Life], others: Sequence[Life], ordered: bool, lossy: bool = False
) -> Agreement:
    """`ordered`: `base` is of tracepoints, `others` of the functions around them."""
    result = Agreement(lossy)
    known = _by_name(result, base)
    found = _by_name(result, others)
    for name in known.keys() ^ found.keys():
        if lossy:
            result.by_one["lives"] += 1
            continue
        result.different.append(f"seen by one only: {_short(known.get(name) or found[name])}")
    for name in known.keys() & found.keys():
        one, other = known[name], found[name]
        result.same("forker", one, one.forker, other.forker)
        result.instant("fork", one, one.fork_ns, other.fork_ns, False)
        _execs(result, one, other)
        result.same("wait status", one, one.wait_status, other.wait_status)
        result.instant("exit", one, one.exit_ns, other.exit_ns, False)
        _zombie(result, one, other, ordered)
        _adoptions(result, one, other, ordered)
        _reap(result, one, other, ordered)
    return result


def _by_name(result: Agreement, lives: Iterable[Life]) -> dict[tuple[int, int], Life]:
    found: dict[tuple[int, int], Life] = {}
    for life in lives:
        if (life.pid, life.start_ns) in found:
            result.different.append(f"seen twice: {_short(life)}")
        found[life.pid, life.start_ns] = life
    return found


def _execs(result: Agreement, one: Life, other: Life) -> None:
    both = len(one.execs), len(other.execs)
    if result.lossy and both[0] != both[1]:
        result.by_one["execs"] += 1
        return
    result.same("execs", one, *both)
    for first, second in zip(one.execs, other.execs):
        result.same("program", one, first.filename, second.filename)
        result.instant("exec", one, first.ns, second.ns, False)


def _verdict(life: Life) -> Optional[str]:
    if life.zombie_ns is None:
        return None
    return "exact" if life.zombie_exact else "late"


def _zombie(result: Agreement, one: Life, other: Life, ordered: bool) -> None:
    verdicts = _verdict(one), _verdict(other)
    if set(verdicts) == {"late", None}:
        result.by_one["zombie"] += 1
        return
    result.same("zombie", one, *verdicts)
    if verdicts[0] == verdicts[1] is not None:
        late = verdicts[0] == "late"
        fact = "zombie, no signal" if late else "zombie"
        result.instant(fact, one, one.zombie_ns, other.zombie_ns, ordered and late)


def _adoptions(result: Agreement, one: Life, other: Life, ordered: bool) -> None:
    """Orphanings. Which thread of a dying process a child passes through is seen at one moment
    or another."""
    ours, theirs = (
        [each for each in life.reparents if each.kind is not AdopterKind.THREAD]
        for life in (one, other)
    )
    exact = one.zombie_exact and other.zombie_exact  # else `while_zombie` is late as well
    adopters = [
        [
            (each.from_.pid, each.to.pid, each.kind, each.while_zombie if exact else None)
            for each in adoptions
        ]
        for adoptions in (ours, theirs)
    ]
    if result.lossy and len(ours) != len(theirs):
        result.by_one["adopters"] += 1
        return
    result.same("adopters", one, *adopters)
    for first, second in zip(ours, theirs):
        both = "adoption" if first.exact and second.exact else "adoption, late in one"
        result.instant(both, one, first.ns, second.ns, ordered)


def _places(stack: Optional[Stack]) -> object:
    """Before 3.11 the whole of a function's name is its source's, read when there is time."""
    frames = stack.frames if stack is not None else ()
    return [(each.function.rpartition(".")[2], each.file, each.line) for each in frames]


def _reap(result: Agreement, one: Life, other: Life, ordered: bool) -> None:
    if ReapedBy.UNSEEN in (one.reaped_by, other.reaped_by):
        if one.reaped_by is other.reaped_by:
            result.agreed["reap unseen"] += 1
        else:
            result.by_one["reap"] += 1
        return
    result.same("reaped by", one, one.reaped_by, other.reaped_by)
    result.same("reaper", one, one.reaper, other.reaper)
    calls = [each.reap_call for each in (one, other)]
    reaps = [call and (call.syscall, call.options) for call in calls]
    result.same("reap call", one, *reaps)
    stacks = [call.stack if call is not None else None for call in calls]
    if None not in stacks:
        result.same("reap stack", one, *map(_places, stacks))
    elif stacks[0] is not stacks[1]:
        result.by_one["reap stack"] += 1
    by_kernel = one.reaped_by is ReapedBy.KERNEL
    fact = "reap by the kernel" if by_kernel else "reap"
    late = not (one.reap_exact and other.reap_exact)
    if late:  # a leader that was released with its last thread, reported after that call
        result.same("late reap by the kernel", one, by_kernel, True)
        fact = "reap with a thread"
    result.instant(fact, one, one.reap_ns, other.reap_ns, ordered and not late)
