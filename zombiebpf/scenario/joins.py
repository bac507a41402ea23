# SPDX-License-Identifier: Apache-2.0
"""What became of each join: the workload's marks, correlated with what the kernel told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from zombiebpf.analysis import Join
from zombiebpf.life import Life
from zombiebpf.scenario.marks import Joined


class ChildJoin(NamedTuple):
    """A join, and the life of the child that it was for."""

    join: Join
    child: Optional[Life]  # None: it was not seen
    began_ns: int
    ended_ns: int

    @property
    def lasted_ns(self) -> int:
        return self.ended_ns - self.began_ns

    @property
    def after_zombie_ns(self) -> Optional[int]:
        """How long after the child had become a zombie it returned; below 0: before that."""
        if self.child is None or self.child.zombie_ns is None:
            return None
        return self.ended_ns - self.child.zombie_ns


def life_at(lives: Iterable[Life], pid: int, ns: int) -> Optional[Life]:
    """Whose PID it was at that time: of the lives with this PID the last that had begun."""
    found = None
    for life in lives:
        if (
            life.pid == pid
            and life.fork_ns is not None
            and life.fork_ns <= ns
            and (found is None or found.fork_ns is None or found.fork_ns < life.fork_ns)
        ):
            found = life
    return found


def correlate(marks: Iterable[Joined], lives: Sequence[Life]) -> list[ChildJoin]:
    """Each join with what the kernel says of it, in the order of their begins."""
    result = []
    for mark in sorted(marks, key=lambda each: each.began_ns):
        child = life_at(lives, mark.child_pid, mark.began_ns)
        join = Join(
            pid=mark.pid,
            tid=mark.tid,
            child_pid=mark.child_pid,
            timeout_s=mark.timeout_s,
            began_ns=mark.began_ns,
            ended_ns=mark.ended_ns,
            returned=None if child is None else _returned(mark, child),
        )
        result.append(ChildJoin(join, child, mark.began_ns, mark.ended_ns))
    return result


def _returned(mark: Joined, child: Life) -> Optional[str]:
    """
    reaped: the child was reaped while it stood in join, and it knows the status; by
    its own wait, or under forkserver by the server, whose child it is.
    already_reaped: the same, but before it began. timeout: it returned and the
    child was not reaped. stolen: it was, but the joiner was never told the status.
    None where the two contradict each other.
    """
    reaped = child.reap_ns is not None and child.reap_ns <= mark.ended_ns
    if mark.status is None:
        if reaped:
            return "stolen"
        return "timeout" if mark.timeout_s is not None else None
    if not reaped:
        return None
    assert child.reap_ns is not None
    return "reaped" if child.reap_ns >= mark.began_ns else "already_reaped"
