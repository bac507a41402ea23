# SPDX-License-Identifier: Apache-2.0
"""Which of the lives an actor is: an actor is named by its PID alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Optional

from zombiebpf.life import Actor, Life

_EARLY = -1  # a life whose fork was not seen began before all else


class Who:
    """Looks a PID up among the lives, at an instant."""

    def __init__(self, lives: Sequence[Life]) -> None:
        self._users: dict[int, list[tuple[int, int]]] = {}  # pid -> (fork_ns, index)
        self._lives = lives
        self._starts = {(life.pid, life.start_ns): index for index, life in enumerate(lives)}
        for index, life in enumerate(lives):
            if life.pid:
                begin = _EARLY if life.fork_ns is None else life.fork_ns
                self._users.setdefault(life.pid, []).append((begin, index))
        for users in self._users.values():
            users.sort()

    def had(self, pid: Optional[int], ns: Optional[int]) -> Optional[int]:
        """The index of the life that had the PID at `ns`; None: none of them.

        Without an instant it is told only where one life alone had the PID.
        """
        users = self._users.get(pid or 0)
        if not users:
            return None
        if ns is None:
            return users[0][1] if len(users) == 1 else None
        place = bisect_right(users, (ns, len(self._lives))) - 1
        if place < 0:
            return None
        index = users[place][1]
        reap_ns = self._lives[index].reap_ns
        return None if reap_ns is not None and reap_ns < ns else index

    def born(self, pid: Optional[int], start_ns: Optional[int]) -> Optional[int]:
        """The index of the life that had the PID and began then."""
        return self._starts.get((pid or 0, -1 if start_ns is None else start_ns))

    def is_(self, actor: Optional[Actor], ns: Optional[int]) -> Optional[int]:
        """The same of an actor."""
        return None if actor is None else self.had(actor.pid, ns)
