# SPDX-License-Identifier: Apache-2.0
"""The result of each join: the workload's log, correlated with what the kernel showed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from zombiebpf.model.join import Join
from zombiebpf.model.life import Life
from zombiebpf.scenario.workload_log import LoggedJoin


class ChildJoin(NamedTuple):
    """A join and the process record of its child."""

    join: Join
    child: Optional[Life]  # None: not observed
    began_ns: int
    ended_ns: int

    @property
    def call(self) -> str:
        """The call in words: `join()` or `join(0.3)`."""
        timeout = self.join.timeout_s
        return "join()" if timeout is None else f"join({timeout:g})"

    @property
    def lasted_ns(self) -> int:
        """How long it lasted."""
        return self.ended_ns - self.began_ns

    @property
    def after_zombie_ns(self) -> Optional[int]:
        """How long after its child had become a zombie it returned; negative: before that."""
        if self.child is None or self.child.zombie_ns is None:
            return None
        return self.ended_ns - self.child.zombie_ns


def life_at(lives: Iterable[Life], pid: int, ns: int) -> Optional[Life]:
    """Return the process that had the PID at `ns`: the last one with this PID forked until then."""
    users = [
        (life.fork_ns, life)
        for life in lives
        if life.pid == pid and life.fork_ns is not None and life.fork_ns <= ns
    ]
    return max(users, key=lambda user: user[0])[1] if users else None


def correlate(logged: Iterable[LoggedJoin], lives: Sequence[Life]) -> list[ChildJoin]:
    """Return each join with what the kernel showed of it, in the order of their begins."""
    result = []
    for each in sorted(logged, key=lambda each: each.began_ns):
        child = life_at(lives, each.child_pid, each.began_ns)
        join = Join(
            pid=each.pid,
            tid=each.tid,
            child_pid=each.child_pid,
            timeout_s=each.timeout_s,
            began_ns=each.began_ns,
            ended_ns=each.ended_ns,
            returned=None if child is None else _returned(each, child),
        )
        result.append(ChildJoin(join, child, each.began_ns, each.ended_ns))
    return result


def _returned(logged: LoggedJoin, child: Life) -> Optional[str]:
    """Return how a join ended.

    reaped: the child was reaped during the join, which knows the status; by its own wait
    or, under forkserver, by the server, whose child it is.
    already_reaped: the child was reaped before the join began.
    timeout: the join returned and the child was not reaped.
    stolen: the child was reaped, but the joiner never learned the status.
    None: the log and the kernel contradict each other.
    """
    reaped = child.reap_ns is not None and child.reap_ns <= logged.ended_ns
    if logged.status is None:
        if reaped:
            return "stolen"
        return "timeout" if logged.timeout_s is not None else None
    if not reaped:
        return None
    assert child.reap_ns is not None
    return "reaped" if child.reap_ns >= logged.began_ns else "already_reaped"
