# SPDX-License-Identifier: Apache-2.0
"""Which thread stands in which join: opened and closed by what is seen of the thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

from zombiebpf.attribution.children import Key, Known
from zombiebpf.attribution.open_join import OpenJoin
from zombiebpf.attribution.place import Place
from zombiebpf.stack import Stack

MOST_THREADS = 4096  # with a join that lasts: the oldest is then given up


class Threads:
    """`end` is called with each join that is over."""

    def __init__(self, end: Callable[[OpenJoin], None]) -> None:
        self._end = end
        self._open: dict[int, list[OpenJoin]] = {}  # by tid; an interrupted call holds another

    def __bool__(self) -> bool:
        return bool(self._open)

    def of(self, tid: int) -> Sequence[OpenJoin]:
        """From the outermost call on."""
        return self._open.get(tid, ())

    def add(self, join: OpenJoin) -> None:
        if len(self._open) >= MOST_THREADS:
            for each in reversed(self._open.pop(next(iter(self._open)))):
                self._end(each)
        self._open.setdefault(join.tid, []).append(join)

    def current(self, place: Place, child: Optional[Known]) -> Optional[OpenJoin]:
        """The call that this capture is of, if it has begun already."""
        for join in tuple(reversed(self.of(place.tid))):
            if join.process == place.process and join.stands_at(place.stack) == place.match.call:
                if join.is_for(place, child):
                    join.addresses |= set(place.addresses)
                    return join
                self.close(join)
                return None
        return None

    def leave(self, tid: int, stack: Stack) -> None:
        """The thread is seen elsewhere: what it no longer stands in has ended."""
        joins = self.of(tid)
        while joins and joins[-1].stands_at(stack) is None:
            self.close(joins[-1])
            joins = self.of(tid)

    def give_up(self, before_ns: int) -> None:
        """Calls that woke up before that, and of which nothing was seen since, have ended."""
        for joins in list(self._open.values()):
            for join in tuple(reversed(joins)):
                if join.ended_ns is not None and join.last_ns < before_ns:
                    self.close(join)

    def close(self, join: OpenJoin) -> None:
        joins = self._open[join.tid]
        joins.remove(join)
        if not joins:
            del self._open[join.tid]
        if join.ended_ns is None:
            join.ended_ns = join.last_ns  # it did not block, or not for long
        self._end(join)

    def exit(self, process: Key, ns: int) -> None:
        """A process has ended, and all its calls."""
        for tid in [tid for tid, each in self._open.items() if each[0].process == process]:
            for join in reversed(self._open.pop(tid)):
                if join.ended_ns is None:
                    join.ended_ns = ns
                self._end(join)

    def finish(self) -> None:
        """What lasts on has no end."""
        for joins in list(self._open.values()):
            for join in reversed(joins):
                self._end(join)
        self._open.clear()
