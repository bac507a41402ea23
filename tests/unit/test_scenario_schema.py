# SPDX-License-Identifier: Apache-2.0
"""A scenario's YAML: its values, and the message of each error."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.scenario_builders import SAMPLE, sample
from zombiebpf.errors import EXIT_USAGE
from zombiebpf.scenario.nodes import ScenarioError
from zombiebpf.scenario.schema import read

MINIMAL = """\
title: T
teaches: it
knobs: {child: 0.4}
expect:
  - ended: {of: child, exit: 0}
"""
ARTICLE = "article: {where: w, claim: c, claim_en: e, verdict: right, says: %s}\n"


def error_of(text: str) -> str:
    with pytest.raises(ScenarioError) as error:
        read(text, "my.yaml", Path("my.py"))
    assert error.value.exit_code == EXIT_USAGE
    return str(error.value)


def test_sample() -> None:
    scenario = sample()
    assert scenario.name == "sample"
    assert scenario.knobs == {"parent": 1.0, "child": 0.4}  # 400 ms
    assert scenario.start_methods == ("fork", "spawn", "forkserver")
    assert scenario.article is not None
    assert scenario.article.verdict == "right"
    assert [each.kind for each in scenario.expect][:3] == ["count", "ended", "zombie"]
    assert scenario.teaches.startswith("A child that has ended stays a zombie until")


def test_defaults() -> None:
    scenario = read(MINIMAL, "my.yaml", Path("my.py"))
    assert scenario.article is None
    assert scenario.article_verdict == "-"
    assert scenario.start_methods == ("fork",)
    assert scenario.python_versions.include((3, 7, 0))
    assert not scenario.python_versions.include((3, 6, 15))
    assert scenario.adopter == "subreaper"
    assert not scenario.evidence


def test_expectation_knows_its_line() -> None:
    assert [each.where for each in sample().expect][:2] == ["sample.yaml:16", "sample.yaml:17"]
    assert "- count" in SAMPLE.read_text(encoding="utf-8").splitlines()[15]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "nothing stands in it"),
        ("a: [1", 1, "no YAML"),
        ("- 1\n", 1, "the scenario must be a mapping"),
        (MINIMAL + "expects: []\n", 6, "has no key 'expects' (did you mean 'expect'?)"),
        (MINIMAL + "title: again\n", 6, "'title' stands twice"),
        ("title: T\nteaches: it\n", 1, "lacks the key 'expect'"),
        (MINIMAL.replace("title: T", "title: 3"), 1, "title must be text, it is 3"),
        (MINIMAL + "start_methods: [frok]\n", 6, "cannot be 'frok' (did you mean 'fork'?)"),
        (MINIMAL + "pythons: newer\n", 6, "'newer' is no bound"),
        (MINIMAL + "adopter: systemd\n", 6, "adopter cannot be 'systemd' (there is init, subr"),
        (MINIMAL + "evidence: 1\n", 6, "evidence must be true or false"),
        (MINIMAL.replace("child: 0.4", "start_method: fork"), 3, "list it in start_methods"),
        (MINIMAL.replace("child: 0.4", "Child: 0.4"), 3, "a knob cannot be named 'Child'"),
        (MINIMAL.replace("exit: 0", "exit: 0, exti: 1"), 5, "no key 'exti' (did you mean 'exit'?)"),
        (MINIMAL.replace("ended", "endet"), 5, "no key 'endet' (did you mean 'ended'?)"),
        (MINIMAL + "  - zombie: {of: child}\n", 6, "a bound is missing"),
        (MINIMAL + "  - zombie: {of: child, above: chidl}\n", 6, "did you mean 'child'?"),
        (MINIMAL + "  - zombie: {of: child, above: 1 parsec}\n", 6, "is no expression"),
        (MINIMAL + "  - zombie: {of: Child, above: 1}\n", 6, "'Child' is no role"),
        (MINIMAL + "  - zombie: {above: 1}\n", 6, "lacks the key 'of'"),
        (MINIMAL + "  - {}\n", 6, "has one kind, here are none"),
        (MINIMAL + "  - ended: {of: child}\n", 6, "ended needs exit or signal"),
        (MINIMAL + "  - ended: {of: child, signal: TERM}\n", 6, "did you mean 'SIGTERM'?"),
        (MINIMAL + "  - reaped: {of: child}\n", 6, "reaped says nothing"),
        (MINIMAL + "  - reaped: {of: child, options: nonblocking}\n", 6, "mean 'blocking'?"),
        (MINIMAL + "  - reaped: {of: child, never: true, by: parent}\n", 6, "never stands alone"),
        (MINIMAL + "  - order: {first: child.rip, then: child.exit}\n", 6, "is no instant"),
        (MINIMAL + "  - order: {first: child.reap}\n", 6, "lacks the key 'then'"),
        (MINIMAL + "  - join: {of: child}\n", 6, "join says nothing"),
        (MINIMAL + "  - join: {of: child, within: 1}\n", 6, "within is of after"),
        (MINIMAL + "  - fact: {name: x}\n", 6, "a bound is missing"),
        (MINIMAL + "  - lasted: {of: child, tolerance: 1, below: 2}\n", 6, "is of about"),
        (MINIMAL + "  - ended: {of: child, exit: 0}\n    when: {python: '3.8'}\n", 7, "no bound"),
        (
            MINIMAL + "  - ended: {of: child, exit: 0}\n    when: {method: fork}\n",
            7,
            "when has no key 'method'",
        ),
        (MINIMAL + "article: {where: x}\n", 6, "article lacks the key 'claim'"),
        (MINIMAL + ARTICLE % '"{child.zomby}"', 6, "did you mean 'zombie'?"),
        (MINIMAL + ARTICLE % '"{knob.chidl}"', 6, "did you mean 'child'?"),
        (MINIMAL + ARTICLE % '"{child.exit - child.rip}"', 6, "'child.rip' is no instant"),
        (MINIMAL + ARTICLE % '"{"', 6, "a brace stands alone"),
        (MINIMAL + ARTICLE.replace("right", "rihgt") % "s", 6, "did you mean 'right'?"),
        (MINIMAL[: MINIMAL.index("  -")] + "  []\n", 4, "could never fail"),
    ],
)
def test_error(text: str, line: int, says: str) -> None:
    error = error_of(text)
    assert error.startswith(f"my.yaml:{line}: "), error
    assert says in error


def test_verdict_by_start_method() -> None:
    verdict = "{fork: right, spawn: imprecise}"
    text = MINIMAL + "start_methods: [fork, spawn]\n" + ARTICLE.replace("right", verdict) % "s"
    article = read(text, "my.yaml", Path("my.py")).article
    assert article is not None
    assert [article.verdict_of(each) for each in ("fork", "spawn")] == ["right", "imprecise"]
    assert article.verdict == "right"
    assert "lacks the key 'spawn'" in error_of(text.replace(", spawn: imprecise", ""))
