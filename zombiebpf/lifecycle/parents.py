# SPDX-License-Identifier: Apache-2.0
"""Unfinished processes by the thread that is their parent.

Parents are threads: `real_parent` is the one that forked. The exit of a thread, or an
exec by a thread other than the leader, gives its children to another thread.
"""

from __future__ import annotations

from typing import Optional

from zombiebpf.lifecycle.builder import LifeBuilder
from zombiebpf.model.events import Exec
from zombiebpf.model.life import Actor, AdopterKind, Key, Reparenting


class ChildrenByThread:
    """The children of each parent thread, by its TID."""

    def __init__(self) -> None:
        self._by_thread: dict[int, dict[Key, LifeBuilder]] = {}

    def add(self, tid: int, key: Key, life: LifeBuilder) -> None:
        """Add a child of the thread `tid`."""
        children = self._by_thread.get(tid)
        if children is None:
            self._by_thread[tid] = {key: life}
        else:
            children[key] = life

    def adopt(self, tid: int, key: Key, life: LifeBuilder) -> None:
        """Make the thread `tid` the parent of a child."""
        self.add(tid, key, life)
        life.parent_tid = tid

    def pop(self, tid: int) -> dict[Key, LifeBuilder]:
        """Remove and return the children of a thread."""
        return self._by_thread.pop(tid, {})

    def remove(self, key: Key, life: LifeBuilder) -> None:
        """Remove one child, which was reaped."""
        siblings = self._by_thread.get(life.parent_tid)
        if siblings is not None:
            siblings.pop(key, None)
            if not siblings:
                del self._by_thread[life.parent_tid]

    def rename_thread(self, event: Exec, comm: Optional[str]) -> None:
        """Give the thread that called exec the TID of the dead leader: de_thread(), fs/exec.c."""
        tid, pid = event.old_tid, event.pid
        moved = self.pop(tid) if tid else self._children_of(event)
        # the leader's children have been given to this thread; its last switch, which
        # would report that, may come after the exec
        leader, kind = Actor(pid, pid, comm), AdopterKind.THREAD
        for child in self._by_thread.get(pid, {}).values():
            while_zombie = child.zombie_parent_tid == pid
            step = Reparenting(event.ns, leader, leader, kind, while_zombie, False)
            child.add_reparent(step)
        for key, child in moved.items():
            if child.zombie_parent_tid == tid:
                child.zombie_parent_tid = pid
            self.adopt(pid, key, child)

    def _children_of(self, event: Exec) -> dict[Key, LifeBuilder]:
        """Remove and return the children of all threads of a process but its leader."""
        found: dict[Key, LifeBuilder] = {}
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
