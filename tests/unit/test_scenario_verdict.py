# SPDX-License-Identifier: Apache-2.0
"""The verdict on a run: an incomplete observation does not count as a broken expectation."""

from __future__ import annotations

import signal

import pytest

from tests.unit.life_builders import APP, BEGAN, MS, S, analysis, app, ended, killed
from tests.unit.scenario_builders import (
    KNOBS,
    PYTHON,
    REAPER,
    concluded,
    fact,
    join,
    reaper,
    sample,
    workload_log,
)
from zombiebpf.errors import EXIT_EXPECTATION, EXIT_FAILURE
from zombiebpf.model.events import Wait
from zombiebpf.model.life import Life, ReapCall
from zombiebpf.scenario.evidence import relative, timeline
from zombiebpf.scenario.observed_run import ObservedRun
from zombiebpf.scenario.plan import Planned
from zombiebpf.scenario.results import Run, Session, Verdict
from zombiebpf.scenario.verdict import conclude
from zombiebpf.scenario.workload_log import WorkloadLog

C = 41231
WNOHANG = ReapCall("wait4", 1, BEGAN + 4_900 * MS, 20_000)
# what the sample claims: a zombie of 3.9 s, reaped when its parent ends after 5 s
CLAIMED = ended(C, latency=3_900 * MS, reap_call=WNOHANG)


def test_held() -> None:
    run = concluded(CLAIMED)
    assert run.verdict is Verdict.HELD, [each for each in run.outcomes if not each.held]
    assert run.says == "the child stayed a zombie for 3.9 s, until the parent ended"
    assert run.agrees is True
    assert run.lives == [CLAIMED]
    assert run.reaps == [("parent", "wait4(WNOHANG)")]
    assert [each.kind for each in run.outcomes].count("zombie") == 1  # the other is forkserver's
    assert run.analysis is not None
    assert list(run.logged_joins) == []


def test_not_held() -> None:
    run = concluded(ended(C, reap_call=WNOHANG))
    assert run.verdict is Verdict.NOT_HELD
    broken = [each for each in run.outcomes if each.held is False]
    assert [(each.expected, each.shown) for each in broken] == [
        ("child is a zombie for above 2.4 s", "child was a zombie for 87 us")
    ]
    assert broken[0].where == "sample.yaml:18"
    assert run.agrees is None


def test_lost_records_make_no_verdict() -> None:
    run = concluded(ended(C), lost_events=3)
    assert run.verdict is Verdict.INCOMPLETE
    assert run.why == "3 records were lost"


def test_what_cannot_be_told_makes_no_verdict() -> None:
    run = concluded(CLAIMED._replace(reap_call=None))
    assert run.verdict is Verdict.INCOMPLETE
    assert run.why.startswith("cannot be told: child is reaped by parent with wait4")


def test_what_is_not_met_outweighs_what_cannot_be_told() -> None:
    run = concluded(ended(C, reap_call=None))
    assert {each.held for each in run.outcomes} >= {False, None}
    assert run.verdict is Verdict.NOT_HELD


def test_a_process_that_was_missed_makes_no_verdict() -> None:
    run = concluded(log=workload_log([CLAIMED]))
    assert run.verdict is Verdict.INCOMPLETE
    assert run.why == "not seen by the observer: child (PID 41231)"


def failing(parent: Life, log: WorkloadLog) -> Run:
    observed = analysis([reaper(), parent, CLAIMED])
    return conclude(Planned(sample(), PYTHON, "fork", KNOBS), observed, log)


@pytest.mark.parametrize(
    ("parent", "why"),
    [
        (app(wait_status=1 << 8), "the workload failed: exit 1"),
        (app(wait_status=killed(signal.SIGSEGV)), "the workload was killed by SIGSEGV"),
    ],
)
def test_a_workload_that_failed_makes_no_verdict(parent: Life, why: str) -> None:
    run = failing(parent, workload_log([CLAIMED]))
    assert (run.verdict, run.why) == (Verdict.FAILED, why)


def test_a_workload_that_was_to_be_killed_did_not_fail() -> None:
    scenario = sample(expect="[{ended: {of: parent, signal: SIGKILL}}]")
    observed = analysis([reaper(), app(wait_status=killed(signal.SIGKILL)), CLAIMED])
    run = conclude(Planned(scenario, PYTHON, "fork", KNOBS), observed, workload_log([CLAIMED]))
    assert run.verdict is Verdict.HELD


def test_a_workload_that_was_out_of_time_or_not_started() -> None:
    run = failing(app(), workload_log([CLAIMED])._replace(out_of_time=True))
    assert (run.verdict, run.why) == (
        Verdict.FAILED,
        "the workload did not end in time and was killed",
    )
    run = failing(app(), WorkloadLog([], [], [], REAPER.pid))
    assert (run.verdict, run.why) == (Verdict.FAILED, "the workload was not started")


def test_nothing_is_expected_of_such_a_run() -> None:
    text = "[{zombie: {of: child, above: 1}, when: {start_method: spawn}}]"
    run = conclude(
        Planned(sample(expect=text), PYTHON, "fork", KNOBS), analysis([app()]), workload_log([])
    )
    assert run.verdict is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 0),
        ([Verdict.HELD, Verdict.SKIPPED], 0),
        ([Verdict.HELD, Verdict.NOT_HELD], EXIT_EXPECTATION),
        ([Verdict.NOT_HELD, Verdict.INCOMPLETE], EXIT_FAILURE),
        ([Verdict.FAILED, Verdict.HELD], EXIT_FAILURE),
    ],
)
def test_exit_code(verdicts: list[Verdict], code: int) -> None:
    runs = [Run(sample(), PYTHON, "fork", {}, each) for each in verdicts]
    assert Session(runs).exit_code == code
    assert Session(runs, interrupted=True).exit_code == (code or 128 + signal.SIGINT)


def filled(sentence: str) -> str:
    scenario = sample(answer=f"['{sentence}']", knobs="{parent: 5.0, child: 1.0, children: 3}")
    joins = [join(CLAIMED, 0, 300 * MS, None, 0.3), join(CLAIMED, 0, 500 * MS, None, 0.5)]
    others = [ended(C + 1, latency=4 * S), ended(C + 2, latency=4 * S)]
    observed = analysis([reaper(), app(), CLAIMED, *others])
    log = workload_log(
        [CLAIMED], joins, [fact("x", 3), fact("n", 4194304), fact("pause", 0.25)], worker=others
    )
    run = conclude(Planned(scenario, PYTHON, "fork", {**KNOBS, **scenario.knobs}), observed, log)
    return run.answer[0]


@pytest.mark.parametrize(
    ("sentence", "says"),
    [
        ("{child.zombie} of {child.latency}", "3.9 s of 3.9 s"),
        ("{child.lived}, {child.ended}, {child.pid}", "1 s, exit 0, 41231"),
        ("{child.reaper} by {child.call} in {child.blocked}", "parent by wait4(WNOHANG) in 20 us"),
        ("{child.adopter}", "nobody"),
        ("{worker.count} {worker.overlap} {worker[1].pid}", "2 1.00 41233"),
        ("{worker.pid} {worker.ended}", "41232, 41233 exit 0"),
        ("{join.call} {join.returned} {join.lasted}", "join(0.3), join(0.5) timeout "
         "300 ms to 500 ms"),
        ("{join[1].lasted} {join[0].call}", "500 ms join(0.3)"),
        ("{join[5].lasted} {nobody.zombie} {fact.y}", "(not seen) (not seen) (not seen)"),
        ("{parent.exit - child.reap} {child.exit - child.fork}", "100 ms 1 s"),
        ("process {fact.n}", "process 4194304"),
        ("{fact.x} {fact.pause:s} {knob.children} {knob.child:s}", "3 250 ms 3 1 s"),
    ],
)  # fmt: skip
def test_placeholders(sentence: str, says: str) -> None:
    assert filled(sentence) == says


def test_evidence() -> None:
    """Check the lines of fork, fact, wait, exit, reap and the parent's exit."""
    child = ended(C, reap_call=ReapCall("wait4", 0, BEGAN + 300 * MS, 700 * MS))
    wait = Wait(BEGAN + 300 * MS, app().start_ns, APP.pid, APP.pid, 61, 0, C, 1)
    strange = Wait(BEGAN, 1, 99, 99, 61, 0, C, 0)  # of a process that plays no role
    log = workload_log([child], facts=[fact("work_done", at=200 * MS)])
    seen = ObservedRun([reaper(), app(), child], log, KNOBS, BEGAN + 6 * S)
    lines = timeline(seen, [strange, wait], {61: "wait4"})
    assert [line for line in relative(lines) if line[1] != "keeper"][:-2] == [
        ("0.00", "parent", "fork: child is PID 41231"),
        ("1.00", "parent", "exec /usr/bin/python3"),
        ("200.00", "parent", "tells: work done"),
        (
            "300.00",
            "parent",
            "enters wait4(child, 0), blocking; 1 such calls before, not listed",
        ),
        ("1000.00", "child", "exit begins, status 0"),
        ("1000.04", "child", "is a zombie"),
        ("1000.13", "parent", "reaps child with blocking wait4, blocked for 700 ms, "
         "a zombie for 87 us"),
    ]  # fmt: skip
