# SPDX-License-Identifier: Apache-2.0
"""Turn an observer's events into process records and joins, with their lines of Python."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Callable, Optional, cast

from zombiebpf.attribution.attribution import Attribution
from zombiebpf.attribution.joins.joins import Joins
from zombiebpf.attribution.rules.matching import Rules
from zombiebpf.kernel import machine
from zombiebpf.kernel.observer import MAX_BATCH, Observer
from zombiebpf.kernel.syscalls import syscall_names
from zombiebpf.lifecycle.builder import LifeBuilder
from zombiebpf.lifecycle.lifecycle import Lifecycle
from zombiebpf.model import wire
from zombiebpf.model.events import Fork, Snapshot
from zombiebpf.model.join import Join
from zombiebpf.model.life import LATE_NS, Activity, Actor, LifeRow
from zombiebpf.model.units import NS_PER_S
from zombiebpf.model.wire import Records
from zombiebpf.observe.sinks import Sink

# Between two reads. A large batch costs less a process than many small ones: after each pause
# all caches are cold. The ring buffer takes 170,000 records: a storm that starts in the pause
# may send 1.7 million records a second, some 340,000 processes, before one is lost.
POLL_S = 0.1
# While what is read may not wait: for SOON_READS after an unknown program was started, which may
# be a Python that is to be registered; and when a zombie is about to be late.
SOON_POLL_S = 0.02
SOON_READS = 50


class Pipeline:
    """A reader of an observer that gives a sink every process and join that has ended.

    Call drain() again after `poll_s`.
    """

    def __init__(
        self,
        observer: Observer,
        sink: Sink,
        rules: Rules,
        prepare: Callable[[Records], None] = lambda records: None,
        completed: Callable[[Snapshot], Snapshot] = lambda event: event,
    ) -> None:
        """`prepare` sees each batch first; `completed` adds to a snapshot what /proc tells."""
        self._prepare = prepare
        self._observer = observer
        self._sink = sink
        self._joins = Joins(rules, observer.stacks.get, syscall_names())
        self._attribution = Attribution(rules, self._joins.had_timeout, observer=os.getpid())
        self._lifecycle = Lifecycle(
            syscall_names(),
            machine.Cgroups().path,
            stack=observer.stacks.get,
            outsider=observer.interpreters.why_unfollowed,
            complete=self._complete,
            watcher=self._joins,
            completed=completed,
        )
        self._soon_reads = SOON_READS
        self.poll_s = SOON_POLL_S  # how long to sleep before the next read
        self.read_to_ns = 0  # CLOCK_MONOTONIC, of the last event

    @property
    def alive(self) -> int:
        """The number of processes that have not been reaped."""
        return self._lifecycle.alive

    @property
    def unfinished(self) -> Iterable[LifeRow]:
        """Records, as they are now, of processes that have not been reaped, in fork order."""
        return self._lifecycle.unfinished

    @property
    def zombies(self) -> list[LifeRow]:
        """Records of the processes that are zombies now, in fork order."""
        return self._lifecycle.zombies

    def changed(self, before_ns: int) -> Sequence[LifeRow]:
        """Return the unfinished records that have changed since the last call.

        Without those forked after `before_ns` (Lifecycle.changed).
        """
        return self._lifecycle.changed(before_ns)

    def drain(self) -> bool:
        """Read one batch. Return False if there was none."""
        records = self._observer.read()
        if records:
            self.read_to_ns = records.ns(-1)
            self._take(records)
        late_ns = time.monotonic_ns() - LATE_NS
        for life in self._lifecycle.zombies_since(late_ns):
            life.set_meanwhile(self._activity(life))
        self.poll_s = self._pause(len(records) >= MAX_BATCH, late_ns)
        return bool(records)

    def _pause(self, full: bool, late_ns: int) -> float:
        """Return how long to sleep; zombies from before `late_ns` have been looked at."""
        if full:
            return 0.0
        self._soon_reads -= 1
        if self._observer.expects_interpreters:
            self._soon_reads = SOON_READS
        if self._soon_reads > 0:
            return SOON_POLL_S
        oldest_ns = self._lifecycle.oldest_zombie_ns
        if oldest_ns is None:
            return POLL_S
        return min(max((oldest_ns - late_ns) / NS_PER_S, SOON_POLL_S), POLL_S)

    def drain_all(self) -> None:
        """Read all events up to the time of the call."""
        now = time.monotonic_ns()
        while self.drain() and self.read_to_ns < now:
            pass

    def finish(self) -> None:
        """End the observation: give the sink what is unfinished, as far as it is known."""
        self._give(self._lifecycle.finish(), self._joins.finish())

    def _take(self, records: Records) -> None:
        self._prepare(records)
        interpreters = self._observer.interpreters
        if interpreters.any_unsupported:
            for event in records.events(wire.FORK):
                fork = cast(Fork, event)
                interpreters.inherit(fork.forker_pid, fork.pid)
        lives = self._lifecycle.feed(records)
        self._give(lives, self._joins.ended(self.read_to_ns))

    def _give(self, lives: Sequence[LifeRow], joins: Sequence[Join]) -> None:
        if lives or joins:
            self._sink.add(lives, joins)

    def _complete(self, life: LifeBuilder) -> None:
        """Add what stacks show, and why a Python has no stack where the probes could not know."""
        if self._observer.interpreters.any_unread:
            why = self._observer.interpreters.why_no_stack
            if life.fork_stack is None and life.forker_pid is not None and life.fork_ns is not None:
                _note(life, "fork_stack", why(life.forker_pid, life.fork_ns))
            if life.reap_called and life.reap_stack is None and life.reaper_pid and life.reap_ns:
                _note(life, "reap_call.stack", why(life.reaper_pid, life.reap_ns))
        self._attribution.complete(life)

    def _activity(self, life: LifeBuilder) -> Optional[Activity]:
        """Sample what the parent of a zombie is doing instead of waiting."""
        pid, tid = life.parent_pid, life.parent_tid
        doing = self._observer.activity_of(pid, tid) if pid and tid else None
        if doing is None:
            return None
        stack = self._observer.stacks.get(doing.stack_id, 0) if doing.stack_id else None
        if stack is None and doing.syscall is not None and pid == tid:
            stack = self._observer.stack_of_sleeper(pid)
        return Activity(
            time.monotonic_ns(),
            Actor(pid, tid, doing.comm),
            doing.since_ns,
            doing.syscall,
            stack,
            self._attribution.site(stack) if stack is not None else None,
        )


def _note(life: LifeBuilder, field: str, reason: Optional[str]) -> None:
    if reason is not None and field not in life.unseen:
        life.note_unseen(field, reason)
