# SPDX-License-Identifier: Apache-2.0
"""Scenarios, read from YAML. docs/scenarios.md describes the format."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

from zombiebpf.scenario import expectations, placeholders
from zombiebpf.scenario.expectations import Expectation
from zombiebpf.scenario.kind import Context
from zombiebpf.scenario.nodes import Fields, Node
from zombiebpf.scenario.python_versions import PythonVersions

START_METHODS = ("fork", "spawn", "forkserver")
VERDICTS = ("right", "wrong", "imprecise")
ADOPTERS = ("subreaper", "init")

KEYS = (
    "title", "teaches", "article", "knobs", "start_methods", "pythons", "adopter", "evidence",
    "answer", "expect",
)  # fmt: skip
_KNOB = re.compile(r"[a-z][a-z0-9_]*")


class Article(NamedTuple):
    """A claim of the article, and what the kernel shows of it when all expectations hold."""

    where: str
    claim: str  # in the article's words
    claim_en: str
    verdict: str  # right | wrong | imprecise, for the default start method
    says: str  # one sentence with placeholders
    verdicts: Mapping[str, str] = {}  # by start method, if it depends on that

    def verdict_of(self, start_method: Optional[str]) -> str:
        """Return the verdict for a start method."""
        return self.verdicts.get(start_method or "", self.verdict)


@dataclass(frozen=True)
class Scenario:
    """A claim, the workload that tests it, and what the kernel is expected to show."""

    name: str
    title: str
    teaches: str
    article: Optional[Article]
    knobs: Mapping[str, object]
    start_methods: Sequence[str]  # the first is the default; empty if none matters
    python_versions: PythonVersions
    adopter: str  # of orphans: subreaper (the workload's reaper) | init (the machine's)
    evidence: bool  # print the timeline
    answer: Sequence[str]  # sentences with placeholders
    expect: Sequence[Expectation]
    file: str  # its name in error messages
    workload: Path

    @property
    def article_verdict(self) -> str:
        """The verdict for the default start method; `-` if the article makes no claim."""
        return self.article.verdict if self.article else "-"


def read(text: str, file: str, workload: Path) -> Scenario:
    """Read a scenario from its YAML. Raise ScenarioError with the line and what would be valid."""
    node = Node.document(text, file)
    fields = node.fields("the scenario", KEYS, ("title", "teaches", "expect"))
    knobs = _knobs(fields)
    start_methods = _start_methods(fields)
    pythons = fields.read("pythons", lambda node: PythonVersions.read(node, "pythons"))
    known = {**knobs, "start_method": start_methods[0] if start_methods else None}
    context = Context(known, START_METHODS)
    items = fields["expect"].sequence("expect")
    expect = [expectations.parse(each, context) for each in items]
    if not expect:
        raise fields["expect"].error("expect is empty: the scenario could never fail")
    return Scenario(
        name=workload.stem,
        title=fields["title"].text("title"),
        teaches=" ".join(fields["teaches"].text("teaches").split()),
        article=_article(fields, known, start_methods),
        knobs=knobs,
        start_methods=start_methods,
        python_versions=pythons or PythonVersions.any(),
        adopter=fields.read("adopter", lambda node: node.one_of("adopter", ADOPTERS))
        or ADOPTERS[0],
        evidence=fields.flag("evidence"),
        answer=_answer(fields, known),
        expect=expect,
        file=file,
        workload=workload,
    )


def _knobs(fields: Fields) -> dict[str, object]:
    found = fields.get("knobs")
    result: dict[str, object] = {}
    if found is None:
        return result
    for name, node in found.mapping("knobs").items():
        if name == "start_method":
            raise node.error("start_method is every scenario's knob", "list it in start_methods")
        if name in ("min", "max") or not _KNOB.fullmatch(name):
            raise node.error(f"a knob cannot be named {name!r}", "such as child, child_2, timeout")
        result[name] = node.knob(f"the knob {name!r}")
    return result


def _start_methods(fields: Fields) -> tuple[str, ...]:
    found = fields.get("start_methods")
    return ("fork",) if found is None else found.some_of("a start method", START_METHODS)


def _article(
    fields: Fields, knobs: Mapping[str, object], methods: Sequence[str]
) -> Optional[Article]:
    found = fields.get("article")
    if found is None or found.plain() is None:
        return None
    keys = ("where", "claim", "claim_en", "verdict", "says")
    article = found.fields("article", keys, keys)

    verdicts: dict[str, str] = {}
    if article["verdict"].is_mapping:
        known = article["verdict"].fields("verdict", methods, methods)
        verdicts = {name: known[name].one_of("verdict", VERDICTS) for name in methods}
    verdict = verdicts[methods[0]] if methods and verdicts else ""
    return Article(
        where=article["where"].text("where"),
        claim=article["claim"].text("claim"),
        claim_en=" ".join(article["claim_en"].text("claim_en").split()),
        verdict=verdict or article["verdict"].one_of("verdict", VERDICTS),
        says=_sentence(article["says"], "says", knobs),
        verdicts=verdicts,
    )


def _answer(fields: Fields, knobs: Mapping[str, object]) -> tuple[str, ...]:
    found = fields.get("answer")
    if found is None:
        return ()
    return tuple(_sentence(each, "a sentence", knobs) for each in found.sequence("answer"))


def _sentence(node: Node, what: str, knobs: Mapping[str, object]) -> str:
    return placeholders.checked(" ".join(node.text(what).split()), node, knobs)
