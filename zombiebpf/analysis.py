# SPDX-License-Identifier: Apache-2.0
"""What was observed, whole: the one thing every report is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from zombiebpf.life import Life

SCHEMA = "zombiebpf/1"


@dataclass(frozen=True)
class Meta:
    """How it was observed. `hooks` and `precision` are keyed by fact:
    fork, exec, exit, zombie, reparent, reap, wait."""

    version: str
    kernel: str
    hooks: Mapping[str, str]
    precision: Mapping[str, str]
    started_ns: int
    ended_ns: int
    command: Sequence[str]
    lost_events: int = 0
    lost_by: Mapping[str, int] = field(default_factory=dict)  # cause -> records lost
    clock: str = "CLOCK_MONOTONIC"


@dataclass(frozen=True)
class Join:
    """A wait for a child by Python's multiprocessing. None: not seen."""

    pid: Optional[int]
    tid: Optional[int]
    child_pid: Optional[int]
    timeout_s: Optional[float]  # None: none was given
    began_ns: Optional[int]
    ended_ns: Optional[int]
    returned: Optional[str]  # reaped | timeout | already_reaped | stolen


@dataclass(frozen=True)
class Analysis:
    meta: Meta
    lives: Sequence[Life]  # by fork time
    joins: Optional[Sequence[Join]] = None  # by their begins; None: nothing told of joins
