# SPDX-License-Identifier: Apache-2.0
"""Expectations on a run as a whole: what came first, what ran side by side, what join returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from zombiebpf.life import Life, ReapedBy, State
from zombiebpf.scenario.bounds import BOUNDS, TIME_BOUNDS, Bounds, Truth, all_of, any_of
from zombiebpf.scenario.expression import Expression, ExpressionError
from zombiebpf.scenario.joins import ChildJoin
from zombiebpf.scenario.kind import Context, Kind, Shown, reference, together, unseen
from zombiebpf.scenario.nodes import Fields, Node
from zombiebpf.scenario.scene import Scene, called, duration, is_instant, seconds

S = 1_000_000_000
RETURNED = ("reaped", "timeout", "already_reaped", "stolen")
WHAT = ("started", "zombies", "reaped", "orphans")


def plain(value: float) -> str:
    """`0.8`, `3`."""
    return f"{value:g}"


class Order(Kind):
    """order: of all instants named by `first` and `then`; with `any: true`, of some pair."""

    def __init__(self, fields: Fields, context: Context) -> None:
        self.first, self.then = _instant(fields["first"]), _instant(fields["then"])
        self.any = "any" in fields and fields["any"].truth("any")
        self.apart: Optional[Bounds] = None
        if "apart" in fields:
            apart = fields["apart"].fields("apart", TIME_BOUNDS)
            self.apart = Bounds.read(apart, context.knobs)

    @classmethod
    def parse(cls, node: Node, context: Context) -> Kind:
        return cls(
            node.fields("order", ("first", "then", "any", "apart"), ("first", "then")), context
        )

    def words(self, knobs: Mapping[str, object]) -> str:
        text = f"{'some ' if self.any else ''}{self.first} comes before {self.then}"
        return text + (f", apart {self.apart.words(knobs, seconds)}" if self.apart else "")

    def judge(self, scene: Scene) -> tuple[Truth, str]:
        firsts, thens = scene.instants(self.first), scene.instants(self.then)
        for text, found in ((self.first, firsts), (self.then, thens)):
            if not found:
                return None, f"{text}: {_no_instant(text, scene)}"
        shown = [
            self._pair(first, then, scene.knobs)
            for first in firsts
            for then in thens
            if first is not then
        ]
        held = (any_of if self.any else all_of)([each.held for each in shown])
        speaking = [each for each in shown if each.held is held] or shown
        more = len(speaking) - 2
        text = "; ".join(each.text for each in speaking[:2])
        return held, text + (f"; and {more} more such pairs" if more > 0 else "")

    def _pair(
        self,
        first: tuple[str, Optional[int]],
        then: tuple[str, Optional[int]],
        knobs: Mapping[str, object],
    ) -> Shown:
        (first_name, first_ns), (then_name, then_ns) = first, then
        if first_ns is None or then_ns is None:
            return Shown(None, f"{first_name if first_ns is None else then_name} was not seen")
        apart = then_ns - first_ns
        word = "before" if apart > 0 else "after"
        text = f"{first_name} came {duration(abs(apart))} {word} {then_name}"
        truths: list[Truth] = [apart > 0]
        if self.apart:
            truths.append(self.apart.hold(apart / S, apart / S, knobs))
        return Shown(all_of(truths), text, apart)


def _instant(node: Node) -> str:
    text = node.text("an instant")
    if not is_instant(text):
        raise node.wrong(
            f"{text!r} is no instant",
            "ROLE.fork, .exec, .exit, .zombie, .reap, .reparent; fact.NAME; join.began, join.ended",
        )
    return text


def _no_instant(text: str, scene: Scene) -> str:
    subject, _, name = text.rpartition(".")
    if subject == "fact":
        return f"the workload did not tell {name!r}"
    return "there was no join" if subject == "join" else unseen(subject, scene)


class Overlap(Kind):
    """overlap: the share of lifetimes that ran side by side, 0 serial, 1 all at once."""

    def __init__(self, fields: Fields, context: Context) -> None:
        self.of = reference(fields["of"])
        self.bounds = Bounds.read(fields, context.knobs)

    @classmethod
    def parse(cls, node: Node, context: Context) -> Kind:
        return cls(node.fields("overlap", ("of", *TIME_BOUNDS), ("of",)), context)

    def words(self, knobs: Mapping[str, object]) -> str:
        return f"the overlap of {self.of} is {self.bounds.words(knobs, plain)}"

    def judge(self, scene: Scene) -> tuple[Truth, str]:
        lives = scene.lives(self.of)
        if not lives:
            return None, unseen(self.of, scene)
        share = overlap(lives)
        if share is None:
            return None, f"{len(lives)} {self.of}: overlap needs two whose fork and exit were seen"
        held = self.bounds.hold(share, share, scene.knobs)
        return held, f"the overlap of {len(lives)} {self.of} was {share:.2f}"


def overlap(lives: Sequence[Life]) -> Optional[float]:
    """(sum of lifetimes - time when any lived) / (sum - longest); None if that is unknown."""
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

    KEYS = ("of", "nth", "returned", "lasted", "after", "within")

    def __init__(self, fields: Fields, context: Context) -> None:
        self.of = reference(fields["of"])
        self.nth = fields["nth"].whole("nth") if "nth" in fields else None
        self.returned = (
            fields["returned"].some_of("returned", RETURNED) if "returned" in fields else ()
        )
        self.lasted: Optional[Bounds] = None
        if "lasted" in fields:
            lasted = fields["lasted"].fields("lasted", TIME_BOUNDS)
            self.lasted = Bounds.read(lasted, context.knobs)
        self.after = reference(fields["after"]) if "after" in fields else None
        self.within: Optional[Expression] = None
        if "within" in fields:
            if self.after is None:
                raise fields["within"].wrong("within is of after, which is missing", "after: child")
            self.within = fields["within"].expression("within", context.knobs)
        if not (self.returned or self.lasted or self.after):
            raise fields.node.wrong("join says nothing", "returned, lasted or after")

    @classmethod
    def parse(cls, node: Node, context: Context) -> Kind:
        return cls(node.fields("join", cls.KEYS, ("of",)), context)

    def words(self, knobs: Mapping[str, object]) -> str:
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

    def judge(self, scene: Scene) -> tuple[Truth, str]:
        joins = scene.joins_of(self.of)
        if self.nth is not None:
            joins = joins[self.nth : self.nth + 1]
        if not joins:
            if not scene.lives(self.of):
                return None, unseen(self.of, scene)
            return False, f"no such join of {self.of} was made"
        shown = [
            (f"{called(each)} of {_child(each, scene)}", self._one(each, scene)) for each in joins
        ]
        held = all_of([each.held for _, each in shown])
        speaking = [pair for pair in shown if pair[1].held is held] or shown
        return held, together("", speaking)

    def _one(self, each: ChildJoin, scene: Scene) -> Shown:
        join, truths = each.join, list[Truth]()
        text = f"returned {join.returned or 'what contradicts the kernel'}"
        text += f" after {duration(each.lasted_ns)}"
        if self.returned:
            truths.append(None if join.returned is None else join.returned in self.returned)
        if self.lasted:
            lasted = each.lasted_ns / S
            truths.append(self.lasted.hold(lasted, lasted, scene.knobs))
        if self.after:
            held, words = self._came_back(each, scene)
            truths.append(held)
            text += f", {words}"
        return Shown(all_of(truths), text)

    def _came_back(self, each: ChildJoin, scene: Scene) -> tuple[Truth, str]:
        assert self.after is not None
        lives = scene.lives(self.after)
        if not lives:
            return None, unseen(self.after, scene)
        own = [life for life in lives if life is each.child]
        truths, words = list[Truth](), []
        for life in own or lives:
            if life.zombie_ns is None:
                truths.append(None)
                words.append(f"{scene.name(life)} was not seen as a zombie")
                continue
            later = each.ended_ns - life.zombie_ns
            limit = None if self.within is None else self.within.value(scene.knobs)
            truths.append(later >= 0 and (limit is None or later / S <= limit))
            word = "after" if later >= 0 else "before"
            words.append(f"{duration(abs(later))} {word} {scene.name(life)} became a zombie")
        return all_of(truths), ", ".join(words)


def _child(each: ChildJoin, scene: Scene) -> str:
    return scene.name(each.child) if each.child is not None else f"PID {each.join.child_pid}"


class FactTold(Kind):
    """fact: what the workload saw itself. `equals` may be any value; text that is arithmetic
    over knobs is meant as such."""

    def __init__(self, fields: Fields, context: Context) -> None:
        self.name = fields["name"].text("name")
        self.unit = "unit" in fields and fields["unit"].one_of("unit", ("s",)) == "s"
        self.value = fields["equals"].plain() if "equals" in fields else None
        self.literal = "equals" in fields and not _is_number(self.value, context.knobs)
        names = [name for name in BOUNDS if not (self.literal and name == "equals")]
        self.bounds = Bounds.read(fields, context.knobs, needed=not self.literal, names=names)

    @classmethod
    def parse(cls, node: Node, context: Context) -> Kind:
        return cls(node.fields("fact", ("name", "unit", *BOUNDS), ("name",)), context)

    def words(self, knobs: Mapping[str, object]) -> str:
        parts = [repr(self.value)] if self.literal else []
        if self.bounds:
            parts.append(self.bounds.words(knobs, seconds if self.unit else plain))
        return f"the workload sees {self.name} {' and '.join(parts)}"

    def judge(self, scene: Scene) -> tuple[Truth, str]:
        fact = scene.fact(self.name)
        if fact is None:
            names = ", ".join(dict.fromkeys(each.name for each in scene.facts)) or "nothing"
            return None, f"the workload did not tell {self.name!r}; it told {names}"
        truths: list[Truth] = []
        if self.literal:
            truths.append(fact.value == self.value)
        number = isinstance(fact.value, (int, float)) and not isinstance(fact.value, bool)
        shown = repr(fact.value)
        if self.bounds and not number:
            return False, f"the workload saw {self.name} {shown}, which is no number"
        if self.bounds:
            truths.append(self.bounds.hold(fact.value, fact.value, scene.knobs))
            shown = seconds(fact.value) if self.unit else plain(fact.value)
        return all_of(truths), f"the workload saw {self.name} {shown}"


def _is_number(value: object, knobs: Mapping[str, object]) -> bool:
    if isinstance(value, str):
        try:
            Expression(value).value(knobs)
        except ExpressionError:
            return False
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class Count(Kind):
    """count: of a role, how many were started, were zombies, were reaped or were orphaned."""

    def __init__(self, fields: Fields, context: Context) -> None:
        self.of = reference(fields["of"])
        self.what = fields["what"].one_of("what", WHAT) if "what" in fields else "started"
        self.bounds = Bounds.read(fields, context.knobs)

    @classmethod
    def parse(cls, node: Node, context: Context) -> Kind:
        return cls(node.fields("count", ("of", "what", *BOUNDS), ("of",)), context)

    def words(self, knobs: Mapping[str, object]) -> str:
        return f"{self.of}, {self.what}: {self.bounds.words(knobs, plain)}"

    def judge(self, scene: Scene) -> tuple[Truth, str]:
        lives = scene.lives(self.of)
        sure = sum(_counts(life, self.what) is True for life in lives)
        unsure = sum(_counts(life, self.what) is None for life in lives)
        unsure += sum(each.startswith(self.of + " ") for each in scene.missing)
        held = self.bounds.hold(sure, sure + unsure, scene.knobs)
        some = f" to {sure + unsure}" if unsure else ""
        return held, f"{self.of}, {self.what}: {sure}{some}"


def _counts(life: Life, what: str) -> Truth:
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
    "fact": FactTold,
    "count": Count,
}
