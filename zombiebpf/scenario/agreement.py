# SPDX-License-Identifier: Apache-2.0
"""Check the observed joins against those that the workload logged itself.

A workload logs the instants just before and just after each Process.join(); the
observer knows nothing of this log. An observed join must lie between two such
instants and agree with them. A logged join must have been observed, unless it made
no system call because the status of its child was known already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from zombiebpf.model.join import Join
from zombiebpf.scenario.joins import ChildJoin

KIND = "Process.join"
AT_EXIT = "_exit_function"  # multiprocessing/util.py joins what the program did not
ROUNDING_S = 0.002  # poll() counts in milliseconds, rounded up


def disagreements(
    logged: Sequence[ChildJoin], seen: Sequence[Join], by_server: bool
) -> Iterator[str]:
    """Describe each disagreement. `by_server`: a fork server forks, so a child may be unknown."""
    joins = [each for each in seen if (each.kind or "").startswith(KIND)]
    threads = {(each.join.pid, each.join.tid) for each in logged}
    claimed: set[int] = set()
    for entry in logged:
        inside = [
            number
            for number, join in enumerate(joins)
            if (join.pid, join.tid) == (entry.join.pid, entry.join.tid) and _within(entry, join)
        ]
        claimed.update(inside)
        yield from _compare(entry, [joins[number] for number in inside], by_server)
    for number, join in enumerate(joins):
        if number not in claimed and (join.pid, join.tid) in threads and not _at_exit(join):
            yield f"seen, not marked: {_words(join)}"


def _compare(entry: ChildJoin, found: Sequence[Join], by_server: bool) -> Iterator[str]:
    logged = entry.join
    if not found:
        if not _without_call(entry, by_server):
            yield f"marked, not seen: {_words(logged)}"
        return
    if len(found) > 1:
        yield f"marked once, seen {len(found)} times: {_words(logged)}"
        return
    join = found[0]
    unknown = by_server and join.child_pid is None  # then what it returned is unknown too
    if join.returned != logged.returned and not (unknown and join.returned is None):
        yield f"marked {_words(logged)}, seen {_words(join)}"
    if join.child_pid != logged.child_pid and not unknown:
        yield f"marked for {logged.child_pid}, seen for {join.child_pid}: {_words(join)}"
    if not _same_timeout(logged.timeout_s, join.timeout_s):
        yield f"marked timeout {logged.timeout_s}, seen {join.timeout_s}: {_words(join)}"


def _without_call(entry: ChildJoin, by_server: bool) -> bool:
    """Return True if the status was known, or if the fork server sent it before the join began."""
    if entry.join.returned == "already_reaped":
        return True
    exit_ns = None if entry.child is None else entry.child.exit_ns
    return by_server and exit_ns is not None and exit_ns < entry.began_ns


def _within(entry: ChildJoin, join: Join) -> bool:
    if join.began_ns is None or join.ended_ns is None:
        return False
    return entry.began_ns <= join.began_ns and join.ended_ns <= entry.ended_ns


def _same_timeout(logged: Optional[float], seen: Optional[float]) -> bool:
    if logged is None or seen is None:
        return logged is seen
    return abs(logged - seen) <= ROUNDING_S


def _at_exit(join: Join) -> bool:
    frames = () if join.stack is None else join.stack.frames
    return any(AT_EXIT in frame.function for frame in frames)


def _words(join: Join) -> str:
    timeout = "" if join.timeout_s is None else f"{join.timeout_s:g}"
    return f"join({timeout}) of {join.child_pid} by {join.pid}: {join.returned}"
