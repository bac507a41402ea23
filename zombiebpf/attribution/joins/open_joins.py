# SPDX-License-Identifier: Apache-2.0
"""The open joins of each thread, closed by what later events show of the thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

from zombiebpf.attribution.joins.capture import Capture
from zombiebpf.attribution.joins.children import ChildRecord
from zombiebpf.attribution.joins.open_join import OpenJoin
from zombiebpf.model.events import Exit
from zombiebpf.model.stack import Stack

MAX_THREADS = 4096  # with an open join; beyond, the oldest is given up


class OpenJoins:
    """The joins that have not ended, by thread. `end` is called with each join that ends."""

    def __init__(self, end: Callable[[OpenJoin], None]) -> None:
        self._end = end
        self.by_thread: dict[int, list[OpenJoin]] = {}  # by TID; a signal handler's join is inside

    def __bool__(self) -> bool:
        return bool(self.by_thread)

    def of_thread(self, tid: int) -> Sequence[OpenJoin]:
        """Return the joins of a thread, the outermost call first."""
        return self.by_thread.get(tid, ())

    def add(self, join: OpenJoin) -> None:
        """Add a join that has begun, inside the thread's open joins."""
        if len(self.by_thread) >= MAX_THREADS:
            for each in reversed(self.by_thread.pop(next(iter(self.by_thread)))):
                self._end(each)
        self.by_thread.setdefault(join.tid, []).append(join)

    def current(self, capture: Capture, child: Optional[ChildRecord]) -> Optional[OpenJoin]:
        """Return the open join that a capture is of; close it if it is for another child."""
        for join in reversed(self.of_thread(capture.tid)):
            if join.process != capture.process:
                continue
            if join.index_in(capture.stack) == capture.match.call:
                if join.is_for(capture, child):
                    join.addresses |= set(capture.addresses)
                    return join
                self.close(join)
                return None
        return None

    def leave(self, tid: int, stack: Stack) -> None:
        """Close the joins of a thread whose calls are not on its stack any more."""
        joins = self.of_thread(tid)
        while joins and joins[-1].index_in(stack) is None:
            self.close(joins[-1])
            joins = self.of_thread(tid)

    def give_up(self, before_ns: int) -> None:
        """Close the joins that woke up before `before_ns` and were not seen since."""
        for joins in list(self.by_thread.values()):
            for join in tuple(reversed(joins)):
                if join.ended_ns is not None and join.last_ns < before_ns:
                    self.close(join)

    def close(self, join: OpenJoin) -> None:
        """End a join."""
        joins = self.by_thread[join.tid]
        joins.remove(join)
        if not joins:
            del self.by_thread[join.tid]
        if join.ended_ns is None:
            join.ended_ns = join.last_ns  # it did not block, or not for long
        self._end(join)

    def exit(self, event: Exit) -> None:
        """End all joins of a process that has exited."""
        process = (event.pid, event.start_ns)
        for tid in [tid for tid, each in self.by_thread.items() if each[0].process == process]:
            for join in reversed(self.by_thread.pop(tid)):
                if join.ended_ns is None:
                    join.ended_ns = event.ns
                self._end(join)

    def finish(self) -> None:
        """End the observation: the joins that are open get no end."""
        for joins in list(self.by_thread.values()):
            for join in reversed(joins):
                self._end(join)
        self.by_thread.clear()
