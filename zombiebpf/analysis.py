# SPDX-License-Identifier: Apache-2.0
"""What was observed, whole: the one thing every report is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from zombiebpf.life import Actor, Life
from zombiebpf.stack import Frame, Stack

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
    started_wall: Optional[float] = None  # `started_ns` in seconds since the epoch
    boottime_offset_ns: int = 0  # CLOCK_BOOTTIME - CLOCK_MONOTONIC: how long the machine slept
    not_collected: Sequence[str] = ()  # fields of the contract that are null for every process
    cut: Optional[str] = None  # why the observation, or its trace, has no proper end


class Child(NamedTuple):
    """A process that a join was for."""

    pid: int
    start_ns: Optional[int]  # None: which of the PID's users it was is not known


@dataclass(frozen=True)
class Join:
    """A thread waited for a child, or for several. None: not seen."""

    pid: Optional[int]
    tid: Optional[int]
    child_pid: Optional[int]  # None: several, or not known which
    timeout_s: Optional[float]  # None: none was given
    began_ns: Optional[int]
    ended_ns: Optional[int]  # None: it lasts on
    # reaped: by this call. timeout: it ended before the child did. already_reaped: by an
    # earlier call of the same process. stolen: by somebody else's. interrupted: by neither.
    returned: Optional[str]
    kind: Optional[str] = None  # "Process.join", "Popen.wait", "Pool.join", "os.waitpid"...
    children: Sequence[Child] = ()  # all of them, where several
    blocked_ns: Optional[int] = None  # off the CPU, between began and ended
    by: Optional[Actor] = None  # who reaped, where it was not this thread
    stack: Optional[Stack] = None
    site: Optional[Frame] = None  # the innermost frame of the user's own code


@dataclass(frozen=True)
class Analysis:
    meta: Meta
    lives: Sequence[Life]  # by fork time
    joins: Optional[Sequence[Join]] = None  # by their begins; None: nothing told of joins
