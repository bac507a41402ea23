# SPDX-License-Identifier: Apache-2.0
"""What was observed, whole: the one thing every report is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
class Analysis:
    meta: Meta
    lives: Sequence[Life]  # by fork time
