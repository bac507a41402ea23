# SPDX-License-Identifier: Apache-2.0
"""Hand-made runs for the tests of scenarios: lives of lives.py, and marks about them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from lives import APP, BEGAN, MS, S, analysis, app, life

from zombiebpf.life import Actor, Life
from zombiebpf.scenario import expectations
from zombiebpf.scenario.bounds import Truth
from zombiebpf.scenario.expectations import Context, Expectation
from zombiebpf.scenario.marks import Fact, Joined, Marks, Started
from zombiebpf.scenario.nodes import Node
from zombiebpf.scenario.results import Interpreter, Run
from zombiebpf.scenario.scene import Scene
from zombiebpf.scenario.schema import START_METHODS, Scenario, read
from zombiebpf.scenario.verdict import conclude

KNOBS: Mapping[str, object] = {"parent": 5.0, "child": 1.0, "children": 2, "start_method": "fork"}
KEEPER = Actor(41229, 41229, "python3")
PYTHON = Interpreter("/usr/bin/python3", (3, 11, 2))
SAMPLE = Path(__file__).parents[1] / "data" / "scenarios" / "sample.yaml"


def keeper() -> Life:
    return life(KEEPER.pid, -50 * MS, argv=("python3", "keeper.py"))


def marks(
    children: Sequence[Life] = (),
    joins: Sequence[Joined] = (),
    facts: Sequence[Fact] = (),
    **roles: Sequence[Life],
) -> Marks:
    """The keeper and the parent are there; `children` play child, others what is named."""
    started = [Started(BEGAN + MS, APP.pid, "parent")]
    for role, lives in {"child": children, **roles}.items():
        started += [Started((each.fork_ns or 0) + MS, each.pid, role) for each in lives]
    return Marks(started, joins, facts, KEEPER.pid)


def scene(
    *children: Life,
    parent: Optional[Life] = None,
    joins: Sequence[Joined] = (),
    facts: Sequence[Fact] = (),
    knobs: Mapping[str, object] = KNOBS,
    others: Sequence[Life] = (),
) -> Scene:
    """A parent (5 s, from BEGAN on), its children, and what else there was."""
    lives = [keeper(), parent or app(), *children, *others]
    return Scene(lives, marks(children, joins, facts), knobs, BEGAN + 6 * S)


def join(
    child: Life, begin: int, end: int, status: Optional[int] = 0, timeout: Optional[float] = None
) -> Joined:
    """By the parent; `begin` and `end` in ns after BEGAN."""
    return Joined(APP.pid, APP.pid, child.pid, timeout, BEGAN + begin, BEGAN + end, status)


def fact(name: str, value: Any = None, at: int = S) -> Fact:
    return Fact(BEGAN + at, APP.pid, name, value)


def expectation(text: str, knobs: Mapping[str, object] = KNOBS) -> Expectation:
    """`zombie: {of: child, above: 1}`."""
    return expectations.parse(Node.document(text, "my.yaml"), Context(knobs, START_METHODS))


def judged(text: str, seen: Scene) -> tuple[Truth, str]:
    return expectation(text).what.judge(seen)


def sample(**replaced: str) -> Scenario:
    """The sample scenario; `expect=...` and so on replace the value of a key."""
    text = SAMPLE.read_text(encoding="utf-8")
    for key, value in replaced.items():
        text = re.sub(rf"^{key}:.*\n(?: .*\n)*", "", text, flags=re.MULTILINE)
        text += f"{key}: {value}\n"
    return read(text, "sample.yaml", SAMPLE.with_suffix(".py"))


def concluded(*children: Life, told: Optional[Marks] = None, **meta: Any) -> Run:
    """The sample's verdict on a run with these children."""
    observed = analysis([keeper(), app(), *children], **meta)
    return conclude(
        sample(), PYTHON, "fork", {**KNOBS}, observed, told or marks(children), output="printed"
    )
