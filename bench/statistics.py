# SPDX-License-Identifier: Apache-2.0
"""Medians, quartiles, and how much slower work is while something observes it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """A median with the quartiles beside it."""

    median: float
    q1: float
    q3: float


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles (linear interpolation). ValueError if there is no value."""
    if not values:
        raise ValueError("no values")
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    q1, _, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(statistics.median(values), q1, q3)


def slowdowns(
    observed: Sequence[float], before: Sequence[float], after: Sequence[float]
) -> list[float]:
    """Return each observed time over the mean of the unobserved times right before and after."""
    return [
        time / ((first + second) / 2)
        for time, first, second in zip(observed, before, after)
    ]  # fmt: skip


def noise(before: Sequence[float], after: Sequence[float]) -> float:
    """Return how far two unobserved times around one phase lie apart: the median, relative."""
    return statistics.median(
        abs(second / first - 1) for first, second in zip(before, after)
    )  # fmt: skip


def fastest_slowdown(observed: Sequence[float], unobserved: Sequence[float]) -> float:
    """Return the fastest observed time over the fastest unobserved one.

    What a hook adds to a system call it adds to every one, and other work on the machine only
    ever adds: the least disturbed slices of each kind are compared.
    """
    return min(observed) / min(unobserved)
