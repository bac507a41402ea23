# SPDX-License-Identifier: Apache-2.0
"""The budgets, and the verdict on a measurement."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

FORK_LOOP_RATIO = 0.97  # speed observed / unobserved
UNRELATED_RATIO_EXACT_HOOK = 0.99  # where release_task can be hooked
UNRELATED_RATIO_TRACEPOINTS = 0.94  # every slab free and every switch pays there
STACK_US = 4.0  # a stack of 11 frames, in BPF
PYTHON_LOOP_RATIO = 0.97  # multiprocessing's start() + join(), with its stacks
OWN_CPU_US_PER_LIFE = 5.0
ATTACH_S = 1.5
MEMORY_GROWTH_MIB_PER_MILLION_LIVES = 20.0  # what counts as flat


class Verdict(enum.Enum):
    MET = "met"
    NOT_MET = "NOT MET"
    UNCLEAR = "unclear: noise"  # missed by less than the machine's own spread
    INFORMATION = "-"


class Result(NamedTuple):
    """One line of the table."""

    name: str
    budget: str
    measured: str
    verdict: Verdict
    detail: dict[str, Any]  # raw numbers, for results.json


def at_least(value: float, budget: float, noise: float = 0.0) -> Verdict:
    """`noise`: how far two measurements of one thing lay apart, in `value`'s unit."""
    if value >= budget:
        return Verdict.MET
    return Verdict.UNCLEAR if value + noise >= budget else Verdict.NOT_MET


def at_most(value: float, budget: float) -> Verdict:
    return Verdict.MET if value <= budget else Verdict.NOT_MET


def unrelated_ratio(hooks: dict[str, str]) -> float:
    """The budget of system calls that have to do with no process, for these hooks."""
    by_tracepoint = "tracepoint" in hooks["reap"]
    return UNRELATED_RATIO_TRACEPOINTS if by_tracepoint else UNRELATED_RATIO_EXACT_HOOK
