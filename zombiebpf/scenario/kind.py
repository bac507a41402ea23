# SPDX-License-Identifier: Apache-2.0
"""What all kinds of expectation have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from zombiebpf.model.life import Life
from zombiebpf.scenario.bounds import Tristate, all_of, any_of
from zombiebpf.scenario.nodes import Fields, Node
from zombiebpf.scenario.observed_run import ObservedRun, is_reference
from zombiebpf.scenario.sentences import WORDS

NAMED = 3  # processes that a sentence names


class Context(NamedTuple):
    """The names that an expectation may use."""

    knobs: Mapping[str, object]
    start_methods: Sequence[str]


class Shown(NamedTuple):
    """What the kernel showed of one process, and whether the expectation held for it."""

    held: Tristate
    text: str  # a predicate: "was a zombie for 598 ms"
    ns: Optional[int] = None  # the measured duration, if there is just one


class Kind:
    """A kind of expectation. `parse` reads its keys, `words` prints it, `judge` compares."""

    NAME = "this expectation"  # in error messages
    KEYS: Sequence[str] = ()
    NEEDED: Sequence[str] = ("of",)

    def __init__(self, fields: Fields, context: Context) -> None:
        raise NotImplementedError

    @classmethod
    def parse(cls, node: Node, context: Context) -> Kind:
        """Read an expectation. Raise ScenarioError for unknown, missing or invalid keys."""
        return cls(node.fields(cls.NAME, cls.KEYS, cls.NEEDED), context)

    def words(self, knobs: Mapping[str, object]) -> str:
        """Return what is expected with these knobs: `child is a zombie for above 480 ms`."""
        raise NotImplementedError

    def judge(self, observed: ObservedRun) -> tuple[Tristate, str]:
        """Return whether it held, and what the kernel showed."""
        raise NotImplementedError


class LifeKind(Kind):
    """An expectation on each process of a role; with `any: true`, on at least one of them."""

    verb = ""  # of a measured range: "were zombies for"

    def __init__(self, fields: Fields, context: Context) -> None:
        self.of = reference(fields["of"])
        self.any = fields.flag("any")

    @property
    def subject(self) -> str:
        """The role as the subject of a sentence."""
        return f"some {self.of}" if self.any else self.of

    def judge(self, observed: ObservedRun) -> tuple[Tristate, str]:
        """Judge each process, and describe those that decided."""
        lives = observed.lives(self.of)
        if not lives:
            return None, why_no_process(self.of, observed)
        shown = [(observed.name(life), self._judge_life(life, observed)) for life in lives]
        verdicts = [each.held for _, each in shown]
        held = any_of(verdicts) if self.any else all_of(verdicts)
        decisive = [pair for pair in shown if pair[1].held is held] or shown
        text = summary(self.verb, decisive)
        if len(decisive) < len(shown):
            text = f"{len(decisive)} of {len(shown)}: {text}"
        return held, text

    def _judge_life(self, life: Life, observed: ObservedRun) -> Shown:
        raise NotImplementedError


def reference(node: Node) -> str:
    """Read a role such as `child` or `child[0]`. Raise ScenarioError if it is not one."""
    text = node.text("a role")
    if not is_reference(text):
        raise node.error(f"{text!r} is no role", "such as child, or child[0] for the first one")
    return text


def why_no_process(of: str, observed: ObservedRun) -> str:
    """Return why there is no process of a role."""
    for each in observed.missing:
        if each.startswith(of.partition("[")[0] + " "):
            return f"{each} was not seen by the observer"
    roles = ", ".join(sorted(observed.roles)) or "none"
    return f"no process has the role {of} (roles of this run: {roles})"


def summary(verb: str, shown: Sequence[tuple[str, Shown]]) -> str:
    """Return a sentence on (name, what was shown) pairs.

    A few are named one by one; many are given as a range, or as the first few.
    """
    if len(shown) > NAMED:
        numbers = [each.ns for _, each in shown if each.ns is not None]
        if verb and len(numbers) == len(shown):
            span = f"{WORDS.duration(min(numbers))} to {WORDS.duration(max(numbers))}"
            return f"{len(shown)} processes {verb} {span}"
        texts = list(dict.fromkeys(each.text for _, each in shown))
        if len(texts) == 1:
            return f"{len(shown)} processes each {texts[0]}"
    named = "; ".join(f"{name} {each.text}" for name, each in shown[:NAMED])
    return named + (f"; and {len(shown) - NAMED} more" if len(shown) > NAMED else "")
