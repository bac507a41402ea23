# SPDX-License-Identifier: Apache-2.0
"""Hand-made runs for the tests of scenarios: life records, and the workload log of each run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from tests.unit.life_builders import APP, BEGAN, MS, S, analysis, app, life
from zombiebpf.model.life import Actor, Life
from zombiebpf.scenario import expectations
from zombiebpf.scenario.bounds import Tristate
from zombiebpf.scenario.expectations import Expectation
from zombiebpf.scenario.kind import Context
from zombiebpf.scenario.nodes import Node
from zombiebpf.scenario.observed_run import ObservedRun
from zombiebpf.scenario.plan import Planned
from zombiebpf.scenario.results import Interpreter, Run
from zombiebpf.scenario.schema import START_METHODS, Scenario, read
from zombiebpf.scenario.verdict import conclude
from zombiebpf.scenario.workload_log import Fact, LoggedJoin, LoggedStart, WorkloadLog

KNOBS: Mapping[str, object] = {"parent": 5.0, "child": 1.0, "children": 2, "start_method": "fork"}
REAPER = Actor(41229, 41229, "python3")
PYTHON = Interpreter("/usr/bin/python3", (3, 11, 2))
SAMPLE = Path(__file__).parents[1] / "data" / "scenarios" / "sample.yaml"


def reaper() -> Life:
    return life(REAPER.pid, -50 * MS, argv=("python3", "workload_reaper.py"))


def workload_log(
    children: Sequence[Life] = (),
    joins: Sequence[LoggedJoin] = (),
    facts: Sequence[Fact] = (),
    **roles: Sequence[Life],
) -> WorkloadLog:
    """Return a log with a reaper and a parent; `children` play child, others the named role."""
    started = [LoggedStart(BEGAN + MS, APP.pid, "parent")]
    for role, lives in {"child": children, **roles}.items():
        started += [LoggedStart((each.fork_ns or 0) + MS, each.pid, role) for each in lives]
    return WorkloadLog(started, joins, facts, REAPER.pid)


def observed_run(
    *children: Life,
    parent: Optional[Life] = None,
    joins: Sequence[LoggedJoin] = (),
    facts: Sequence[Fact] = (),
    knobs: Mapping[str, object] = KNOBS,
    others: Sequence[Life] = (),
) -> ObservedRun:
    """Return a run: a parent (5 s, from BEGAN on), its children, and what else there was."""
    lives = [reaper(), parent or app(), *children, *others]
    return ObservedRun(lives, workload_log(children, joins, facts), knobs, BEGAN + 6 * S)


def join(
    child: Life, begin: int, end: int, status: Optional[int] = 0, timeout: Optional[float] = None
) -> LoggedJoin:
    """Return a join by the parent; `begin` and `end` in ns after BEGAN."""
    return LoggedJoin(APP.pid, APP.pid, child.pid, timeout, BEGAN + begin, BEGAN + end, status)


def fact(name: str, value: Any = None, at: int = S) -> Fact:
    return Fact(BEGAN + at, APP.pid, name, value)


def expectation(text: str, knobs: Mapping[str, object] = KNOBS) -> Expectation:
    """Parse `zombie: {of: child, above: 1}`."""
    return expectations.parse(Node.document(text, "my.yaml"), Context(knobs, START_METHODS))


def judged(text: str, seen: ObservedRun) -> tuple[Tristate, str]:
    return expectation(text).what.judge(seen)


def sample(**replaced: str) -> Scenario:
    """Return the sample scenario; `expect=...` and so on replace the value of a key."""
    text = SAMPLE.read_text(encoding="utf-8")
    for key, value in replaced.items():
        text = re.sub(rf"^{key}:.*\n(?: .*\n)*", "", text, flags=re.MULTILINE)
        text += f"{key}: {value}\n"
    return read(text, "sample.yaml", SAMPLE.with_suffix(".py"))


def concluded(*children: Life, log: Optional[WorkloadLog] = None, **meta: Any) -> Run:
    """Judge the sample on a run with these children."""
    observed = analysis([reaper(), app(), *children], **meta)
    planned = Planned(sample(), PYTHON, "fork", KNOBS)
    return conclude(
        planned,
        observed,
        log or workload_log(children),
        output="printed",
    )
