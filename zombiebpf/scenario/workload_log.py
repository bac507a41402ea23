# SPDX-License-Identifier: Apache-2.0
"""The log that a workload and its reaper write of a run, parsed into typed values.

Each line is a JSON object, written by workload/story.py or workload_reaper.py. All
instants are CLOCK_MONOTONIC nanoseconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from zombiebpf.errors import ZombiebpfError


class WorkloadLogError(ZombiebpfError):
    """A log that cannot be parsed: nothing can be concluded from its run."""


class LoggedStart(NamedTuple):
    """A process was started that plays a role."""

    ns: int  # when it was logged; the process lived then, or until shortly before
    pid: int
    role: str


class LoggedJoin(NamedTuple):
    """A call of Process.join()."""

    pid: int
    tid: Optional[int]
    child_pid: int
    timeout_s: Optional[float]
    began_ns: int
    ended_ns: int
    status: Optional[int]  # the child's exitcode that the joiner then knew


class Fact(NamedTuple):
    """A fact that the workload reports itself."""

    ns: int
    pid: int
    name: str
    value: Any


class WorkloadLog(NamedTuple):
    """All entries of a run, in the order in which they were written."""

    started: Sequence[LoggedStart]
    joins: Sequence[LoggedJoin]
    facts: Sequence[Fact]
    reaper_pid: Optional[int] = None
    out_of_time: bool = False  # the reaper killed the workload at its time limit
    interrupted: bool = False  # by Ctrl-C


def parse(data: bytes) -> WorkloadLog:
    """Parse a log. Raise WorkloadLogError with the number of the first broken line."""
    started: list[LoggedStart] = []
    joins: list[LoggedJoin] = []
    facts: list[Fact] = []
    reaper_pid: Optional[int] = None
    ends = set()
    for number, line in enumerate(data.splitlines(), 1):
        try:
            entry = json.loads(line)
            kind = entry["kind"]
            if kind == "started":
                role = str(entry["role"])
                started.append(LoggedStart(_int(entry["ns"]), _int(entry["child"]), role))
            elif kind == "join":
                joins.append(_join(entry))
            elif kind == "fact":
                name = str(entry["name"])
                facts.append(Fact(_int(entry["ns"]), _int(entry["pid"]), name, entry["value"]))
            elif kind == "keeper":
                reaper_pid = _int(entry["pid"])
            elif kind in ("out_of_time", "interrupted"):
                ends.add(kind)
            else:
                raise ValueError(f"unknown kind {kind!r}")
        except (ValueError, KeyError, TypeError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise WorkloadLogError(
                f"line {number} of the workload's marks is broken: {why}"
            ) from None
    out_of_time, interrupted = "out_of_time" in ends, "interrupted" in ends
    return WorkloadLog(started, joins, facts, reaper_pid, out_of_time, interrupted)


def _join(entry: Any) -> LoggedJoin:
    timeout, status, tid = entry["timeout_s"], entry["status"], entry["tid"]
    began_ns, ended_ns = _int(entry["began_ns"]), _int(entry["ns"])
    if ended_ns < began_ns:
        raise ValueError("a join ends before it begins")
    return LoggedJoin(
        pid=_int(entry["pid"]),
        tid=None if tid is None else _int(tid),
        child_pid=_int(entry["child"]),
        timeout_s=None if timeout is None else float(timeout),
        began_ns=began_ns,
        ended_ns=ended_ns,
        status=None if status is None else _int(status),
    )


def _int(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value
