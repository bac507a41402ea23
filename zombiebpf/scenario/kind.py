# SPDX-License-Identifier: Apache-2.0
"""What all kinds of expectation have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from zombiebpf.life import Life
from zombiebpf.scenario.bounds import Truth, all_of, any_of
from zombiebpf.scenario.nodes import Fields, Node
from zombiebpf.scenario.scene import Scene, duration, is_reference

NAMED = 3  # processes that a sentence names


class Context(NamedTuple):
    """What an expectation may speak of."""

    knobs: Mapping[str, object]
    start_methods: Sequence[str]


class Shown(NamedTuple):
    """What was seen of one process."""

    held: Truth
    text: str  # a predicate: "was a zombie for 598 ms"
    ns: Optional[int] = None  # what was measured, where that is one number


class Kind:
    """A kind of expectation. `parse` reads its keys, `judge` compares, `words` says it."""

    @classmethod
    def parse(cls, node: Node, context: Context) -> Kind:
        raise NotImplementedError

    def words(self, knobs: Mapping[str, object]) -> str:
        raise NotImplementedError

    def judge(self, scene: Scene) -> tuple[Truth, str]:
        raise NotImplementedError


class LifeKind(Kind):
    """About each process of a role; with `any: true`, about one of them at least."""

    KEYS: Sequence[str] = ()
    NEEDED: Sequence[str] = ()
    verb = ""  # of a measured range: "was a zombie for"

    def __init__(self, fields: Fields, context: Context) -> None:
        self.of = reference(fields["of"])
        self.any = "any" in fields and fields["any"].truth("any")

    @classmethod
    def parse(cls, node: Node, context: Context) -> Kind:
        fields = node.fields("this expectation", ("of", "any", *cls.KEYS), ("of", *cls.NEEDED))
        return cls(fields, context)

    def one(self, life: Life, scene: Scene) -> Shown:
        raise NotImplementedError

    @property
    def subject(self) -> str:
        return f"some {self.of}" if self.any else self.of

    def judge(self, scene: Scene) -> tuple[Truth, str]:
        lives = scene.lives(self.of)
        if not lives:
            return None, unseen(self.of, scene)
        shown = [(scene.name(life), self.one(life, scene)) for life in lives]
        truths = [each.held for _, each in shown]
        held = any_of(truths) if self.any else all_of(truths)
        speaking = [pair for pair in shown if pair[1].held is held] or shown
        text = together(self.verb, speaking)
        if len(speaking) < len(shown):
            text = f"{len(speaking)} of {len(shown)}: {text}"
        return held, text


def reference(node: Node) -> str:
    """`child`, `child[0]`."""
    text = node.text("a role")
    if not is_reference(text):
        raise node.wrong(f"{text!r} is no role", "such as child, or child[0] for the first one")
    return text


def unseen(of: str, scene: Scene) -> str:
    """Why there is no process of a role."""
    for each in scene.missing:
        if each.startswith(of.partition("[")[0] + " "):
            return f"{each} was not seen by the observer"
    roles = ", ".join(sorted(scene.roles)) or "none"
    return f"no process has the role {of} (roles of this run: {roles})"


def together(verb: str, shown: Sequence[tuple[str, Shown]]) -> str:
    """A few by name; many as a range, or as the first of them."""
    if len(shown) > NAMED:
        numbers = [each.ns for _, each in shown if each.ns is not None]
        if verb and len(numbers) == len(shown):
            span = f"{duration(min(numbers))} to {duration(max(numbers))}"
            return f"{len(shown)} processes {verb} {span}"
        texts = list(dict.fromkeys(each.text for _, each in shown))
        if len(texts) == 1:
            return f"{len(shown)} processes each {texts[0]}"
        more = len(shown) - NAMED
        return f"{_listed(shown[:NAMED])}; and {more} more"
    return _listed(shown)


def _listed(shown: Sequence[tuple[str, Shown]]) -> str:
    return "; ".join(f"{name} {each.text}" for name, each in shown)
