# SPDX-License-Identifier: Apache-2.0
"""The children that Python processes forked, by key, by PID and by the object they were for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Optional, TypeVar

from zombiebpf.model.events import Exec, Exit, Fork, Reap, ReapFlags, Snapshot, Text, TextKind
from zombiebpf.model.life import Actor, Key
from zombiebpf.model.stack import Stack

_Name = TypeVar("_Name")

_EXITING = int(ReapFlags.EXITING)  # a flag's own `&` takes longer than all of reap()

MAX_REAPED = 8192  # reaped children that are remembered: a join may still wait for them
MAX_PENDING = 1024  # forks whose stack has not arrived


class ChildRecord:
    """What joins need to know of a child of a Python process."""

    programs = 0
    ran = b""  # filename of its first program
    exit_ns: Optional[int] = None
    reap_ns: Optional[int] = None
    reaper: Optional[Actor] = None
    by_kernel = False
    reap_objects: frozenset[int] = frozenset()  # of the reaper's stack

    def __init__(
        self, key: Key, parent: Key, ns_pid: int, fork_ns: int, stack: Optional[Stack] = None
    ) -> None:
        self.key, self.parent, self.ns_pid, self.fork_ns = key, parent, ns_pid, fork_ns
        self.stack = stack  # the forker's
        self.objects: set[int] = set()  # addresses of its Process, Popen, Pool...

    @property
    def first_program(self) -> Optional[str]:
        """Return the filename of the first program that it executed; None: none, or unknown."""
        return self.ran.decode("utf-8", "surrogateescape") if self.ran else None


class Children:
    """The children of Python processes: added with their fork's stack, dropped after their reap.

    The last MAX_REAPED reaped children are kept. `process` is that of a waiting thread.
    """

    def __init__(self) -> None:
        self._pending: dict[Key, Fork] = {}
        self._records: dict[Key, ChildRecord] = {}
        self._by_pid: dict[int, list[ChildRecord]] = {}  # by PID in the child's own namespace
        self._by_object: dict[tuple[Key, int], list[ChildRecord]] = {}  # in fork order
        self._reaped: deque[Key] = deque()

    def __len__(self) -> int:
        return len(self._records)

    def fork(self, fork: Fork) -> None:
        """Note a fork. Only if its stack arrives the forker is Python."""
        if len(self._pending) >= MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[fork.pid, fork.start_ns] = fork

    def fork_stack(
        self, key: Key, stack: Optional[Stack], objects: Iterable[int]
    ) -> Optional[ChildRecord]:
        """Take the stack of a fork, or more of its objects; return the child."""
        fork = self._pending.pop(key, None)
        if fork is not None:
            parent = (fork.forker_pid, fork.forker_start_ns)
            self._add(ChildRecord(key, parent, fork.ns_pid, fork.ns, stack))
        child = self._records.get(key)
        if child is None:
            return None
        for address in objects:
            if address not in child.objects:
                child.objects.add(address)
                self._by_object.setdefault((child.parent, address), []).append(child)
        return child

    def existing(self, event: Snapshot) -> None:
        """Add a process that existed before the observation."""
        key = (event.pid, event.start_ns)
        if key not in self._records:
            parent = (event.parent_pid, event.parent_start_ns)
            self._add(ChildRecord(key, parent, event.ns_pid, 0))

    def _add(self, child: ChildRecord) -> None:
        self._records[child.key] = child
        self._by_pid.setdefault(child.ns_pid, []).append(child)

    def exit(self, event: Exit) -> None:
        """Note that a process has exited."""
        child = self._records.get((event.pid, event.start_ns))
        if child is not None and child.exit_ns is None:
            child.exit_ns = event.ns

    def exec(self, event: Exec) -> None:
        """Note that a process has executed a program."""
        child = self._records.get((event.pid, event.start_ns))
        if child is not None:
            child.programs += 1

    def text(self, event: Text) -> None:
        """Add a piece of the filename of the first program."""
        child = self._records.get((event.pid, event.start_ns))
        if child is not None and event.kind == TextKind.FILENAME and child.programs <= 1:
            child.ran += event.piece

    def reap(self, event: Reap) -> Optional[ChildRecord]:
        """Note a reap; return the child. Drop the child that was reaped MAX_REAPED reaps ago."""
        child = self._records.get((event.pid, event.start_ns))
        if child is None or child.reap_ns is not None:
            return child
        child.reap_ns = event.ns
        if event.flags & _EXITING:
            child.by_kernel = True
        else:
            child.reaper = Actor(event.reaper_pid, event.reaper_tid, event.comm)
        self._reaped.append(child.key)
        while len(self._reaped) > MAX_REAPED:
            self._drop(self._reaped.popleft())
        return child

    def get(self, key: Key) -> Optional[ChildRecord]:
        """Return a child by its key."""
        return self._records.get(key)

    def of_objects(self, process: Key, addresses: Sequence[int], ns: int) -> Optional[ChildRecord]:
        """Return the child that was forked last before `ns` for one of these objects."""
        for address in addresses:
            for child in reversed(self._by_object.get((process, address), ())):
                if child.fork_ns <= ns:
                    return child
        return None

    def all_of_object(self, process: Key, address: int, ns: int) -> list[ChildRecord]:
        """Return all children that were forked for an object before `ns`."""
        found = self._by_object.get((process, address), ())
        return [child for child in found if child.fork_ns <= ns]

    def of_pid(self, process: Key, pid: int, ns: int) -> Optional[ChildRecord]:
        """Return the child with the PID that a wait call names: the process's own, else any."""
        other = None
        for child in reversed(self._by_pid.get(pid, ())):
            if child.fork_ns > ns:
                continue
            if child.parent == process:
                return child
            other = other or child
        return other

    def of_parent(self, parent: Key) -> Optional[list[ChildRecord]]:
        """Return the remembered children of a process; None: a fork stack has not arrived."""
        if any(
            (fork.forker_pid, fork.forker_start_ns) == parent for fork in self._pending.values()
        ):
            return None
        return [child for child in self._records.values() if child.parent == parent]

    def _drop(self, key: Key) -> None:
        child = self._records.pop(key)
        _remove(self._by_pid, child.ns_pid, child)
        for address in child.objects:
            _remove(self._by_object, (child.parent, address), child)


def _remove(index: dict[_Name, list[ChildRecord]], name: _Name, child: ChildRecord) -> None:
    children = index[name]
    children.remove(child)  # near the start: the oldest are usually dropped first
    if not children:
        del index[name]
