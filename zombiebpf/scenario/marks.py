# SPDX-License-Identifier: Apache-2.0
"""What a workload told of itself: the marks file of a run -> typed values.

A line is a JSON object; workload/story.py and keeper.py write them. All times
are CLOCK_MONOTONIC nanoseconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from zombiebpf.errors import ZombiebpfError


class MarksError(ZombiebpfError):
    """The marks of a run cannot be read: nothing can be concluded from it."""


class Started(NamedTuple):
    """A process plays a role."""

    ns: int  # when that was told; it lived then, or has lived shortly before
    pid: int
    role: str


class Joined(NamedTuple):
    """Process.join() between two marks."""

    pid: int
    tid: Optional[int]
    child_pid: int
    timeout_s: Optional[float]
    began_ns: int
    ended_ns: int
    status: Optional[int]  # the child's exitcode, as the joiner then knew it


class Fact(NamedTuple):
    """What the workload saw itself."""

    ns: int
    pid: int
    name: str
    value: Any


class Marks(NamedTuple):
    """All marks of a run, in the order in which they were written."""

    started: Sequence[Started]
    joins: Sequence[Joined]
    facts: Sequence[Fact]
    keeper: Optional[int] = None  # its PID
    out_of_time: bool = False  # the keeper had to end the run
    interrupted: bool = False  # by Ctrl-C


def parse(data: bytes) -> Marks:
    """MarksError names the first line that is broken."""
    started: list[Started] = []
    joins: list[Joined] = []
    facts: list[Fact] = []
    keeper: Optional[int] = None
    ends = set()
    for number, line in enumerate(data.splitlines(), 1):
        try:
            mark = json.loads(line)
            kind = mark["kind"]
            if kind == "started":
                started.append(Started(_int(mark["ns"]), _int(mark["child"]), str(mark["role"])))
            elif kind == "join":
                joins.append(_joined(mark))
            elif kind == "fact":
                name = str(mark["name"])
                facts.append(Fact(_int(mark["ns"]), _int(mark["pid"]), name, mark["value"]))
            elif kind == "keeper":
                keeper = _int(mark["pid"])
            elif kind in ("out_of_time", "interrupted"):
                ends.add(kind)
            else:
                raise ValueError(f"unknown kind {kind!r}")
        except (ValueError, KeyError, TypeError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise MarksError(f"line {number} of the workload's marks is broken: {why}") from None
    return Marks(started, joins, facts, keeper, "out_of_time" in ends, "interrupted" in ends)


def _joined(mark: Any) -> Joined:
    timeout, status, tid = mark["timeout_s"], mark["status"], mark["tid"]
    began_ns, ended_ns = _int(mark["began_ns"]), _int(mark["ns"])
    if ended_ns < began_ns:
        raise ValueError("a join ends before it begins")
    return Joined(
        pid=_int(mark["pid"]),
        tid=None if tid is None else _int(tid),
        child_pid=_int(mark["child"]),
        timeout_s=None if timeout is None else float(timeout),
        began_ns=began_ns,
        ended_ns=ended_ns,
        status=None if status is None else _int(status),
    )


def _int(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value
