# SPDX-License-Identifier: Apache-2.0
"""From the observer's events to whole lives and joins, each with its lines of Python.

Whoever observes (a command, what runs already) drains it; what has ended goes to
a sink: a list, a trace file, a line on a terminal.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Callable, Optional, Protocol

from zombiebpf.analysis import Join
from zombiebpf.attribution import Attribution, Joins, Rules
from zombiebpf.events import Event, Fork
from zombiebpf.kernel import machine
from zombiebpf.kernel.calls import syscall_names
from zombiebpf.kernel.observer import Observer
from zombiebpf.life import Activity, Actor, Life
from zombiebpf.lifecycle import Lifecycle
from zombiebpf.open_life import OpenLife

LONG_NS = 100_000_000  # a zombie this old: what is its parent doing?


class Sink(Protocol):
    """Takes what has ended."""

    def ended(self, lives: Sequence[Life], joins: Sequence[Join]) -> None:
        """Lives and joins, each in the order of its ends; whole, but for what was not seen."""


class Collected:
    """A sink that keeps all."""

    def __init__(self) -> None:
        self.lives: list[Life] = []
        self.joins: list[Join] = []

    def ended(self, lives: Sequence[Life], joins: Sequence[Join]) -> None:
        self.lives += lives
        self.joins += joins


class Pipeline:
    """Drain it often: the ring buffer holds seconds of the fastest storm."""

    def __init__(
        self,
        observer: Observer,
        sink: Sink,
        rules: Optional[Rules] = None,
        complete: Callable[[Sequence[Event]], Sequence[Event]] = lambda events: events,
    ) -> None:
        """`complete` may add to the events what only /proc tells."""
        self._complete = complete
        rules = rules or Rules.load()
        self._observer = observer
        self._sink = sink
        self._joins = Joins(rules, observer.stacks.get, syscall_names())
        self._attribution = Attribution(rules, self._joins.had_timeout, observer=os.getpid())
        self._lifecycle = Lifecycle(
            syscall_names(),
            machine.Cgroups().path,
            stack=observer.stacks.get,
            outsider=observer.pythons.outsider,
        )
        self.read_to_ns = 0  # the last event's

    @property
    def alive(self) -> int:
        """Lives that have not been reaped."""
        return self._lifecycle.alive

    @property
    def unfinished(self) -> Iterable[Life]:
        """They, in the order of their forks."""
        return self._lifecycle.unfinished

    def drain(self) -> bool:
        """Read one batch; whether there was any."""
        events = self._complete(self._observer.read())
        if events:
            self.read_to_ns = events[-1].ns
            self._take(events)
        for life in self._lifecycle.zombies_since(time.monotonic_ns() - LONG_NS):
            life.meanwhile = self._activity(life)
        return bool(events)

    def drain_all(self) -> None:
        """What has happened until now; more may go on to happen."""
        now = time.monotonic_ns()
        while self.drain() and self.read_to_ns < now:
            pass

    def finish(self) -> None:
        """The end of observation: what is still unfinished, as far as it is known."""
        self._give(self._lifecycle.finish(), self._joins.finish(time.monotonic_ns()))

    def _take(self, events: Sequence[Event]) -> None:
        pythons = self._observer.pythons
        if pythons.any_unsupported:
            for event in events:
                if isinstance(event, Fork):
                    pythons.inherit(event.forker_pid, event.pid)
        joins = self._joins.feed(events)
        self._give(self._lifecycle.feed(events), joins)

    def _give(self, lives: Sequence[Life], joins: Sequence[Join]) -> None:
        for life in lives:
            self._explain(life)
            self._attribution.complete(life)
        if lives or joins:
            self._sink.ended(lives, joins)

    def _explain(self, life: Life) -> None:
        """Why a Python has no stack, where the probes could not know."""
        why = self._observer.pythons.why_no_stack
        if life.fork_stack is None and life.forker is not None and life.fork_ns is not None:
            _note(life, "fork_stack", why(life.forker.pid, life.fork_ns))
        call = life.reap_call
        if call is not None and call.stack is None and life.reaper and life.reap_ns:
            _note(life, "reap_call.stack", why(life.reaper.pid, life.reap_ns))

    def _activity(self, life: OpenLife) -> Optional[Activity]:
        """What the parent of a zombie does while it should wait."""
        pid, tid = life.parent_pid, life.parent_tid
        doing = self._observer.look_at(pid, tid) if pid and tid else None
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


def _note(life: Life, field: str, reason: Optional[str]) -> None:
    if reason is not None and field not in life.unseen:
        life.unseen = {**life.unseen, field: reason}
