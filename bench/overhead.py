# SPDX-License-Identifier: Apache-2.0
"""How much slower work becomes while the machine is observed.

Work is timed in short slices, unobserved, observed, unobserved again and so on
(A-B-A-B-...-A). Three estimates come of it, all of the speed observed over the
speed unobserved:

- *median*: each observed phase's median slice against the two unobserved phases
  around it, and the median of those ratios. The observer's reading of what it is
  sent, which comes in batches, is in it; so is whatever else the machine did.
- *CPU*: the same of the CPU time that the work itself took, the probes in it: a
  busy machine disturbs it less, and the observer's own CPU time is not in it.
- *fastest*: the fastest slice of all observed phases against the fastest of all
  unobserved ones. What a hook adds to a system call it adds to each one, and a
  neighbour's work only ever adds: the least disturbed slices tell.

The loop that is followed is judged by the median, unrelated calls by the fastest.
Noise (after +-) is the same estimate made of unobserved phases only: of what lies
within it no difference is known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import budgets, workloads
from bench.budgets import Result
from bench.observer import observing
from bench.workloads import Timing

WORKLOADS = Path(__file__).with_name("workloads")
SLICES = 400
SLICE_NS = 2_500_000

UNRELATED = {
    "getppid": "getppid()",
    "open_close": "open() + close()",
    "pipe_round_trip": "pipe round trip",
}


class Estimate(NamedTuple):
    """Speed observed over speed unobserved."""

    ratio: float
    noise: float

    def __str__(self) -> str:
        return f"{self.ratio:.3f} +-{self.noise:.3f}"


class Comparison(NamedTuple):
    """`observed[i]` was timed between `unobserved[i]` and `unobserved[i + 1]`."""

    unobserved: list[Timing]
    observed: list[Timing]

    def medians(self, of: Callable[[Timing], float]) -> Estimate:
        """Each observed phase against those around it, `of` being a phase's ns."""
        around = [(of(a), of(b)) for a, b in zip(self.unobserved, self.unobserved[1:])]
        ratios = [
            (1 / of(phase)) / ((1 / before + 1 / after) / 2)
            for phase, (before, after) in zip(self.observed, around)
        ]
        noise = median(abs(after / before - 1) for before, after in around)
        return Estimate(median(ratios), noise)

    def fastest(self) -> Estimate:
        """The least disturbed slices of each kind against each other."""
        halves = fastest_ns(self.unobserved[::2]), fastest_ns(self.unobserved[1::2])
        return Estimate(min(halves) / fastest_ns(self.observed), abs(halves[0] / halves[1] - 1))

    def result(self, name: str, budget: float, followed: bool) -> Result:
        """The table's line."""
        by_median = self.medians(lambda phase: phase.median_ns)
        by_cpu = self.medians(lambda phase: phase.cpu_median_ns)
        by_fastest = self.fastest()
        if followed:
            judged, measured = by_median, f"median {by_median}  (CPU {by_cpu})"
        else:
            judged, measured = by_fastest, f"fastest {by_fastest}  (median {by_median})"
        return Result(
            f"{name}, {_time(fastest_ns(self.unobserved))}",
            f">= {budget:.2f}",
            measured,
            budgets.at_least(judged.ratio, budget, judged.noise),
            {
                "median": by_median._asdict(),
                "cpu": by_cpu._asdict(),
                "fastest": by_fastest._asdict(),
                "unobserved": [each._asdict() for each in self.unobserved],
                "observed": [each._asdict() for each in self.observed],
            },
        )


def fastest_ns(phases: Sequence[Timing]) -> float:
    """An operation's time in the fastest slice of all."""
    return min(phase.fastest_ns for phase in phases)


def unrelated(
    programs: Path, rounds: int, progress: Callable[[str], None], python: bool = False
) -> list[Result]:
    """System calls of a process that nobody follows, on a machine that is observed.

    `python`: what is followed meanwhile is a Python process with a child, so that the
    machine's context switches are looked at.
    """
    followed = [str(programs / "first_instruction")]
    if python:
        followed = [sys.executable, str(WORKLOADS / "python_parent.py")]
    beside = ", a Python followed" if python else ""
    counts = {name: _calibrated(programs / name) for name in UNRELATED}
    compared = {name: Comparison([], []) for name in UNRELATED}
    hooks: dict[str, str] = {}

    def time_unobserved() -> None:
        for name, each in compared.items():
            each.unobserved.append(workloads.run(programs / name, counts[name], SLICES))

    time_unobserved()
    for number in range(rounds):
        progress(f"system calls of an unrelated process{beside}, round {number + 1} of {rounds}")
        with observing(followed, programs) as observer:
            observer.first_line()  # attached
            for name, each in compared.items():
                each.observed.append(workloads.run(programs / name, counts[name], SLICES))
            observer.finish()
            hooks = observer.report().meta["hooks"]
        time_unobserved()
    budget = budgets.unrelated_ratio(hooks)
    return [
        each.result(f"{UNRELATED[name]} unrelated{beside}", budget, followed=False)
        for name, each in compared.items()
    ]


def fork_loop(programs: Path, rounds: int, progress: Callable[[str], None]) -> Result:
    """fork + _exit + waitpid of a process that is followed, with all its children."""
    program = programs / "fork_wait"
    count = _calibrated(program)
    compared = Comparison([workloads.run(program, count, SLICES)], [])
    for number in range(rounds):
        progress(f"fork + _exit + waitpid, round {number + 1} of {rounds}")
        with observing([str(program), str(count), str(SLICES)], programs) as observer:
            compared.observed.append(workloads.parse(observer.finish()))
        compared.unobserved.append(workloads.run(program, count, SLICES))
    return compared.result(
        "fork + _exit + waitpid followed", budgets.FORK_LOOP_RATIO, followed=True
    )


def _calibrated(program: Path) -> int:
    """How many operations take a slice's time here."""
    count = 10
    while True:
        timing = workloads.run(program, count, slices=3)
        if min(timing.elapsed_ns) >= SLICE_NS // 10:
            return max(1, round(SLICE_NS / timing.fastest_ns))
        count *= 10


def _time(ns: float) -> str:
    return f"{ns:.0f} ns" if ns < 1000 else f"{ns / 1000:.1f} us"
