# SPDX-License-Identifier: Apache-2.0
"""From what was observed of a run to its verdict. Pure: it can be done again from a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from zombiebpf.analysis import Analysis
from zombiebpf.events import Wait
from zombiebpf.life import Life, ReapedBy, State, signal_name
from zombiebpf.scenario import evidence, expectations, placeholders
from zombiebpf.scenario.agreement import disagreements
from zombiebpf.scenario.calls import call_words
from zombiebpf.scenario.expect_life import Ended
from zombiebpf.scenario.expectations import Outcome
from zombiebpf.scenario.marks import Marks
from zombiebpf.scenario.results import Interpreter, Run, Verdict
from zombiebpf.scenario.scene import KEEPER, PARENT, Scene
from zombiebpf.scenario.schema import Scenario


def conclude(
    scenario: Scenario,
    interpreter: Interpreter,
    start_method: Optional[str],
    knobs: Mapping[str, object],
    analysis: Analysis,
    marks: Marks,
    waits: Sequence[Wait] = (),
    syscalls: Optional[Mapping[int, str]] = None,
    output: str = "",
) -> Run:
    """The run with its outcomes. Lost records and a crashed workload are no broken expectation."""
    scene = Scene(analysis.lives, marks, knobs, analysis.meta.ended_ns)
    outcomes = expectations.judge(scenario.expect, scene, start_method, interpreter.version)
    staff = [*scene.lives(KEEPER), *scene.lives(PARENT)]
    lives = [life for life in analysis.lives if not any(life is each for each in staff)]
    verdict, why = _verdict(scenario, scene, marks, analysis, outcomes)
    return Run(
        scenario=scenario,
        interpreter=interpreter,
        start_method=start_method,
        knobs=knobs,
        verdict=verdict,
        why=why,
        outcomes=outcomes,
        analysis=analysis,
        marked=[each.join for each in scene.joins],
        disagreements=list(
            disagreements(scene.joins, analysis.joins or (), start_method == "forkserver")
        ),
        says=placeholders.filled(scenario.article.says, scene) if scenario.article else "",
        answer=[placeholders.filled(each, scene) for each in scenario.answer],
        evidence=evidence.timeline(scene, waits, syscalls or {}) if scenario.evidence else (),
        output=output,
        lives=lives,
        reaps=[_reap(life, scene) for life in lives if life.reap_ns is not None],
    )


def _reap(life: Life, scene: Scene) -> tuple[str, str]:
    """`parent`, `blocking wait4`."""
    if life.reaped_by is ReapedBy.KERNEL:
        return "kernel", "nobody waited"
    if life.reaper is None or life.reap_ns is None:
        return "(not seen)", "(not seen)"
    who = scene.actor(life.reaper, life.reap_ns).partition("[")[0]
    return who, call_words(life.reap_call) or "(not seen)"


def _verdict(
    scenario: Scenario,
    scene: Scene,
    marks: Marks,
    analysis: Analysis,
    outcomes: Sequence[Outcome],
) -> tuple[Verdict, str]:
    if marks.out_of_time:
        return Verdict.FAILED, "the workload did not end in time and was killed"
    if analysis.meta.lost_events:
        return Verdict.INCOMPLETE, f"{analysis.meta.lost_events} records were lost"
    crash = _crash(scenario, scene)
    if crash:
        return Verdict.FAILED, crash
    if scene.missing:
        return Verdict.INCOMPLETE, f"not seen by the observer: {', '.join(scene.missing)}"
    if any(each.held is False for each in outcomes):
        return Verdict.NOT_HELD, ""
    untold = [each for each in outcomes if each.held is None]
    if untold:
        return Verdict.INCOMPLETE, f"cannot be told: {untold[0].expected}: {untold[0].shown}"
    if not outcomes:
        return Verdict.SKIPPED, "it expects nothing of such a run"
    return Verdict.HELD, ""


def _crash(scenario: Scenario, scene: Scene) -> str:
    """How the workload failed; empty if it ended well, or as the scenario has it."""
    if not scene.lives(PARENT):
        return "the workload was not started"
    if any(isinstance(each.what, Ended) and each.what.of == PARENT for each in scenario.expect):
        return ""
    return _ending(scene.lives(PARENT)[0])


def _ending(life: Life) -> str:
    if life.signal is not None:
        return f"the workload was killed by {signal_name(life.signal)}"
    if life.exit_status:
        return f"the workload failed: exit {life.exit_status}"
    if life.state is State.RUNNING and life.exit_ns is None:
        return "the workload had not ended when the observation did"
    return ""
