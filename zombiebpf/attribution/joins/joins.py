# SPDX-License-Identifier: Apache-2.0
"""Turn events into joins: who waited for which child in Python, how long, with which result.

A join is recognised by the captures of its thread's stack: at a wait, at the end of a
block, at a reap. A join that makes no system call is not observed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Callable, Optional

from zombiebpf.attribution.joins.capture import (
    Capture,
    capture_of,
    is_popen_sleep,
    object_addresses,
)
from zombiebpf.attribution.joins.children import ChildRecord, Children
from zombiebpf.attribution.joins.forkserver import ForkserverChildren
from zombiebpf.attribution.joins.open_join import (
    NON_EXIT_OPTIONS,
    REPOLL_SLACK_NS,
    SLACK_NS,
    OpenJoin,
    starts_new_call,
)
from zombiebpf.attribution.joins.open_joins import MAX_THREADS, OpenJoins
from zombiebpf.attribution.rules.matching import Rules
from zombiebpf.model.events import (
    Block,
    Event,
    Exec,
    Exit,
    Fork,
    Reap,
    Snapshot,
    StackKind,
    StackOf,
    Text,
    Wait,
)
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import Key
from zombiebpf.model.stack import Stack
from zombiebpf.model.units import NS_PER_S

# A call that woke up so long ago, with nothing observed of its thread since, has ended.
WOKEN_UP_NS = NS_PER_S
MAX_TIMEOUTS = 4096
_OF_FORK, _OF_WAIT, _OF_REAP, _ = map(int, StackKind)
_WAITS = frozenset({"wait4", "waitid"})


class Joins:
    """Turn events into joins: take() takes an event, ended() returns the joins that have ended.

    It is the lifecycle's Watcher, which says which events it is given. `stack` returns the
    stack for the id and problem of a StackOf, or None. `syscalls` maps system call numbers
    of the observed machine to names.
    """

    def __init__(
        self,
        rules: Rules,
        stack: Callable[[int, int], Optional[Stack]],
        syscalls: Mapping[int, str],
    ) -> None:
        self._rules = rules
        self._stack = stack
        self._syscalls = syscalls
        self._children = Children()
        self._forkservers = ForkserverChildren(self._children)
        self._open = OpenJoins(self._end)
        self.waiting = self._open.by_thread
        self._waits: dict[int, Wait] = {}  # by TID: their stacks have not arrived
        self._reaps: dict[int, tuple[Reap, bool]] = {}  # by TID; whether a join took it
        self._timeouts: dict[Key, None] = {}
        self._ended: list[Join] = []
        self._checked_ns = 0
        self._handlers: dict[type, Callable[..., None]] = {
            Fork: self._children.fork,
            Snapshot: self._children.existing,
            Exec: self._children.exec,
            Text: self._children.text,
            Exit: self._exit,
            Wait: self._wait,
            Reap: self._reap,
            StackOf: self._stack_of,
            Block: self._block,
        }

    def take(self, event: Event) -> None:
        """Take an event."""
        handler = self._handlers.get(event.__class__)
        if handler is not None:
            handler(event)

    def ended(self, ns: int) -> list[Join]:
        """Return the joins that have ended, in the order of their ends; `ns` is now."""
        if self._open and ns - self._checked_ns > WOKEN_UP_NS // 10:
            self._checked_ns = ns
            self._open.give_up(ns - WOKEN_UP_NS)
        return self._take()

    def finish(self) -> list[Join]:
        """End the observation. Return all other joins; those that have not returned have no end."""
        self._open.finish()
        return self._take()

    def had_timeout(self, pid: int, start_ns: int) -> bool:
        """Return whether a join that was seen to have a timeout reaped this process."""
        return (pid, start_ns) in self._timeouts

    def _take(self) -> list[Join]:
        ended, self._ended = self._ended, []
        ended.sort(key=lambda join: (join.ended_ns is None, join.ended_ns or 0))
        return ended

    # captures of stacks

    def _wait(self, event: Wait) -> None:
        if len(self._waits) >= MAX_THREADS:
            self._waits.clear()
        self._waits[event.tid] = event

    def _stack_of(self, event: StackOf) -> None:
        stack = self._stack(event.stack_id, event.problem)
        if event.kind == _OF_FORK:
            found = object_addresses(self._rules, stack, event.first, event.selves)
            rule = self._rules.match(stack).rule if stack is not None else None
            if rule is not None and rule.helper:
                found = {}  # start() of a Process starts the server or the tracker first
            child = self._children.fork_stack((event.pid, event.start_ns), stack, found.values())
            if child is not None and not event.first:
                self._forkservers.forked(child)
            if stack is not None and not event.first:
                self._open.leave(event.tid, stack)
        elif event.kind == _OF_WAIT:
            wait = self._waits.pop(event.tid, None)
            if wait is not None and wait.ns == event.ns and stack is not None:
                key = (event.pid, event.start_ns)
                self._waiting(wait, capture_of(self._rules, event, key, stack))
        elif event.kind == _OF_REAP:
            reap, joined = self._reaps.pop(event.tid, (None, False))
            if reap is None or (reap.pid, reap.start_ns) != (event.pid, event.start_ns):
                return
            child = self._children.get((event.pid, event.start_ns))
            if child is not None:
                found = object_addresses(self._rules, stack, event.first, event.selves)
                child.reap_objects = frozenset(found.values())
            if stack is not None and not joined:
                reaper = (reap.reaper_pid, reap.reaper_start_ns)
                self._reaping(reap, capture_of(self._rules, event, reaper, stack), child)

    def _waiting(self, wait: Wait, capture: Capture) -> None:
        """Take a wait: the thread entered do_wait()."""
        self._open.leave(wait.tid, capture.stack)
        rule, nonblocking = capture.match.rule, wait.options < 0 or bool(wait.options & os.WNOHANG)
        if rule is None or capture.match.call is None or (rule.only_waits and nonblocking):
            return
        child = self._child(capture)
        if child is None and wait.target > 0:
            child = self._children.of_pid(capture.process, wait.target, wait.ns)
        join = self._open.current(capture, child)
        if join is not None and join.waited and wait.options & NON_EXIT_OPTIONS:
            self._open.close(join)
            join = None
        if join is None:
            join = self._begin(capture, wait.ns)
        join.syscall, join.options = self._syscalls.get(wait.syscall), max(wait.options, 0)
        join.wait_ns = join.last_ns = wait.ns
        if join.child is None and not rule.many:
            join.child = child
        if nonblocking:
            return
        join.waited = True
        join.ended_ns = None
        if _reaped_before(join.child, wait.ns):
            self._open.close(join)  # ECHILD, at once

    def _block(self, block: Block) -> None:
        """Take a block: the thread was off the CPU and runs again."""
        stack = self._stack(block.stack_id, 0) if block.stack_id else None
        if stack is None:
            return
        syscall = self._syscalls.get(block.syscall, "")
        self._open.leave(block.tid, stack)
        if syscall == "read":
            self._forkservers.read(block, stack)
        capture = capture_of(self._rules, block, (block.pid, block.start_ns), stack)
        rule = capture.match.rule
        if rule is None or capture.match.call is None:
            return
        if rule.only_waits and syscall not in _WAITS:
            return
        child = self._child(capture)
        join = self._open.current(capture, child)
        polls = block.timeout_ns >= 0
        if is_popen_sleep(stack, syscall):
            polls = False
            if join is not None and join.sleeps and starts_new_call(join, block):
                self._open.close(join)
                join = None
        elif polls and join is not None and join.deadline_ns is not None:
            if join.timed_out or block.timeout_ns > join.deadline_ns - block.ns + REPOLL_SLACK_NS:
                self._open.close(join)  # a new call: it has its whole time again
                join = None
        if join is None:
            join = self._begin(capture, block.ns)
            if not rule.many:
                join.child = child
        join.block(block.ns, block.ended_ns)
        if is_popen_sleep(stack, syscall):
            join.sleeps += 1
        if block.pipe and not rule.many:
            join.pipe = block.pipe
            join.child = join.child or self._forkservers.of_pipe(block.pipe)
        if polls and not rule.many:
            self._polled(join, block)
        elif syscall in _WAITS and _reaped_before(join.child, block.ended_ns):
            self._open.close(join)

    def _polled(self, join: OpenJoin, block: Block) -> None:
        if join.timeout_ns is None:
            join.timeout_ns = block.timeout_ns
        join.deadline_ns = block.ns + block.timeout_ns
        if block.ended_ns < join.deadline_ns - SLACK_NS:
            return  # something happened: the thread's next event shows what
        join.timed_out = True
        died = join.child is not None and (
            join.child.exit_ns is not None and join.child.exit_ns <= block.ended_ns
        )
        # do_poll() checks once more after its timeout (fs/select.c): the child may be dead by then
        if not died and not join.rule.goes_on:
            self._open.close(join)

    def _reap(self, reap: Reap) -> None:
        child = self._children.reap(reap)
        joined = False
        for join in reversed(self._open.of_thread(reap.reaper_tid)):
            mine = join.wait_ns and join.wait_ns == reap.wait_ns
            if mine and join.process == (reap.reaper_pid, reap.reaper_start_ns):
                joined = True
                self._reaped_by(join, reap, child)
                break
        if len(self._reaps) >= MAX_THREADS:
            self._reaps.clear()
        self._reaps[reap.reaper_tid] = (reap, joined)

    def _reaping(self, reap: Reap, capture: Capture, child: Optional[ChildRecord]) -> None:
        """Take a reap whose wait was not observed, because it did not block."""
        self._open.leave(capture.tid, capture.stack)
        rule = capture.match.rule
        if rule is None or capture.match.call is None:
            return
        if rule.only_waits and (reap.options < 0 or reap.options & os.WNOHANG):
            return
        join = self._open.current(capture, child)
        if join is None:
            join = self._begin(capture, reap.wait_ns or reap.ns)
            join.syscall = self._syscalls.get(reap.syscall)
            if rule.kind == "join" and reap.options >= 0 and reap.options & os.WNOHANG:
                join.timeout_ns = 0  # multiprocessing/popen_fork.py wait(): join(0)
        self._reaped_by(join, reap, child)

    def _reaped_by(self, join: OpenJoin, reap: Reap, child: Optional[ChildRecord]) -> None:
        join.ended_ns = join.last_ns = reap.ns
        if join.rule.many:
            return  # it goes on with the next child
        join.reaped = True
        if child is not None:
            join.child = child
        elif join.child is None:
            join.unrecorded_child = Child(reap.pid, reap.start_ns)
        if join.timeout_ns is not None and join.rule.kind == "join":
            while len(self._timeouts) >= MAX_TIMEOUTS:
                del self._timeouts[next(iter(self._timeouts))]
            self._timeouts[reap.pid, reap.start_ns] = None
        self._open.close(join)

    # children

    def _child(self, capture: Capture) -> Optional[ChildRecord]:
        """Return the child that the objects on a stack are of."""
        return self._children.of_objects(capture.process, capture.addresses, capture.ns)

    def _exit(self, event: Exit) -> None:
        self._children.exit(event)
        self._open.exit(event)

    # joins

    def _begin(self, capture: Capture, began_ns: int) -> OpenJoin:
        rule = capture.match.rule
        assert rule is not None
        join = OpenJoin(capture, rule, began_ns)
        if rule.many and capture.call_address:
            process, address = capture.process, capture.call_address
            join.children = self._children.all_of_object(process, address, capture.ns)
        self._open.add(join)
        return join

    def _end(self, join: OpenJoin) -> None:
        unknown = join.child is None and join.unrecorded_child is None
        if join.pipe and unknown and not join.waited and join.ended_ns is not None:
            process, began_ns = join.process, join.began_ns
            join.child = self._forkservers.only_unclaimed(process, began_ns, join.ended_ns)
        child = join.child
        if child is not None and join.stack.problem is None:
            by_child = self._rules.of_child(join.stack, child.stack, child.first_program)
            if by_child is not None:
                join.rule = by_child
        self._ended.append(join.join(self._rules.match(join.stack).user_frame))


def _reaped_before(child: Optional[ChildRecord], ns: int) -> bool:
    """Return whether a child was reaped at `ns` or before."""
    return child is not None and child.reap_ns is not None and child.reap_ns <= ns
