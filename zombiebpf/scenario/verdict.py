# SPDX-License-Identifier: Apache-2.0
"""Conclude a run from what was observed. Pure: a recorded run gives the same verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from zombiebpf.model.analysis import Analysis
from zombiebpf.model.events import Wait
from zombiebpf.model.life import Life, ReapedBy, State, signal_name
from zombiebpf.scenario import evidence, expectations, placeholders
from zombiebpf.scenario.agreement import disagreements
from zombiebpf.scenario.expect_life import Ended
from zombiebpf.scenario.expectations import Outcome
from zombiebpf.scenario.observed_run import PARENT, REAPER, ObservedRun
from zombiebpf.scenario.plan import Planned
from zombiebpf.scenario.results import Run, Verdict
from zombiebpf.scenario.schema import Scenario
from zombiebpf.scenario.sentences import call_words
from zombiebpf.scenario.workload_log import WorkloadLog


def conclude(
    planned: Planned,
    analysis: Analysis,
    log: WorkloadLog,
    waits: Sequence[Wait] = (),
    syscalls: Optional[Mapping[int, str]] = None,
    output: str = "",
) -> Run:
    """Return the run with its outcomes and verdict.

    Lost records and a crashed workload do not count as broken expectations.
    """
    scenario, interpreter, start_method, knobs, _ = planned
    observed = ObservedRun(analysis.lives, log, knobs, analysis.meta.ended_ns)
    outcomes = expectations.judge(scenario.expect, observed, start_method, interpreter.version)
    above = [*observed.lives(REAPER), *observed.lives(PARENT)]
    lives = [life for life in analysis.lives if not any(life is each for each in above)]
    verdict, why = _verdict(scenario, observed, log, analysis, outcomes)
    return Run(
        scenario=scenario,
        interpreter=interpreter,
        start_method=start_method,
        knobs=knobs,
        verdict=verdict,
        why=why,
        outcomes=outcomes,
        analysis=analysis,
        logged_joins=[each.join for each in observed.joins],
        disagreements=list(
            disagreements(observed.joins, analysis.joins or (), start_method == "forkserver")
        ),
        says=placeholders.filled(scenario.article.says, observed) if scenario.article else "",
        answer=[placeholders.filled(each, observed) for each in scenario.answer],
        evidence=evidence.timeline(observed, waits, syscalls or {}) if scenario.evidence else (),
        output=output,
        lives=lives,
        reaps=[_reap(life, observed) for life in lives if life.reap_ns is not None],
    )


def _reap(life: Life, observed: ObservedRun) -> tuple[str, str]:
    """Return the reaper and its call: `parent`, `blocking wait4`."""
    if life.reaped_by is ReapedBy.KERNEL:
        return "kernel", "nobody waited"
    if life.reaper is None or life.reap_ns is None:
        return "(not seen)", "(not seen)"
    who = observed.actor(life.reaper, life.reap_ns).partition("[")[0]
    return who, call_words(life.reap_call) or "(not seen)"


def _verdict(
    scenario: Scenario,
    observed: ObservedRun,
    log: WorkloadLog,
    analysis: Analysis,
    outcomes: Sequence[Outcome],
) -> tuple[Verdict, str]:
    if log.out_of_time:
        return Verdict.FAILED, "the workload did not end in time and was killed"
    if analysis.meta.lost_events:
        return Verdict.INCOMPLETE, f"{analysis.meta.lost_events} records were lost"
    crash = _crash(scenario, observed)
    if crash:
        return Verdict.FAILED, crash
    if observed.missing:
        return Verdict.INCOMPLETE, f"not seen by the observer: {', '.join(observed.missing)}"
    if any(each.held is False for each in outcomes):
        return Verdict.NOT_HELD, ""
    unknown = [each for each in outcomes if each.held is None]
    if unknown:
        return Verdict.INCOMPLETE, f"cannot be told: {unknown[0].expected}: {unknown[0].shown}"
    if not outcomes:
        return Verdict.SKIPPED, "it expects nothing of such a run"
    return Verdict.HELD, ""


def _crash(scenario: Scenario, observed: ObservedRun) -> str:
    """Return how the workload failed; empty if it succeeded, or if its end is an expectation."""
    parents = observed.lives(PARENT)
    if not parents:
        return "the workload was not started"
    if any(isinstance(each.what, Ended) and each.what.of == PARENT for each in scenario.expect):
        return ""
    life = parents[0]
    if life.signal is not None:
        return f"the workload was killed by {signal_name(life.signal)}"
    if life.exit_status:
        return f"the workload failed: exit {life.exit_status}"
    if life.state is State.RUNNING and life.exit_ns is None:
        return "the workload had not ended when the observation did"
    return ""
