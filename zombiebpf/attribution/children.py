# SPDX-License-Identifier: Apache-2.0
"""The children that Python processes forked, as joins must know them: by object, by number."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Optional, TypeVar

from zombiebpf.events import Existing, Fork, Reap, ReapFlags, Text, TextKind
from zombiebpf.life import Actor
from zombiebpf.stack import Stack

Key = tuple[int, int]  # pid, start_ns
_Name = TypeVar("_Name")

MOST_REAPED = 8192  # reaped children that are remembered: somebody may still wait for them
MOST_PENDING = 1024  # forks whose stack has not come


class Known:
    """A child of a Python process."""

    __slots__ = (
        "by_kernel", "exit_ns", "fork_ns", "key", "ns_pid", "objects", "parent", "programs", "ran",
        "reap_ns", "reap_objects", "reaper", "stack",
    )  # fmt: skip

    def __init__(
        self, key: Key, parent: Key, ns_pid: int, fork_ns: int, stack: Optional[Stack] = None
    ) -> None:
        self.key, self.parent, self.ns_pid, self.fork_ns = key, parent, ns_pid, fork_ns
        self.stack = stack  # the forker's
        self.objects: set[int] = set()  # addresses of the Process, Popen, Pool... it is of
        self.programs = 0
        self.ran = b""  # file name of its first program
        self.exit_ns: Optional[int] = None
        self.reap_ns: Optional[int] = None
        self.reaper: Optional[Actor] = None
        self.by_kernel = False
        self.reap_objects: frozenset[int] = frozenset()  # of the reaper's stack

    @property
    def first_program(self) -> Optional[str]:
        return self.ran.decode("utf-8", "surrogateescape") if self.ran else None


class Children:
    """Registered at their fork's stack; dropped some time after their reap."""

    def __init__(self) -> None:
        self._pending: dict[Key, Fork] = {}
        self._known: dict[Key, Known] = {}
        self._by_number: dict[int, list[Known]] = {}  # by the PID in the child's own namespace
        self._by_object: dict[tuple[Key, int], list[Known]] = {}  # in the order of forks
        self._reaped: deque[Key] = deque()

    def __len__(self) -> int:
        return len(self._known)

    def fork(self, fork: Fork) -> None:
        if len(self._pending) >= MOST_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[fork.pid, fork.start_ns] = fork

    def forked_at(
        self, key: Key, stack: Optional[Stack], objects: Iterable[int]
    ) -> Optional[Known]:
        """The stack of a fork, or more of its objects, has come: the forker is Python."""
        fork = self._pending.pop(key, None)
        if fork is not None:
            parent = (fork.forker_pid, fork.forker_start_ns)
            self._add(Known(key, parent, fork.ns_pid, fork.ns, stack))
        known = self._known.get(key)
        if known is None:
            return None
        for address in objects:
            if address not in known.objects:
                known.objects.add(address)
                self._by_object.setdefault((known.parent, address), []).append(known)
        return known

    def existing(self, event: Existing) -> None:
        """It was there before the observation."""
        key = (event.pid, event.start_ns)
        if key not in self._known:
            parent = (event.parent_pid, event.parent_start_ns)
            self._add(Known(key, parent, event.ns_pid, 0))

    def _add(self, known: Known) -> None:
        self._known[known.key] = known
        self._by_number.setdefault(known.ns_pid, []).append(known)

    def exit(self, key: Key, ns: int) -> None:
        known = self._known.get(key)
        if known is not None and known.exit_ns is None:
            known.exit_ns = ns

    def exec(self, key: Key) -> None:
        known = self._known.get(key)
        if known is not None:
            known.programs += 1

    def text(self, event: Text) -> None:
        known = self._known.get((event.pid, event.start_ns))
        if known is not None and event.kind == TextKind.FILENAME and known.programs <= 1:
            known.ran += event.data

    def reap(self, event: Reap) -> Optional[Known]:
        known = self._known.get((event.pid, event.start_ns))
        if known is None or known.reap_ns is not None:
            return known
        known.reap_ns = event.ns
        if event.flags & ReapFlags.EXITING:
            known.by_kernel = True
        else:
            known.reaper = Actor(event.reaper_pid, event.reaper_tid, event.comm)
        self._reaped.append(known.key)
        while len(self._reaped) > MOST_REAPED:
            self._drop(self._reaped.popleft())
        return known

    def get(self, key: Key) -> Optional[Known]:
        return self._known.get(key)

    def of_object(self, process: Key, addresses: Sequence[int], ns: int) -> Optional[Known]:
        """The child that was forked last, before `ns`, for one of these objects."""
        for address in addresses:
            for known in reversed(self._by_object.get((process, address), ())):
                if known.fork_ns <= ns:
                    return known
        return None

    def all_of_object(self, process: Key, address: int, ns: int) -> list[Known]:
        """All that were forked for an object, before `ns`."""
        found = self._by_object.get((process, address), ())
        return [known for known in found if known.fork_ns <= ns]

    def of_number(self, process: Key, number: int, ns: int) -> Optional[Known]:
        """Who has, or had, the PID that a wait call names: an own child, else anybody."""
        anybody = None
        for known in reversed(self._by_number.get(number, ())):
            if known.fork_ns > ns:
                continue
            if known.parent == process:
                return known
            anybody = anybody or known
        return anybody

    def of_parent(self, parent: Key) -> Optional[list[Known]]:
        """All that are remembered of it. None: some may be missing, their stacks have not come."""
        if any(
            (fork.forker_pid, fork.forker_start_ns) == parent for fork in self._pending.values()
        ):
            return None
        return [known for known in self._known.values() if known.parent == parent]

    def _drop(self, key: Key) -> None:
        known = self._known.pop(key)
        _remove(self._by_number, known.ns_pid, known)
        for address in known.objects:
            _remove(self._by_object, (known.parent, address), known)


def _remove(index: dict[_Name, list[Known]], name: _Name, known: Known) -> None:
    """They were put there in order, and the oldest go first as a rule."""
    found = index[name]
    found.remove(known)
    if not found:
        del index[name]
