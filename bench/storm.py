# SPDX-License-Identifier: Apache-2.0
"""A fork storm on every CPU: nothing may be lost, and what each life costs us."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from bench import budgets, workloads
from bench.budgets import Result, Verdict
from bench.observer import Cost, Observer, observing, own_cpu_ns

RSS_EVERY_S = 0.2
MIB = 1024 * 1024


def storm(
    programs: Path, seconds: int, idle: Cost, progress: Callable[[str], None]
) -> list[Result]:
    """Every CPU forks for `seconds`. `idle` is what a run costs that sees next to nothing."""
    progress(f"fork storm on all CPUs for {seconds} s")
    with observing([str(programs / "fork_storm"), str(seconds)], programs) as observer:
        observer.first_line()  # the storm begins
        before_ns = own_cpu_ns(observer.pid)
        printed, resident = _watched_until_printed(observer)
        observing_ns = own_cpu_ns(observer.pid) - before_ns
        forks = workloads.parse(printed + observer.finish()).operations
        cost, report = observer.cost, observer.report()
    assert cost is not None

    lost = int(report.meta["lost_events"])
    expected = forks + 1  # the command itself is a life, too
    exact = report.lives == report.distinct == report.whole == expected
    detail = {
        "forks": forks,
        "lives": report.lives,
        "distinct_lives": report.distinct,
        "whole_lives": report.whole,
        "lost_events": lost,
        "lost_by": report.meta.get("lost_by"),
        "forks_per_s": forks / seconds,
    }
    results = [
        Result(
            f"{seconds} s fork storm: lost records",
            "0",
            f"{lost} ({forks / seconds:,.0f} forks/s)",
            budgets.at_most(lost, 0),
            detail,
        ),
        Result(
            "    lives seen whole / forks counted",
            "equal",
            f"{report.whole - 1:,} / {forks:,}",
            Verdict.MET if exact else Verdict.NOT_MET,
            detail,
        ),
    ]
    reporting_ns = cost.cpu_ns - idle.cpu_ns - observing_ns
    return [
        *results,
        *_own_cpu(observing_ns, reporting_ns, report.lives),
        *_memory(cost, idle, resident, forks),
    ]


def _watched_until_printed(observer: Observer) -> tuple[str, list[int]]:
    """What the command printed when done, and resident bytes of the observer until then."""
    samples: list[int] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(RSS_EVERY_S):
            samples.append(observer.rss_bytes())

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        printed = observer.stdout.readline()
    finally:
        done.set()
        watcher.join()
    return printed, samples


def _own_cpu(observing_ns: int, reporting_ns: int, lives: int) -> list[Result]:
    """The budget is for observing. What is left over at the storm's end to be read and
    the writing of the report come on top."""
    observing_us, reporting_us = observing_ns / lives / 1000, reporting_ns / lives / 1000
    return [
        Result(
            "    own CPU a life, while it storms",
            f"<= {budgets.OWN_CPU_US_PER_LIFE:g} us",
            f"{observing_us:.1f} us",
            budgets.at_most(observing_us, budgets.OWN_CPU_US_PER_LIFE),
            {"us_per_life": observing_us, "cpu_ns": observing_ns},
        ),
        Result(
            "    own CPU a life, afterwards (JSON lines)",
            "",
            f"{reporting_us:.1f} us",
            Verdict.INFORMATION,
            {"us_per_life": reporting_us, "cpu_ns": reporting_ns},
        ),
    ]


def _memory(cost: Cost, idle: Cost, resident: list[int], forks: int) -> list[Result]:
    """Growth is taken over the storm's second half: the first fills caches and pools."""
    half, end = resident[len(resident) // 2], resident[-1]
    growth = (end - half) / MIB / (forks / 2) * 1_000_000
    return [
        Result(
            "    memory growth, second half",
            f"<= {budgets.MEMORY_GROWTH_MIB_PER_MILLION_LIVES:g} MiB / 1M lives",
            f"{growth:.0f} MiB / 1M lives",
            budgets.at_most(growth, budgets.MEMORY_GROWTH_MIB_PER_MILLION_LIVES),
            {"mib_per_million_lives": growth, "resident_bytes": resident},
        ),
        Result(
            "    peak resident memory",
            "",
            f"{cost.peak_rss_bytes / MIB:.0f} MiB ({idle.peak_rss_bytes / MIB:.0f} MiB idle)",
            Verdict.INFORMATION,
            {"storm_bytes": cost.peak_rss_bytes, "idle_bytes": idle.peak_rss_bytes},
        ),
    ]
