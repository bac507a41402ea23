# SPDX-License-Identifier: Apache-2.0
"""Events -> joins: who waited for which child in Python, for how long, and what came of it.

Nothing is marked in the program: a join is told by the captures of its thread's stack,
at a wait, at the end of a block, at a reap. What makes no system call is not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable, Optional

from zombiebpf.analysis import Child, Join
from zombiebpf.attribution.attribute import WNOHANG
from zombiebpf.attribution.children import Children, Key, Known
from zombiebpf.attribution.frames import users_frame
from zombiebpf.attribution.launches import Launches
from zombiebpf.attribution.open_join import (
    BARELY_NS,
    OTHER_NEWS,
    SLACK_NS,
    OpenJoin,
    begins_anew,
    reaped_before,
)
from zombiebpf.attribution.place import Place, Places, is_nap
from zombiebpf.attribution.rules import Rules
from zombiebpf.attribution.threads import MOST_THREADS, Threads
from zombiebpf.events import (
    Block,
    Event,
    Exec,
    Existing,
    Exit,
    Fork,
    Reap,
    StackKind,
    StackOf,
    Text,
    Wait,
)
from zombiebpf.stack import Stack

GRACE_NS = 1_000_000_000  # after which a call that was seen to wake up is taken to have ended
MOST_TIMEOUTS = 4096
_WAITS = frozenset({"wait4", "waitid"})


class Joins:
    """Feed it the events that the lifecycle gets, before it, take joins as they end.

    `stack` is given a stack's id and problem (StackOf).
    """

    def __init__(
        self,
        rules: Rules,
        stack: Callable[[int, int], Optional[Stack]],
        syscalls: Mapping[int, str],
    ) -> None:
        self._rules = rules
        self._places = Places(rules)
        self._stack = stack
        self._syscalls = syscalls
        self._children = Children()
        self._launches = Launches(self._children)
        self._threads = Threads(self._end)
        self._waits: dict[int, Wait] = {}  # by tid: their stacks are to come
        self._reaps: dict[int, tuple[Reap, bool]] = {}  # the same; and whether a join has it
        self._timeouts: dict[Key, bool] = {}
        self._ended: list[Join] = []
        self._looked_ns = 0
        self._handlers: dict[type, Callable[..., None]] = {
            Fork: self._children.fork,
            Existing: self._children.existing,
            Exec: self._exec,
            Text: self._children.text,
            Exit: self._exit,
            Wait: self._wait,
            Reap: self._reap,
            StackOf: self._stack_of,
            Block: self._block,
        }

    def feed(self, events: Sequence[Event]) -> list[Join]:
        """Take events; return the joins that have ended, in the order of their ends."""
        handlers = self._handlers
        for event in events:
            handler = handlers.get(event.__class__)
            if handler is not None:
                handler(event)
        if self._threads and events and events[-1].ns - self._looked_ns > GRACE_NS // 10:
            self._looked_ns = events[-1].ns
            self._threads.give_up(self._looked_ns - GRACE_NS)
        return self._take()

    def finish(self, now_ns: int) -> list[Join]:
        """The end of the observation: also those that last on, with no end."""
        del now_ns
        self._threads.finish()
        return self._take()

    def had_timeout(self, pid: int, start_ns: int) -> bool:
        """Was this process reaped by a join that was seen to have a timeout?"""
        return (pid, start_ns) in self._timeouts

    def _take(self) -> list[Join]:
        ended, self._ended = self._ended, []
        ended.sort(key=lambda join: (join.ended_ns is None, join.ended_ns or 0))
        return ended

    # what tells where a thread stands

    def _wait(self, event: Wait) -> None:
        if len(self._waits) >= MOST_THREADS:
            self._waits.clear()
        self._waits[event.tid] = event

    def _stack_of(self, event: StackOf) -> None:
        stack = self._stack(event.stack_id, event.problem)
        if event.kind == StackKind.FORK:
            found = self._places.objects(stack, event.first, event.selves)
            rule = self._rules.match(stack).rule if stack is not None else None
            if rule is not None and rule.helper:
                found = {}  # start() of a Process has started the server or the tracker first
            child = self._children.forked_at((event.pid, event.start_ns), stack, found.values())
            if child is not None and not event.first:
                self._launches.forked(child)
            if stack is not None and not event.first:
                self._threads.leave(event.tid, stack)
        elif event.kind == StackKind.WAIT:
            wait = self._waits.pop(event.tid, None)
            if wait is not None and wait.ns == event.ns and stack is not None:
                place = self._places.of(event, (event.pid, event.start_ns), stack)
                self._waiting(wait, place)
        elif event.kind == StackKind.REAP:
            reap, joined = self._reaps.pop(event.tid, (None, False))
            if reap is None or (reap.pid, reap.start_ns) != (event.pid, event.start_ns):
                return
            known = self._children.get((event.pid, event.start_ns))
            if known is not None:
                found = self._places.objects(stack, event.first, event.selves)
                known.reap_objects = frozenset(found.values())
            if stack is not None and not joined:
                reaper = (reap.reaper_pid, reap.reaper_start_ns)
                place = self._places.of(event, reaper, stack)
                self._reaping(reap, place, known)

    def _waiting(self, wait: Wait, place: Place) -> None:
        """It entered do_wait()."""
        self._threads.leave(wait.tid, place.stack)
        rule, nonblocking = place.match.rule, wait.options < 0 or bool(wait.options & WNOHANG)
        if rule is None or place.match.call is None or (rule.only_waits and nonblocking):
            return
        child = self._child(place)
        if child is None and wait.target > 0:
            child = self._children.of_number(place.process, wait.target, wait.ns)
        join = self._threads.current(place, child)
        if join is not None and join.waited and wait.options & OTHER_NEWS:
            self._threads.close(join)
            join = None
        if join is None:
            join = self._begin(place, wait.ns, child)
        join.syscall, join.options = self._syscalls.get(wait.syscall), max(wait.options, 0)
        join.wait_ns = join.last_ns = wait.ns
        if join.child is None and not rule.many:
            join.child = child
        if nonblocking:
            return
        join.waited = True
        join.ended_ns = None
        child = join.child
        if child is not None and child.reap_ns is not None and child.reap_ns < wait.ns:
            join.ended_ns = wait.ns  # ECHILD, at once
            if not rule.many:
                self._threads.close(join)

    def _block(self, block: Block) -> None:
        """It was off the CPU, and runs again."""
        stack = self._stack(block.stack_id, 0) if block.stack_id else None
        if stack is None:
            return
        process = (block.pid, block.start_ns)
        syscall = self._syscalls.get(block.syscall, "")
        self._threads.leave(block.tid, stack)
        if syscall == "read":
            self._launches.slept(process, block.tid, stack, block.pipe, block.ns, block.ended_ns)
        place = self._places.at(process, block.tid, block.ns, stack, 0, block.selves)
        rule = place.match.rule
        if rule is None or place.match.call is None:
            return
        if rule.only_waits and syscall not in _WAITS:
            return
        child = self._child(place)
        join = self._threads.current(place, child)
        polls = block.timeout_ns >= 0
        if is_nap(stack, syscall):
            polls = False
            if join is not None and join.naps and begins_anew(join, block):
                self._threads.close(join)
                join = None
        elif polls and join is not None and join.deadline_ns is not None:
            if join.timed_out or block.timeout_ns > join.deadline_ns - block.ns + BARELY_NS:
                self._threads.close(join)  # a call with all its time again
                join = None
        if join is None:
            join = self._begin(place, block.ns, child)
        join.block(block.ns, block.ended_ns)
        if is_nap(stack, syscall):
            join.naps += 1
        if block.pipe and not rule.many:
            join.pipe = block.pipe
            join.child = join.child or self._launches.of_pipe(block.pipe)
        if polls and not rule.many:
            self._polled(join, block)
        elif syscall in _WAITS and not rule.many and reaped_before(join.child, block.ended_ns):
            self._threads.close(join)

    def _polled(self, join: OpenJoin, block: Block) -> None:
        if join.timeout_ns is None and join.deadline_ns is None:
            join.timeout_ns = block.timeout_ns
        join.deadline_ns = block.ns + block.timeout_ns
        if block.ended_ns < join.deadline_ns - SLACK_NS:
            return  # something happened: what, the next event of the thread tells
        join.timed_out = True
        died = join.child is not None and (
            join.child.exit_ns is not None and join.child.exit_ns <= block.ended_ns
        )
        # poll() looks once more when its time is over: the child may have died in time for that
        if not died and not join.rule.goes_on:
            self._threads.close(join)

    def _reap(self, reap: Reap) -> None:
        known = self._children.reap(reap)
        joined = False
        for join in reversed(self._threads.of(reap.reaper_tid)):
            mine = join.wait_ns and join.wait_ns == reap.wait_ns
            if mine and join.process == (reap.reaper_pid, reap.reaper_start_ns):
                joined = True
                self._reaped_by(join, reap, known)
                break
        if len(self._reaps) >= MOST_THREADS:
            self._reaps.clear()
        self._reaps[reap.reaper_tid] = (reap, joined)

    def _reaping(self, reap: Reap, place: Place, known: Optional[Known]) -> None:
        """A reap whose wait was not seen: it did not block."""
        self._threads.leave(place.tid, place.stack)
        rule = place.match.rule
        if rule is None or place.match.call is None:
            return
        if rule.only_waits and (reap.options < 0 or reap.options & WNOHANG):
            return
        join = self._threads.current(place, known)
        if join is None:
            join = self._begin(place, reap.wait_ns or reap.ns, known)
            join.syscall = self._syscalls.get(reap.syscall)
            if rule.kind == "join" and reap.options >= 0 and reap.options & WNOHANG:
                join.timeout_ns = 0  # multiprocessing/popen_fork.py wait(): join(0)
        self._reaped_by(join, reap, known)

    def _reaped_by(self, join: OpenJoin, reap: Reap, known: Optional[Known]) -> None:
        join.ended_ns = join.last_ns = reap.ns
        if join.rule.many:
            return  # it goes on
        join.reaped = True
        if join.child is None and known is None:
            join.bare = Child(reap.pid, reap.start_ns)
        elif known is not None:
            join.child = known
        if join.timeout_ns is not None and join.rule.kind == "join":
            while len(self._timeouts) >= MOST_TIMEOUTS:
                del self._timeouts[next(iter(self._timeouts))]
            self._timeouts[reap.pid, reap.start_ns] = True
        self._threads.close(join)

    # children

    def _child(self, place: Place) -> Optional[Known]:
        return self._children.of_object(place.process, place.addresses, place.ns)

    def _exec(self, event: Exec) -> None:
        self._children.exec((event.pid, event.start_ns))

    def _exit(self, event: Exit) -> None:
        key = (event.pid, event.start_ns)
        self._children.exit(key, event.ns)
        self._threads.exit(key, event.ns)

    # joins

    def _begin(self, place: Place, began_ns: int, child: Optional[Known]) -> OpenJoin:
        rule = place.match.rule
        assert rule is not None
        join = OpenJoin(place, rule, began_ns)
        if not rule.many:
            join.child = child
        elif place.call_address:
            join.several = self._children.all_of_object(place.process, place.call_address, place.ns)
        self._threads.add(join)
        return join

    def _end(self, join: OpenJoin) -> None:
        known = join.child is not None or join.bare is not None
        if join.pipe and not (known or join.waited) and join.ended_ns is not None:
            join.child = self._launches.only_one_left(join.process, join.began_ns, join.ended_ns)
        child = join.child
        if child is not None and join.stack.problem is None:
            by_child = self._rules.of_child(join.stack, child.stack, child.first_program)
            if by_child is not None:
                join.rule = by_child
        self._ended.append(join.join(users_frame(join.stack)))
