# SPDX-License-Identifier: Apache-2.0
"""Expectations on a run as a whole: order, overlap, results of joins, facts, counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from zombiebpf.model.life import Life, ReapedBy, State
from zombiebpf.model.units import NS_PER_S
from zombiebpf.scenario.bounds import BOUNDS, TIME_BOUNDS, Bounds, Tristate, all_of, any_of
from zombiebpf.scenario.expression import Expression, ExpressionError
from zombiebpf.scenario.joins import ChildJoin
from zombiebpf.scenario.kind import Context, Kind, Shown, reference, summary, why_no_process
from zombiebpf.scenario.nodes import Fields, Node
from zombiebpf.scenario.observed_run import Instant, ObservedRun, is_instant
from zombiebpf.scenario.sentences import WORDS, plain, seconds

RETURNED = ("reaped", "timeout", "already_reaped", "stolen")
WHAT = ("started", "zombies", "reaped", "orphans")


class Order(Kind):
    """order: each `first` instant precedes each `then` instant; with `any: true`, one pair does."""

    NAME = "order"
    KEYS = ("first", "then", "any", "apart")
    NEEDED = ("first", "then")

    def __init__(self, fields: Fields, context: Context) -> None:
        self.first, self.then = _instant(fields["first"]), _instant(fields["then"])
        self.any = fields.flag("any")
        self.apart = _nested_bounds(fields, "apart", context)

    def words(self, knobs: Mapping[str, object]) -> str:
        """Return `child.exit comes before parent.exit`."""
        text = f"{'some ' if self.any else ''}{self.first} comes before {self.then}"
        return text + (f", apart {self.apart.words(knobs, seconds)}" if self.apart else "")

    def judge(self, observed: ObservedRun) -> tuple[Tristate, str]:
        """Compare all pairs of instants, and describe two of those that decided."""
        firsts, thens = observed.instants(self.first), observed.instants(self.then)
        for text, found in ((self.first, firsts), (self.then, thens)):
            if not found:
                return None, f"{text}: {_no_instant(text, observed)}"
        shown = [
            self._pair(first, then, observed.knobs)
            for first in firsts
            for then in thens
            if first is not then
        ]
        held = (any_of if self.any else all_of)([each.held for each in shown])
        decisive = [each for each in shown if each.held is held] or shown
        more = len(decisive) - 2
        text = "; ".join(each.text for each in decisive[:2])
        return held, text + (f"; and {more} more such pairs" if more > 0 else "")

    def _pair(self, first: Instant, then: Instant, knobs: Mapping[str, object]) -> Shown:
        (first_name, first_ns), (then_name, then_ns) = first, then
        if first_ns is None or then_ns is None:
            return Shown(None, f"{first_name if first_ns is None else then_name} was not seen")
        apart = then_ns - first_ns
        word = "before" if apart > 0 else "after"
        text = f"{first_name} came {WORDS.duration(abs(apart))} {word} {then_name}"
        verdicts: list[Tristate] = [apart > 0]
        if self.apart:
            verdicts.append(self.apart.hold_ns(apart, apart, knobs))
        return Shown(all_of(verdicts), text, apart)


def _nested_bounds(fields: Fields, name: str, context: Context) -> Optional[Bounds]:
    nested = fields.read(name, lambda node: node.fields(name, TIME_BOUNDS))
    return None if nested is None else Bounds.read(nested, context.knobs)


def _instant(node: Node) -> str:
    text = node.text("an instant")
    if not is_instant(text):
        raise node.error(
            f"{text!r} is no instant",
            "ROLE.fork, .exec, .exit, .zombie, .reap, .reparent; fact.NAME; join.began, join.ended",
        )
    return text


def _no_instant(text: str, observed: ObservedRun) -> str:
    subject, _, name = text.rpartition(".")
    if subject == "fact":
        return f"the workload did not tell {name!r}"
    return "there was no join" if subject == "join" else why_no_process(subject, observed)


class Overlap(Kind):
    """overlap: the share of lifetimes that ran side by side; 0: serial, 1: all at once."""

    NAME = "overlap"
    KEYS = ("of", *TIME_BOUNDS)

    def __init__(self, fields: Fields, context: Context) -> None:
        self.of = reference(fields["of"])
        self.bounds = Bounds.read(fields, context.knobs)

    def words(self, knobs: Mapping[str, object]) -> str:
        """Return `the overlap of child is above 0.8`."""
        return f"the overlap of {self.of} is {self.bounds.words(knobs, plain)}"

    def judge(self, observed: ObservedRun) -> tuple[Tristate, str]:
        """Compare the overlap of the role's processes."""
        lives = observed.lives(self.of)
        if not lives:
            return None, why_no_process(self.of, observed)
        share = overlap(lives)
        if share is None:
            return None, f"{len(lives)} {self.of}: overlap needs two whose fork and exit were seen"
        held = self.bounds.hold(share, share, observed.knobs)
        return held, f"the overlap of {len(lives)} {self.of} was {share:.2f}"


def overlap(lives: Sequence[Life]) -> Optional[float]:
    """Return (sum of lifetimes - time when any lived) / (sum - longest lifetime).

    None: fewer than two processes, or a fork or exit was not observed.
    """
    spans = sorted(
        (life.fork_ns, life.exit_ns)
        for life in lives
        if life.fork_ns is not None and life.exit_ns is not None
    )
    if len(spans) < 2 or len(spans) < len(lives):
        return None
    total = sum(end - begin for begin, end in spans)
    covered, until = 0, spans[0][0]
    for begin, end in spans:
        covered += max(0, end - max(begin, until))
        until = max(until, end)
    return (total - covered) / (total - max(end - begin for begin, end in spans))


class JoinReturned(Kind):
    """join: what each join of a child returned, how long it lasted, when it came back."""

    NAME = "join"
    KEYS = ("of", "nth", "returned", "lasted", "after", "within")

    def __init__(self, fields: Fields, context: Context) -> None:
        self.of = reference(fields["of"])
        self.nth = fields.read("nth", lambda node: node.integer("nth"))
        self.returned = fields.read("returned", lambda node: node.some_of("returned", RETURNED))
        self.lasted = _nested_bounds(fields, "lasted", context)
        self.after = fields.read("after", reference)
        self.within: Optional[Expression] = None
        if "within" in fields:
            if self.after is None:
                raise fields["within"].error("within is of after, which is missing", "after: child")
            self.within = fields["within"].expression("within", context.knobs)
        if not (self.returned or self.lasted or self.after):
            raise fields.node.error("join says nothing", "returned, lasted or after")

    def words(self, knobs: Mapping[str, object]) -> str:
        """Return `join of child returns reaped and lasts about 1 s`."""
        parts = []
        if self.returned:
            parts.append(f"returns {' or '.join(self.returned)}")
        if self.lasted:
            parts.append(f"lasts {self.lasted.words(knobs, seconds)}")
        if self.after:
            limit = f"within {seconds(self.within.value(knobs))} " if self.within else ""
            parts.append(f"comes back {limit}after {self.after} has become a zombie")
        which = "join" if self.nth is None else f"join {self.nth}"
        return f"{which} of {self.of} {' and '.join(parts)}"

    def judge(self, observed: ObservedRun) -> tuple[Tristate, str]:
        """Judge each join, or the nth one, and describe those that decided."""
        joins = observed.joins_of(self.of)
        if self.nth is not None:
            joins = joins[self.nth : self.nth + 1]
        if not joins:
            if not observed.lives(self.of):
                return None, why_no_process(self.of, observed)
            return False, f"no such join of {self.of} was made"
        shown = [
            (f"{each.call} of {observed.child_name(each)}", self._judge_join(each, observed))
            for each in joins
        ]
        held = all_of([each.held for _, each in shown])
        decisive = [pair for pair in shown if pair[1].held is held] or shown
        return held, summary("", decisive)

    def _judge_join(self, each: ChildJoin, observed: ObservedRun) -> Shown:
        join, verdicts = each.join, list[Tristate]()
        text = f"returned {join.returned or 'what contradicts the kernel'}"
        text += f" after {WORDS.duration(each.lasted_ns)}"
        if self.returned:
            verdicts.append(None if join.returned is None else join.returned in self.returned)
        if self.lasted:
            verdicts.append(self.lasted.hold_ns(each.lasted_ns, each.lasted_ns, observed.knobs))
        if self.after:
            held, words = self._came_back(each, observed)
            verdicts.append(held)
            text += f", {words}"
        return Shown(all_of(verdicts), text)

    def _came_back(self, each: ChildJoin, observed: ObservedRun) -> tuple[Tristate, str]:
        assert self.after is not None
        lives = observed.lives(self.after)
        if not lives:
            return None, why_no_process(self.after, observed)
        own = [life for life in lives if life is each.child]
        verdicts, words = list[Tristate](), []
        for life in own or lives:
            if life.zombie_ns is None:
                verdicts.append(None)
                words.append(f"{observed.name(life)} was not seen as a zombie")
                continue
            later = each.ended_ns - life.zombie_ns
            limit = None if self.within is None else self.within.value(observed.knobs)
            verdicts.append(later >= 0 and (limit is None or later / NS_PER_S <= limit))
            word = f"{'after' if later >= 0 else 'before'} {observed.name(life)}"
            words.append(f"{WORDS.duration(abs(later))} {word} became a zombie")
        return all_of(verdicts), ", ".join(words)


class FactReported(Kind):
    """fact: what the workload reported itself.

    `equals` may be any value; text that is arithmetic over knobs is evaluated.
    """

    NAME = "fact"
    KEYS = ("name", "unit", *BOUNDS)
    NEEDED = ("name",)

    def __init__(self, fields: Fields, context: Context) -> None:
        self.name = fields["name"].text("name")
        self.unit = fields.read("unit", lambda node: node.one_of("unit", ("s",))) == "s"
        self.value = fields.read("equals", Node.plain)
        self.literal = "equals" in fields and not _is_number(self.value, context.knobs)
        names = [name for name in BOUNDS if not (self.literal and name == "equals")]
        self.bounds = Bounds.read(fields, context.knobs, needed=not self.literal, names=names)

    def words(self, knobs: Mapping[str, object]) -> str:
        """Return `the workload sees ppid 1`."""
        parts = [repr(self.value)] if self.literal else []
        if self.bounds:
            parts.append(self.bounds.words(knobs, seconds if self.unit else plain))
        return f"the workload sees {self.name} {' and '.join(parts)}"

    def judge(self, observed: ObservedRun) -> tuple[Tristate, str]:
        """Compare the last fact of that name."""
        fact = observed.fact(self.name)
        if fact is None:
            names = ", ".join(dict.fromkeys(each.name for each in observed.facts)) or "nothing"
            return None, f"the workload did not tell {self.name!r}; it told {names}"
        verdicts: list[Tristate] = []
        if self.literal:
            verdicts.append(fact.value == self.value)
        number = isinstance(fact.value, (int, float)) and not isinstance(fact.value, bool)
        shown = repr(fact.value)
        if self.bounds and not number:
            return False, f"the workload saw {self.name} {shown}, which is no number"
        if self.bounds:
            verdicts.append(self.bounds.hold(fact.value, fact.value, observed.knobs))
            shown = seconds(fact.value) if self.unit else plain(fact.value)
        return all_of(verdicts), f"the workload saw {self.name} {shown}"


def _is_number(value: object, knobs: Mapping[str, object]) -> bool:
    if isinstance(value, str):
        try:
            Expression(value).value(knobs)
        except ExpressionError:
            return False
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class Count(Kind):
    """count: how many of a role were started, were zombies, were reaped or were orphaned."""

    NAME = "count"
    KEYS = ("of", "what", *BOUNDS)

    def __init__(self, fields: Fields, context: Context) -> None:
        self.of = reference(fields["of"])
        self.what = fields.read("what", lambda node: node.one_of("what", WHAT)) or WHAT[0]
        self.bounds = Bounds.read(fields, context.knobs)

    def words(self, knobs: Mapping[str, object]) -> str:
        """Return `child, zombies: 3`."""
        return f"{self.of}, {self.what}: {self.bounds.words(knobs, plain)}"

    def judge(self, observed: ObservedRun) -> tuple[Tristate, str]:
        """Compare the count; processes of which it is unknown make it a range."""
        lives = observed.lives(self.of)
        sure = sum(_counts(life, self.what) is True for life in lives)
        unsure = sum(_counts(life, self.what) is None for life in lives)
        unsure += sum(each.startswith(self.of + " ") for each in observed.missing)
        held = self.bounds.hold(sure, sure + unsure, observed.knobs)
        some = f" to {sure + unsure}" if unsure else ""
        return held, f"{self.of}, {self.what}: {sure}{some}"


def _counts(life: Life, what: str) -> Tristate:
    if what == "zombies":
        if life.zombie_ns is not None:
            return True
        known = life.reaped_by is ReapedBy.KERNEL or life.state is State.RUNNING
        return False if known else None
    if what == "reaped":
        return life.state is State.REAPED
    if what == "orphans":
        return None if "reparents" in life.unseen else life.orphaned
    return True


KINDS: Mapping[str, type[Kind]] = {
    "order": Order,
    "overlap": Overlap,
    "join": JoinReturned,
    "fact": FactReported,
    "count": Count,
}
