# SPDX-License-Identifier: Apache-2.0
"""The bench's statistics and verdicts."""

from __future__ import annotations

from typing import Any

import pytest

from bench import budgets, memory
from bench.budgets import Row, Verdict
from bench.statistics import Spread, fastest_slowdown, noise, slowdowns, spread
from tests.unit import bench_results


def test_spread_is_median_and_quartiles() -> None:
    assert spread([5, 1, 3, 2, 4]) == Spread(3, 2, 4)
    assert spread([7]) == Spread(7, 7, 7)
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_a_slowdown_is_against_the_unobserved_times_around_it() -> None:
    assert slowdowns([150.0, 40.0], [100.0, 10.0], [200.0, 30.0]) == [1.0, 2.0]
    assert noise([100.0, 10.0, 50.0], [110.0, 8.0, 50.0]) == pytest.approx(0.1)
    assert fastest_slowdown([12.0, 11.0], [10.0, 13.0]) == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("value", "spread_", "verdict"),
    [(1.0, 0.0, "MET"), (1.1, 0.0, "NOT_MET"), (1.1, 0.2, "UNCLEAR"), (1.3, 0.2, "NOT_MET")],
)
def test_a_budget_missed_within_noise_is_unclear(
    value: float, spread_: float, verdict: str
) -> None:
    assert budgets.at_most(value, 1.0, spread_) is Verdict[verdict]


def row(document: Any, what: str) -> Row:
    """Return the one row that begins so."""
    (found,) = [each for each in budgets.rows(document) if each.what.startswith(what)]
    return found


def test_every_budget_is_met_by_good_results() -> None:
    verdicts = {each.what: each.verdict for each in budgets.rows(bench_results.document())}
    assert [what for what, verdict in verdicts.items() if verdict is not Verdict.MET] == [
        "agent at 3,000 forks/s"
    ]
    assert verdicts["agent at 3,000 forks/s"] is Verdict.NOT_MEASURED


def test_what_was_not_measured_is_not_judged() -> None:
    document = bench_results.document()
    document["parts"] = {}
    assert {each.verdict for each in budgets.rows(document)} == {Verdict.NOT_MEASURED}


def test_own_cpu_is_judged_beside_bpftrace() -> None:
    document = bench_results.document()
    found = document["parts"]["tools"]["tools"]
    found["zombiebpf-run"]["own_us"]["fork_wait"] = [4.0, 5.0, 6.0]
    judged = row(document, "own CPU a process, `run`")
    assert judged.verdict is Verdict.NOT_MET
    assert judged.measured == "0.10x: 5.0 us, bpftrace 50.0 us"
    del found["bpftrace-print"]
    assert row(document, "own CPU a process, `run`").verdict is Verdict.NOT_MEASURED


def test_a_report_that_did_not_get_ready_misses_its_budget() -> None:
    document = bench_results.document()
    formats = document["parts"]["reports"]["1000000"]["formats"]
    formats["html"] = {"error": "not ready after 300 s"}
    formats["text"]["peak_rss_bytes"] = 201 << 20
    assert row(document, "html report")[2:] == ("not ready after 300 s", Verdict.NOT_MET)
    assert row(document, "text report")[2:] == ("5.0 s, 201 MiB", Verdict.NOT_MET)


def test_a_lost_record_or_an_unseen_process_misses_the_budget() -> None:
    document = bench_results.document()
    document["parts"]["storm"]["long"]["lost"] = 1
    document["parts"]["memory"]["zombiebpf-run"]["seen"] -= 1
    assert row(document, "fork storm").verdict is Verdict.NOT_MET
    assert row(document, "processes reported of 1,000,000, `run`").verdict is Verdict.NOT_MET


def test_bystanders_are_judged_by_the_fastest_slice_and_the_hook() -> None:
    document = bench_results.document()
    slow = document["parts"]["tools"]["tools"]["zombiebpf-run"]["slowdown"]
    slow["open_close beside"] = bench_results.times(111.0)
    name = "open() + close() beside `run`, fastest"
    assert row(document, name).verdict is Verdict.MET
    document["machine"]["hooks"]["reap"] = "fentry of release_task"
    assert row(document, name)[1:] == ("<= 1.01x", "1.110x +-0.000", Verdict.NOT_MET)


def test_few_processes_say_nothing_of_a_million() -> None:
    document = bench_results.document()
    document["parts"]["memory"]["zombiebpf-run"].update(forks=20_000, seen=20_000)
    assert row(document, "memory of `run`").verdict is Verdict.NOT_MEASURED


def test_growth_is_between_the_peaks_of_the_first_and_last_tenth() -> None:
    assert memory.growth([10, 12, *[99] * 16, 15, 14]) == 3
    assert memory.growth([10]) == 0
