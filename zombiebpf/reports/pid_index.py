# SPDX-License-Identifier: Apache-2.0
"""An index of process records by PID and instant: an actor is named by its PID alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Optional

from zombiebpf.model.life import Actor, Life

_EARLY = -1  # the fork instant of a process that existed before the observation


class PidIndex:
    """Finds the process that had a PID at an instant. Results are indexes into `lives`."""

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

    def find(self, pid: Optional[int], ns: Optional[int]) -> Optional[int]:
        """Return the index of the process that had the PID at `ns`; None: none of them.

        With `ns` None, the result is None too if several processes had the PID.
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

    def find_started(self, pid: Optional[int], start_ns: Optional[int]) -> Optional[int]:
        """Return the index of the process with this PID and start time."""
        return self._starts.get((pid or 0, -1 if start_ns is None else start_ns))

    def find_actor(self, actor: Optional[Actor], ns: Optional[int]) -> Optional[int]:
        """Return the index of the process that an actor belonged to at `ns`; None: none."""
        return None if actor is None else self.find(actor.pid, ns)
