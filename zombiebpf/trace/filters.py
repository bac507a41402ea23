# SPDX-License-Identifier: Apache-2.0
"""Which lives of a trace a report is about."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Optional

from zombiebpf.analysis import Join, Meta
from zombiebpf.errors import UsageError
from zombiebpf.life import State
from zombiebpf.stack import Frame

COMM_LENGTH = 15  # TASK_COMM_LEN less its null byte (include/linux/sched.h)

_STATES = {
    State.RUNNING: "(reap_ns IS NULL AND zombie_ns IS NULL AND NOT was_zombie)",
    State.ZOMBIE: "(reap_ns IS NULL AND (zombie_ns IS NOT NULL OR was_zombie))",
    State.REAPED: "reap_ns IS NOT NULL",
}


class Since(enum.Enum):
    """What a `When` counts from."""

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
        """CLOCK_MONOTONIC ns. UsageError if the trace does not know the time of day."""
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
        """The first one within the trace, else the last one before it; ns since the epoch."""
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
    """All that are given must hold; of one kind, one of them."""

    pids: tuple[int, ...] = ()
    comms: tuple[str, ...] = ()  # with *, ? and [...] as in the shell
    states: tuple[State, ...] = ()
    sites: tuple[tuple[str, Optional[int]], ...] = ()  # file, or the end of its path, and line
    since: Optional[When] = None  # what had not been reaped by then
    until: Optional[When] = None  # what had been forked by then
    min_zombie_ns: Optional[int] = None  # still zombies count up to the trace's end

    def __bool__(self) -> bool:
        return self != Filters()

    def window(self, meta: Meta) -> tuple[Optional[int], Optional[int]]:
        """`since` and `until`. UsageError if nothing can lie between."""
        since = None if self.since is None else self.since.resolve(meta)
        until = None if self.until is None else self.until.resolve(meta)
        if since is not None and until is not None and since > until:
            assert self.since is not None
            assert self.until is not None
            raise UsageError(f"--since {self.since.text} is after --until {self.until.text}")
        return since, until

    def where(self, meta: Meta, frames: Iterable[int]) -> tuple[str, list[Any]]:
        """A condition on the table `life`, and its parameters.

        `frames`: the numbers of the frames that `sites` names.
        """
        terms: list[str] = []
        values: list[Any] = []
        if self.pids:
            terms.append(f"pid IN ({', '.join('?' * len(self.pids))})")
            values += map(_clamped, self.pids)
        if self.comms:
            terms.append(f"({' OR '.join(['comm GLOB ?'] * len(self.comms))})")
            values += map(_pattern, self.comms)
        if self.states:
            terms.append(f"({' OR '.join(_STATES[state] for state in self.states)})")
        since, until = self.window(meta)
        if since is not None:
            terms.append("(reap_ns IS NULL OR reap_ns >= ?)")
            values.append(_clamped(since))
        if until is not None:
            terms.append("(fork_ns IS NULL OR fork_ns <= ?)")
            values.append(_clamped(until))
        if self.min_zombie_ns is not None:
            # one that was a zombie before it was looked at has been one for longer
            began = "ifnull(zombie_ns, CASE WHEN was_zombie THEN ? END)"
            terms.append(f"ifnull(reap_ns, ?) - {began} >= ?")
            values += map(_clamped, (meta.ended_ns, meta.started_ns, self.min_zombie_ns))
        if self.sites:
            among = f"IN ({', '.join(str(number) for number in frames)})"
            terms.append(
                f"(fork_site {among} OR reap_site {among}"
                f" OR id IN (SELECT life FROM meanwhile WHERE site {among}))"
            )
        return " AND ".join(terms) or "1", values

    def names(self, frame: Optional[Frame]) -> bool:
        """Whether one of `sites` is this frame."""
        return frame is not None and any(
            (frame.file == name or frame.file.endswith("/" + name)) and line in (None, frame.line)
            for name, line in self.sites
        )

    def keeps(self, join: Join, lives: set[tuple[int, int]], pids: set[int]) -> bool:
        """Joins of a site by their site, others by the lives that they were for."""
        if self.sites and self.names(join.site):
            return True
        if join.child_pid in pids and not join.children:
            return True
        return any(
            child.pid in pids if child.start_ns is None else (child.pid, child.start_ns) in lives
            for child in join.children
        )


def _pattern(comm: str) -> str:
    """For SQLite's GLOB, which writes [^x] for the shell's [!x]."""
    if any(each in comm for each in "*?["):
        return comm.replace("[!", "[^")
    return comm[:COMM_LENGTH]


def _clamped(ns: int) -> int:
    return max(min(ns, 2**63 - 1), -(2**63))
