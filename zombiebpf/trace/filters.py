# SPDX-License-Identifier: Apache-2.0
"""Filter the processes of a trace."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Optional

from zombiebpf.errors import UsageError
from zombiebpf.model.analysis import Meta
from zombiebpf.model.life import State
from zombiebpf.model.stack import Frame

COMM_LENGTH = 15  # TASK_COMM_LEN less its null byte (include/linux/sched.h)

_STATES = {
    State.RUNNING: "(reap_ns IS NULL AND zombie_ns IS NULL AND NOT was_zombie)",
    State.ZOMBIE: "(reap_ns IS NULL AND (zombie_ns IS NOT NULL OR was_zombie))",
    State.REAPED: "reap_ns IS NOT NULL",
}


class Since(enum.Enum):
    """The instant that a `When` counts from."""

    START = "start"  # of the observation
    END = "end"
    EPOCH = "epoch"
    MIDNIGHT = "midnight"  # local: the first such time of day in the trace


class When(NamedTuple):
    """An instant as a user names it."""

    text: str
    since: Since
    ns: int

    def resolve(self, meta: Meta) -> int:
        """Return CLOCK_MONOTONIC ns. Raise UsageError if the trace lacks the time of day."""
        if self.since is Since.START:
            return meta.started_ns + self.ns
        if self.since is Since.END:
            return meta.ended_ns - self.ns
        if meta.started_wall is None:
            raise UsageError(
                f"{self.text!r}: the trace does not know the time of day",
                "give a time since its start, such as 10m",
            )
        started = round(meta.started_wall * 1e9)
        wall = self.ns if self.since is Since.EPOCH else self._time_of_day(meta)
        return meta.started_ns + wall - started

    def _time_of_day(self, meta: Meta) -> int:
        """Return ns since the epoch of the first one within the trace, else the last before it."""
        assert meta.started_wall is not None
        try:
            start = datetime.fromtimestamp(meta.started_wall)
            midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
            that = midnight + timedelta(microseconds=self.ns // 1000)
            if that < start:
                lasted_s = (meta.ended_ns - meta.started_ns) / 1e9
                next_day = that + timedelta(days=1)
                if next_day.timestamp() <= meta.started_wall + lasted_s:
                    that = next_day
            return round(that.timestamp() * 1e9)
        except (ValueError, OverflowError, OSError):
            raise UsageError(f"{self.text!r}: the trace begins at no time of day") from None


@dataclass(frozen=True)
class Filters:
    """Conditions on processes: one of each kind that is given must hold."""

    pids: tuple[int, ...] = ()
    comms: tuple[str, ...] = ()  # with *, ? and [...] as in the shell
    states: tuple[State, ...] = ()
    sites: tuple[tuple[str, Optional[int]], ...] = ()  # file, or the end of its path, and line
    since: Optional[When] = None  # not reaped before
    until: Optional[When] = None  # forked before
    min_zombie_ns: Optional[int] = None  # up to the trace's end for those that are zombies then

    def __bool__(self) -> bool:
        return self != Filters()

    def window(self, meta: Meta) -> tuple[Optional[int], Optional[int]]:
        """Return `since` and `until` in CLOCK_MONOTONIC ns. Raise UsageError if since > until."""
        since = None if self.since is None else self.since.resolve(meta)
        until = None if self.until is None else self.until.resolve(meta)
        if since is not None and until is not None and since > until:
            assert self.since is not None
            assert self.until is not None
            raise UsageError(f"--since {self.since.text} is after --until {self.until.text}")
        return since, until

    def where(self, meta: Meta, frames: Iterable[int]) -> tuple[str, dict[str, Any]]:
        """Return a condition on the table `life`, and its parameters.

        `frames` are the ids of the frames that match `sites`.
        """
        terms: list[str] = []
        values: dict[str, Any] = {}

        def bound(value: Any) -> str:
            name = f"filter{len(values)}"
            values[name] = value
            return f":{name}"

        if self.pids:
            terms.append(f"pid IN ({', '.join(bound(_clamped(pid)) for pid in self.pids)})")
        if self.comms:
            globs = (f"comm GLOB {bound(_pattern(comm))}" for comm in self.comms)
            terms.append(f"({' OR '.join(globs)})")
        if self.states:
            terms.append(f"({' OR '.join(_STATES[state] for state in self.states)})")
        since, until = self.window(meta)
        if since is not None:
            terms.append(f"(reap_ns IS NULL OR reap_ns >= {bound(_clamped(since))})")
        if until is not None:
            terms.append(f"(fork_ns IS NULL OR fork_ns <= {bound(_clamped(until))})")
        if self.min_zombie_ns is not None:
            # a zombie from before the attach has been one since the start at least
            start, end = bound(_clamped(meta.started_ns)), bound(_clamped(meta.ended_ns))
            began = f"ifnull(zombie_ns, CASE WHEN was_zombie THEN {start} END)"
            least = bound(_clamped(self.min_zombie_ns))
            terms.append(f"ifnull(reap_ns, {end}) - {began} >= {least}")
        if self.sites:
            among = f"IN ({', '.join(str(number) for number in frames)})"
            terms.append(
                f"(fork_site {among} OR reap_site {among}"
                f" OR id IN (SELECT life FROM meanwhile WHERE site {among}))"
            )
        return " AND ".join(terms) or "1", values

    def matches_site(self, frame: Optional[Frame]) -> bool:
        """Return whether one of `sites` matches the frame."""
        return frame is not None and any(
            (frame.file == name or frame.file.endswith("/" + name)) and line in (None, frame.line)
            for name, line in self.sites
        )


def _pattern(comm: str) -> str:
    """Return a pattern for SQLite's GLOB, which has [^x] for the shell's [!x]."""
    if any(each in comm for each in "*?["):
        return comm.replace("[!", "[^")
    return comm[:COMM_LENGTH]


def _clamped(ns: int) -> int:
    return max(min(ns, 2**63 - 1), -(2**63))
