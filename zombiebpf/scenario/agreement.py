# SPDX-License-Identifier: Apache-2.0
"""Do the joins that were seen from outside agree with what the workload marked itself?

A workload marks the instants just before and just after each Process.join(); the
observer knows nothing of these marks. So a join that was seen must lie between
two marks and say the same, and a marked one must have been seen, unless it made
no system call: its child's status was known already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from zombiebpf.analysis import Join
from zombiebpf.scenario.joins import ChildJoin

KIND = "Process.join"
AT_EXIT = "_exit_function"  # multiprocessing/util.py joins what the program did not
ROUNDING_S = 0.002  # poll() counts in milliseconds, rounded up


def disagreements(
    marked: Sequence[ChildJoin], seen: Sequence[Join], by_server: bool
) -> Iterator[str]:
    """In words; nothing if they agree. `by_server`: a forkserver forks, so that which
    child a join is for may be unknown."""
    joins = [each for each in seen if (each.kind or "").startswith(KIND)]
    threads = {(each.join.pid, each.join.tid) for each in marked}
    claimed: set[int] = set()
    for mark in marked:
        inside = [
            number
            for number, join in enumerate(joins)
            if (join.pid, join.tid) == (mark.join.pid, mark.join.tid) and _within(mark, join)
        ]
        claimed.update(inside)
        yield from _compare(mark, [joins[number] for number in inside], by_server)
    for number, join in enumerate(joins):
        if number not in claimed and (join.pid, join.tid) in threads and not _at_exit(join):
            yield f"seen, not marked: {_words(join)}"


def _compare(mark: ChildJoin, found: Sequence[Join], by_server: bool) -> Iterator[str]:
    told = mark.join
    if not found:
        if not _without_call(mark, by_server):
            yield f"marked, not seen: {_words(told)}"
        return
    if len(found) > 1:
        yield f"marked once, seen {len(found)} times: {_words(told)}"
        return
    join = found[0]
    unknown = by_server and join.child_pid is None  # so that its fate is not known either
    if join.returned != told.returned and not (unknown and join.returned is None):
        yield f"marked {_words(told)}, seen {_words(join)}"
    if join.child_pid != told.child_pid and not (join.child_pid is None and by_server):
        yield f"marked for {told.child_pid}, seen for {join.child_pid}: {_words(join)}"
    if not _same_timeout(told.timeout_s, join.timeout_s):
        yield f"marked timeout {told.timeout_s}, seen {join.timeout_s}: {_words(join)}"


def _without_call(mark: ChildJoin, by_server: bool) -> bool:
    """The status was known, or the server had told it before the join looked."""
    if mark.join.returned == "already_reaped":
        return True
    exit_ns = None if mark.child is None else mark.child.exit_ns
    return by_server and exit_ns is not None and exit_ns < mark.began_ns


def _within(mark: ChildJoin, join: Join) -> bool:
    if join.began_ns is None or join.ended_ns is None:
        return False
    return mark.began_ns <= join.began_ns and join.ended_ns <= mark.ended_ns


def _same_timeout(told: Optional[float], seen: Optional[float]) -> bool:
    if told is None or seen is None:
        return told is seen
    return abs(told - seen) <= ROUNDING_S


def _at_exit(join: Join) -> bool:
    frames = () if join.stack is None else join.stack.frames
    return any(AT_EXIT in frame.function for frame in frames)


def _words(join: Join) -> str:
    timeout = "" if join.timeout_s is None else f"{join.timeout_s:g}"
    return f"join({timeout}) of {join.child_pid} by {join.pid}: {join.returned}"
