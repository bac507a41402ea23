# SPDX-License-Identifier: Apache-2.0
"""The JSON report of scenarios: "zombiebpf-scenarios/1", described in docs/scenarios.md.

Each run contains its whole observation as a document of the contract "zombiebpf/1".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Optional, TextIO

import zombiebpf
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.life import Life
from zombiebpf.model.observation import Observe
from zombiebpf.model.statistics import distribution, histogram, reap_latencies, zombie_intervals
from zombiebpf.reports.json import document, encode, join_object, portable
from zombiebpf.reports.scenario.latency import by_label, reapers
from zombiebpf.scenario.results import Run, Session

SCHEMA = "zombiebpf-scenarios/1"


def write(session: Session, out: TextIO, observe: Observe) -> None:
    """Write the document, a run a line."""
    out.write(f'{{"schema": {encode(SCHEMA)},\n')
    out.write(f' "version": {encode(zombiebpf.__version__)},\n')
    out.write(f' "planned": {session.planned}, "interrupted": {encode(session.interrupted)},\n')
    out.write(' "runs": [')
    out.write(",".join("\n  " + encode(run_object(run, observe)) for run in session.runs))
    out.write('],\n "reap_latency": {\n  "scenarios": [')
    groups = by_label(session.runs).items()
    out.write(",".join("\n   " + encode(_group(label, runs)) for label, runs in groups))
    out.write(f'],\n  "all": {encode(latency_object(session.lives, session.runs))}}}}}\n')


def run_object(run: Run, observe: Observe) -> dict[str, Any]:
    """Return one run. `held` null: unknown; `agrees` null: nothing is concluded."""
    article = run.scenario.article
    return {
        "scenario": run.scenario.name,
        "title": run.scenario.title,
        "python": {"path": portable(run.interpreter.path), "version": run.interpreter.name},
        "start_method": run.start_method,
        "knobs": {
            name: portable(value) if isinstance(value, str) else value
            for name, value in run.knobs.items()
        },
        "article": None
        if article is None
        else {
            "where": article.where,
            "claim": article.claim,
            "claim_en": article.claim_en,
            "verdict": run.article_verdict,
            "says": portable(run.says),
        },
        "verdict": run.verdict.value,
        "why": portable(run.why) or None,
        "agrees": run.agrees,
        "outcomes": [
            {
                "kind": each.kind,
                "held": each.held,
                "expected": portable(each.expected),
                "shown": portable(each.shown),
                "where": portable(each.where),
            }
            for each in run.outcomes
        ],
        "answer": [portable(each) for each in run.answer],
        "evidence": [
            {"ns": line.ns, "who": portable(line.who), "what": portable(line.what)}
            for line in run.evidence
        ],
        "output": portable(run.output),
        "marked_joins": [join_object(each) for each in run.logged_joins],
        "joins_disagree": [portable(each) for each in run.disagreements],
        "observation": None if run.analysis is None else _document(run.analysis, observe),
    }


def _document(analysis: Analysis, observe: Observe) -> dict[str, Any]:
    with observe(analysis) as observation:
        return document(observation)


def latency_object(lives: Sequence[Life], runs: Sequence[Run]) -> dict[str, Any]:
    """Return figures in nanoseconds, null without durations, and the reaping calls."""
    return {
        "zombie_interval": _figures(zombie_intervals(lives)),
        "reap_latency": _figures(reap_latencies(lives)),
        "reapers": [
            {"reaper": portable(who), "call": portable(call), "count": count}
            for who, call, count in reapers(runs)
        ],
    }


def _group(label: tuple[str, str, str], runs: Sequence[Run]) -> dict[str, Any]:
    name, method, python = label
    lives = [life for run in runs for life in run.lives]
    return {
        "scenario": name,
        "start_method": None if method == "-" else method,
        "python": python,
        "runs": len(runs),
        **latency_object(lives, runs),
    }


def _figures(durations: Sequence[int]) -> Optional[dict[str, Any]]:
    found = distribution(durations)
    if found is None:
        return None
    return {**asdict(found), "histogram": [asdict(each) for each in histogram(durations)]}
