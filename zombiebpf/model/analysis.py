# SPDX-License-Identifier: Apache-2.0
"""A whole observation: the input of every finding and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from zombiebpf.model.join import Join
from zombiebpf.model.life import Life

SCHEMA = "zombiebpf/1"


@dataclass(frozen=True)
class Meta:
    """The circumstances of an observation.

    `hooks` and `precision` are keyed by fact: fork, exec, exit, zombie, reparent, reap, wait.
    """

    version: str
    kernel: str
    hooks: Mapping[str, str]
    precision: Mapping[str, str]
    started_ns: int
    ended_ns: int
    command: Sequence[str]
    lost_events: int = 0
    lost_by: Mapping[str, int] = field(default_factory=dict)  # cause -> number of records
    clock: str = "CLOCK_MONOTONIC"
    started_wall: Optional[float] = None  # `started_ns` in seconds since the epoch
    boottime_offset_ns: int = 0  # CLOCK_BOOTTIME - CLOCK_MONOTONIC: how long the machine slept
    not_collected: Sequence[str] = ()  # fields of the contract that are null for every process
    cut: Optional[str] = None  # why the observation or its trace ends early


@dataclass(frozen=True)
class Analysis:
    """The processes and joins of one observation."""

    meta: Meta
    lives: Sequence[Life]  # by fork time
    joins: Optional[Sequence[Join]] = None  # by begin; None: joins were not collected
