# SPDX-License-Identifier: Apache-2.0
"""Describe an observation: its hooks, start and end, and lost records."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence

import zombiebpf
from zombiebpf.kernel.observer import Observer
from zombiebpf.model.analysis import Meta


def describe(
    observer: Observer, argv: Sequence[str], started_ns: int, ended_ns: int, wall: float
) -> Meta:
    """Return the description of an observation so far.

    `started_ns` and `ended_ns` are CLOCK_MONOTONIC; `wall` is the start in seconds since
    the epoch.
    """
    lost = observer.lost()
    suspended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return Meta(
        version=zombiebpf.__version__,
        kernel=platform.release(),
        hooks=observer.hooks,
        precision=observer.precision,
        started_ns=started_ns,
        ended_ns=ended_ns,
        command=argv,
        lost_events=sum(lost.values()),
        lost_by={cause: count for cause, count in lost.items() if count},
        started_wall=wall,
        boottime_offset_ns=max(suspended_ns, 0),  # the clocks are not read at one instant
    )
