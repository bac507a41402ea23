# SPDX-License-Identifier: Apache-2.0
"""Whose child is whose: open lives by the thread that is their parent.

Parents are threads (`real_parent` is the one that forked); a thread's end, or an
exec by one that is no leader, gives its children to another.
"""

from __future__ import annotations

from typing import Optional

from zombiebpf.events import Exec
from zombiebpf.life import Actor, AdopterKind, Reparenting
from zombiebpf.open_life import OpenLife

Key = tuple[int, int]  # pid, start_ns


class Kinship:
    """Open lives by their parent thread's tid."""

    def __init__(self) -> None:
        self._by_thread: dict[int, dict[Key, OpenLife]] = {}

    def add(self, tid: int, key: Key, life: OpenLife) -> None:
        children = self._by_thread.get(tid)
        if children is None:
            self._by_thread[tid] = {key: life}
        else:
            children[key] = life

    def adopt(self, tid: int, key: Key, life: OpenLife) -> None:
        """The thread `tid` is its parent from now on."""
        self.add(tid, key, life)
        life.parent_tid = tid

    def pop(self, tid: int) -> dict[Key, OpenLife]:
        """A thread's children, which it has no more."""
        return self._by_thread.pop(tid, {})

    def remove(self, key: Key, life: OpenLife) -> None:
        """Its end."""
        siblings = self._by_thread.get(life.parent_tid)
        if siblings is not None:
            siblings.pop(key, None)
            if not siblings:
                del self._by_thread[life.parent_tid]

    def take_leaders_place(self, event: Exec, comm: Optional[str]) -> None:
        """The thread that exec'ed takes the dead leader's number: de_thread(), fs/exec.c."""
        tid, pid = event.old_tid, event.pid
        mine = self.pop(tid) if tid else self._children_of(event)
        # the leader's children have been given to this thread; its last switch, which
        # would tell of it, may come after the exec
        for child in self._by_thread.get(pid, {}).values():
            child.reparents = (
                *child.reparents,
                Reparenting(
                    event.ns,
                    Actor(pid, pid, comm),
                    Actor(pid, pid, comm),
                    AdopterKind.THREAD,
                    child.zombie_parent_tid == pid,
                    False,
                ),
            )
        for key, child in mine.items():
            if child.zombie_parent_tid == tid:
                child.zombie_parent_tid = pid
            self.adopt(pid, key, child)

    def _children_of(self, event: Exec) -> dict[Key, OpenLife]:
        """All children of a process but its leader's: it has no other thread any more."""
        found: dict[Key, OpenLife] = {}
        for tid in [tid for tid in self._by_thread if tid != event.pid]:
            children = self._by_thread[tid]
            for key, child in list(children.items()):
                if (child.parent_pid, child.parent_start_ns) == (event.pid, event.start_ns):
                    found[key] = children.pop(key)
                    if child.zombie_parent_tid == tid:
                        child.zombie_parent_tid = event.pid
            if not children:
                del self._by_thread[tid]
        return found
