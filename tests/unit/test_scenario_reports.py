# SPDX-License-Identifier: Apache-2.0
"""The reports of scenarios: text, JSON and HTML."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.json_schema import DOCUMENT
from tests.unit.life_builders import MS, ended
from tests.unit.scenario_builders import KNOBS, PYTHON, concluded, join, sample, workload_log
from tests.unit.test_scenario_verdict import CLAIMED
from zombiebpf.reports.scenario import html as scenario_html
from zombiebpf.reports.scenario import json as scenario_json
from zombiebpf.reports.scenario import latency as scenario_latency
from zombiebpf.reports.scenario import text as scenario_text
from zombiebpf.reports.terminal import TextOptions
from zombiebpf.reports.text_page import TextPage
from zombiebpf.scenario.results import Run, Session, Verdict
from zombiebpf.trace import observe


def printed(write: Any, *of: Any, width: int = 100, unicode: bool = True) -> str:
    out = io.StringIO()
    write(TextPage(out, TextOptions(width, False, unicode)), *of)
    return out.getvalue()


def session() -> Session:
    child = ended(41231)
    log = workload_log([child], [join(child, 0, 300 * MS, None, 0.3)])
    runs = [concluded(CLAIMED), concluded(child, log=log), concluded(CLAIMED)]
    skipped = Run(sample(), PYTHON, "spawn", KNOBS, Verdict.SKIPPED, "is for fork")
    return Session([*runs, skipped], planned=5, interrupted=True)


def test_a_run_that_held() -> None:
    text = printed(scenario_text.write_run, concluded(CLAIMED))
    assert "sample: Child shorter than its parent, nobody joins\n" in text
    assert "  run       Python 3.11.2, fork, parent 5, child 1" in text
    assert "  article   a zombie exists from the child's end until the parent's (场景二" in text
    assert "  kernel    the child stayed a zombie for 3.9 s, until the parent ended\n" in text
    assert "  agree     yes: the article is right\n" in text
    assert "  held      child is a zombie for above 2.4 s: child was a zombie for 3.9 s\n" in text
    assert "printed" not in text


def test_a_run_that_did_not() -> None:
    text = printed(scenario_text.write_run, concluded(ended(41231)))
    assert "agree" not in text
    assert "  verdict   NOT HELD: 2 of 6 expectations were not met\n" in text
    assert (
        "  NOT MET   child is a zombie for above 2.4 s: child was a zombie for 87 us\n"
        "            sample.yaml:18\n"
    ) in text


def test_a_run_that_could_not_be_judged() -> None:
    text = printed(scenario_text.write_run, concluded(CLAIMED, lost_events=3))
    assert "  verdict   none: the observation is incomplete: 3 records were lost" in text
    assert "NOT" not in text
    assert "agree" not in text
    assert "kernel " not in text


def test_a_workload_that_failed_shows_what_it_printed() -> None:
    log = workload_log([CLAIMED])._replace(out_of_time=True)
    text = printed(scenario_text.write_run, concluded(CLAIMED, log=log))
    assert "  verdict   none: the workload did not end in time and was killed" in text
    assert "    printed\n" in text


def test_terminals_without_unicode() -> None:
    assert printed(scenario_text.write_run, concluded(CLAIMED), unicode=False).isascii()
    assert printed(scenario_latency.write_session, session(), unicode=False).isascii()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_lines_fit(width: int) -> None:
    text = printed(scenario_text.write_run, concluded(ended(41231)), width=width)
    assert max(map(len, text.splitlines())) <= width


def test_the_session() -> None:
    """Check that durations are written as in the sentences of the runs: us, not µs."""
    text = printed(scenario_latency.write_session, session())
    assert "  sample    fork   3.11.2  right    3     held 2, not held 1\n" in text
    assert "4 runs: held 2, not held 1, skipped 1\n" in text
    assert "interrupted before 1 run of 5\n" in text
    assert "the article's claims where all expectations held: right 2\n" in text
    assert "  sample    fork   3.11.2      3  87 us  3.9 s  3.9 s  3.9 s  3.9 s\n" in text
    assert "  zombie interval      3   87 us  3.9 s  3.9 s  3.9 s  3.9 s\n" in text
    assert "\nWho reaped, and by which call\n" in text
    assert "  parent  wait4(WNOHANG)      2\n  parent  blocking wait4      1\n" in text
    assert "lost records: 0\n" in text


def test_json() -> None:
    out = io.StringIO()
    scenario_json.write(session(), out, observe)
    assert out.getvalue().isascii()
    found = json.loads(out.getvalue())
    assert found["schema"] == "zombiebpf-scenarios/1"
    assert (found["planned"], found["interrupted"]) == (5, True)
    assert [run["verdict"] for run in found["runs"]] == ["held", "not held", "held", "skipped"]
    assert [run["agrees"] for run in found["runs"]] == [True, None, True, None]
    broken = found["runs"][1]
    assert next(each["shown"] for each in broken["outcomes"] if each["held"] is False) == (
        "child was a zombie for 87 us"
    )
    for run in found["runs"][:3]:
        DOCUMENT.validate(run["observation"])
    (joined,) = broken["marked_joins"]
    assert (joined["returned"], joined["timeout_s"]) == ("timeout", 0.3)
    (disagreement,) = broken["joins_disagree"]  # it was not observed
    assert disagreement.startswith("marked, not seen: join(0.3) of ")
    assert found["runs"][3]["observation"] is None
    group = found["reap_latency"]["scenarios"][0]
    assert (group["scenario"], group["runs"]) == ("sample", 3)
    everything = found["reap_latency"]["all"]
    assert everything["zombie_interval"]["count"] == 3
    assert everything["zombie_interval"]["min_ns"] == 87_000
    assert sum(each["count"] for each in everything["reap_latency"]["histogram"]) == 3
    assert {"reaper": "parent", "call": "wait4(WNOHANG)", "count": 2} in everything["reapers"]


def test_an_empty_session() -> None:
    out = io.StringIO()
    scenario_json.write(Session(planned=2, interrupted=True), out, observe)
    assert json.loads(out.getvalue())["reap_latency"]["all"]["zombie_interval"] is None
    assert "0 runs\n" in printed(scenario_latency.write_session, Session(planned=2))


def test_show_and_list() -> None:
    scenario = sample()
    text = printed(scenario_text.write_scenario, scenario, "import story\n\n\tx = 1\n")
    assert "  verdict   right, when all of the below holds\n" in text
    assert "  import story\n\n          x = 1\n" in text
    assert "  - child is a zombie for above 360 ms [fork]\n" in text
    listed = printed(scenario_text.write_list, [scenario])
    assert (
        "  sample  fork spawn forkserver  right    Child shorter than its parent, nobody joins\n"
        in listed
    )


def test_all_runs_on_one_page() -> None:
    whole = scenario_html.together(session())
    assert whole is not None
    runs = [run.analysis for run in session().runs if run.analysis is not None]
    assert [each.pid for each in whole.lives] == [life.pid for run in runs for life in run.lives]
    assert len(whole.joins or ()) == sum(len(run.joins or ()) for run in runs)
    assert list(whole.meta.command) == ["zombiebpf", "scenario", "run", "sample"]
    assert whole.meta.ended_ns == max(run.meta.ended_ns for run in runs)
    out = io.StringIO()
    scenario_html.write(session(), out, TextOptions(), observe)
    page = out.getvalue()
    assert "<h1>1 scenario in 3 runs: zombies and orphans made on purpose</h1>" in page
    assert '<p class="answer">' in page


def test_a_page_of_nothing_is_none() -> None:
    """Check a session of which all runs were skipped."""
    skipped = Session([session().runs[-1]], planned=1)
    assert scenario_html.together(skipped) is None
    out = io.StringIO()
    scenario_html.write(skipped, out, TextOptions(), observe)
    assert out.getvalue() == ""


def test_what_one_run_lost_the_page_has_lost() -> None:
    found = session()
    runs = [
        replace(run, analysis=replace(run.analysis, meta=replace(
            run.analysis.meta, lost_events=2, lost_by={"the ring was full": 2})))
        for run in found.runs[:3] if run.analysis is not None
    ]  # fmt: skip
    whole = scenario_html.together(Session(runs))
    assert whole is not None
    assert (whole.meta.lost_events, whole.meta.lost_by) == (6, {"the ring was full": 6})
