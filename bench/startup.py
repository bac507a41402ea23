# SPDX-License-Identifier: Apache-2.0
"""From the command line to the observed program's first instruction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench import budgets
from bench.budgets import Result
from bench.observer import Cost, observing


def startup(programs: Path, rounds: int, progress: Callable[[str], None]) -> tuple[Result, Cost]:
    """The time to attach, and what a run costs that observes next to nothing (medians)."""
    seconds, costs = [], []
    for number in range(rounds):
        progress(f"command to attached, round {number + 1} of {rounds}")
        with observing([str(programs / "first_instruction")], programs) as observer:
            began_ns = int(observer.first_line())
            seconds.append((began_ns - observer.started_ns) / 1e9)
            observer.finish()
            assert observer.cost is not None
            costs.append(observer.cost)
    idle = Cost(
        cpu_ns=round(median(each.cpu_ns for each in costs)),
        peak_rss_bytes=round(median(each.peak_rss_bytes for each in costs)),
    )
    result = Result(
        "command to attached",
        f"<= {budgets.ATTACH_S:g} s",
        f"{median(seconds):.2f} s (first {seconds[0]:.2f}, max {max(seconds):.2f};"
        f" {idle.cpu_ns / 1e9:.2f} s of CPU, its end included)",
        budgets.at_most(median(seconds), budgets.ATTACH_S),
        {"seconds": seconds, "idle_cpu_ns": idle.cpu_ns},
    )
    return result, idle
