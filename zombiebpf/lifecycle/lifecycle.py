# SPDX-License-Identifier: Apache-2.0
"""The state machine that turns kernel events into process records.

It is pure: it reads no clock and no /proc. Events may arrive out of order across CPUs, twice or
not at all; what is then missing in a record is None, with the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Callable, Optional

from zombiebpf.lifecycle.builder import UNSEEN_LOST, LifeBuilder
from zombiebpf.lifecycle.parents import ChildrenByThread
from zombiebpf.model.events import (
    Block,
    Event,
    Exec,
    Exit,
    Fork,
    Freed,
    Reap,
    ReapFlags,
    Reparent,
    ReparentFlags,
    Snapshot,
    StackKind,
    StackOf,
    Text,
    Wait,
    Zombie,
)
from zombiebpf.model.life import (
    Actor,
    AdopterKind,
    Execution,
    Key,
    Life,
    PidNamespace,
    ReapedBy,
    Reparenting,
)
from zombiebpf.model.stack import Stack
from zombiebpf.model.units import NS_PER_S

_EXITING, _BY_PARENT, _STACKED, _LATE = map(int, ReapFlags)
_OF_FORK, _OF_REAP = int(StackKind.FORK), int(StackKind.REAP)

# How long a reaped process stays open for late events: the last context switch of a
# dying thread may be stamped long after the reap it belongs to.
LATE_EVENT_NS = NS_PER_S

UNSEEN_ZOMBIE = "no signal told of it, nor a later look at the dying thread, before the reap"
UNSEEN_CALL = "the registers of the reaper's system call could not be read"
UNSEEN_ADOPTION = "its last parent was PID {}; when it was given to it was not seen"


class Lifecycle:
    """Turn events into process records: feed() takes events and returns what has ended.

    `syscalls` maps system call numbers of the observed machine to names.
    `cgroup_path` returns the path of a cgroup id, or None.
    `stack` returns the stack for the id and problem of a StackOf, or None.
    `outsider` returns why the stack of a reaper outside the observation is unknown;
    None if it is not Python.
    `complete` may fill in a builder before its record is made; afterwards nothing changes.
    """

    def __init__(
        self,
        syscalls: Mapping[int, str],
        cgroup_path: Callable[[int], Optional[str]] = lambda _: None,
        late_event_ns: int = LATE_EVENT_NS,
        stack: Callable[[int, int], Optional[Stack]] = lambda number, problem: None,
        outsider: Callable[[int], Optional[str]] = lambda pid: None,
        complete: Callable[[LifeBuilder], None] = lambda life: None,
    ) -> None:
        self._stack = stack
        self._outsider = outsider
        self._complete = complete
        self._syscalls = syscalls
        self._cgroup_path = cgroup_path
        self._late_event_ns = late_event_ns
        self._open: dict[Key, LifeBuilder] = {}
        self._children = ChildrenByThread()
        self._waiting: deque[tuple[int, Key]] = deque()  # reaped, but an event may be missing
        self._zombies: deque[tuple[int, Key]] = deque()  # by their zombie instants
        self._finished: list[Life] = []
        self._alive = 0
        self._handlers: dict[type, Callable[..., None]] = {
            Fork: self._fork,
            Snapshot: self._snapshot,
            Exec: self._exec,
            Text: self._text,
            Exit: self._exit,
            Zombie: self._zombie,
            Reparent: self._reparent,
            Reap: self._reap,
            Freed: self._freed,
            StackOf: self._stack_of,
            Wait: lambda event: None,
            Block: lambda event: None,
        }

    def feed(self, events: Sequence[Event]) -> list[Life]:
        """Take events. Return the records of the processes that they end."""
        if events:
            handlers = self._handlers
            for event in events:
                handlers[event.__class__](event)
            waiting, oldest = self._waiting, events[-1].ns - self._late_event_ns
            while waiting and waiting[0][0] < oldest:
                self._give_up(waiting.popleft()[1])
        finished, self._finished = self._finished, []
        return finished

    def finish(self) -> list[Life]:
        """End the observation. Return the records of all unfinished processes."""
        while self._waiting:
            self._give_up(self._waiting.popleft()[1])
        for life in self._open.values():
            self._close(life)
        finished, self._finished = self._finished, []
        self._open.clear()
        self._zombies.clear()
        self._alive = 0
        self._children = ChildrenByThread()
        return finished

    @property
    def unfinished(self) -> Iterable[Life]:
        """Return the records, as they are now, of unreaped processes in fork order."""
        return (life.record() for life in self._open.values() if life.reap_ns is None)

    def zombies_since(self, ns: int) -> list[LifeBuilder]:
        """Return unreaped processes that became zombies before `ns`, each process once."""
        found = []
        while self._zombies and self._zombies[0][0] < ns:
            life = self._open.get(self._zombies.popleft()[1])
            if life is not None and life.reap_ns is None:
                found.append(life)
        return found

    @property
    def alive(self) -> int:
        """Return the number of processes that have not been reaped."""
        return self._alive

    # birth

    def _fork(self, event: Fork) -> None:
        key = (event.pid, event.start_ns)
        if key in self._open:
            self._open[key].note_fork(event)
            return
        new = tuple.__new__  # the hot path: a NamedTuple's constructor takes three times as long
        life = LifeBuilder()
        life.pid, life.start_ns = key
        life.comm = comm = event.comm
        life.forker = new(Actor, (event.forker_pid, event.forker_tid, comm))
        life.fork_ns = event.ns
        life.pidns = new(PidNamespace, (event.pidns, event.ns_pid))
        life.cgroup = self._cgroup_path(event.cgroup_id)
        life.exit_signal = event.exit_signal
        life.birth_parent = life.parent_pid = event.parent_pid
        life.parent_tid = event.parent_tid
        if event.parent_pid == event.forker_pid:
            life.parent_start_ns = event.forker_start_ns
        forker = self._open.get((event.forker_pid, event.forker_start_ns))
        if forker is not None:
            life.argv, life.argv_cut = forker.argv, forker.argv_cut
        self._open[key] = life
        self._alive += 1
        self._children.add(event.parent_tid, key, life)

    def _snapshot(self, event: Snapshot) -> None:
        key = (event.pid, event.start_ns)
        if key not in self._open:
            life = LifeBuilder.from_snapshot(event, self._cgroup_path(event.cgroup_id))
            self._open[key] = life
            self._children.add(event.parent_tid, key, life)
            self._alive += 1
        if self._open[key].note_earlier_end(event):
            self._zombies.append((event.ns, key))

    # the program it runs

    def _exec(self, event: Exec) -> None:
        life = self._open.get((event.pid, event.start_ns))
        if event.old_tid != event.pid:
            self._children.rename_thread(event, None if life is None else life.comm)
        if life is not None and all(each.ns != event.ns for each in life.execs):
            life.comm = event.comm
            life.execs = (*life.execs, Execution(event.ns, None))
            life.new_program(event.ns)

    def _text(self, event: Text) -> None:
        life = self._open.get((event.pid, event.start_ns))
        if life is None:
            return
        if event.ns != life.program_ns:
            life.note_unseen("exec", UNSEEN_LOST)
            life.new_program(event.ns)
        life.add_text(event)

    # death

    def _exit(self, event: Exit) -> None:
        life = self._open.get((event.pid, event.start_ns))
        if life is None or life.exit_ns is not None:
            return
        life.exit_ns = event.ns
        life.wait_status = event.code
        life.comm = event.comm

    def _zombie(self, event: Zombie) -> None:
        key = (event.pid, event.start_ns)
        life = self._open.get(key)
        if life is None or life.zombie_ns is not None or life.reaped_by is ReapedBy.KERNEL:
            return
        life.zombie_ns = event.ns
        life.wait_status = event.code
        life.zombie_parent_tid = event.parent_tid
        self._zombies.append((event.ns, key))
        if event.hook:
            life.zombie_exact = False

    def _reparent(self, event: Reparent) -> None:
        if not event.flags & ReparentFlags.RESOLVED:
            return  # no child was left to adopt, or its reap will show the adopter
        if (event.adopter_pid, event.adopter_tid) == (event.pid, event.tid):
            return  # an exec has given the dying leader's number to the adopting thread
        kind = AdopterKind.SUBREAPER
        if (event.adopter_pid, event.adopter_start_ns) == (event.pid, event.start_ns):
            kind = AdopterKind.THREAD
        elif event.flags & ReparentFlags.INIT:
            kind = AdopterKind.INIT
        exact = bool(event.flags & ReparentFlags.EXACT)
        from_ = Actor(event.pid, event.tid, event.comm)
        to = Actor(event.adopter_pid, event.adopter_tid, event.adopter_comm)
        for key, child in self._children.pop(event.tid).items():
            if child.reap_parent_tid == event.tid:
                continue  # it was reaped before
            if child.parent_start_ns not in (event.start_ns, None):
                continue  # its parent was an earlier process of this PID
            # the kernel side read the parent thread at the zombie instant
            while_zombie = child.zombie_parent_tid == event.tid
            if while_zombie:
                child.zombie_parent_tid = event.adopter_tid
            step = Reparenting(event.ns, from_, to, kind, while_zombie, exact)
            child.reparents = (*child.reparents, step)
            child.parent_pid = event.adopter_pid
            child.parent_start_ns = event.adopter_start_ns
            self._children.adopt(event.adopter_tid, key, child)
            if child.reap_parent_tid is not None:
                child.set_reaper()

    def _reap(self, event: Reap) -> None:
        key = (event.pid, event.start_ns)
        life = self._open.get(key)
        if life is None or life.reap_ns is not None:
            return
        flags = event.flags
        life.reap_ns, life.reap_exact = event.ns, not flags & _LATE
        self._alive -= 1
        life.wait_status = event.code
        life.reap_parent_tid = event.parent_tid
        if flags & _EXITING:
            life.reaped_by = ReapedBy.KERNEL
            if event.reaper_start_ns == event.start_ns and event.reaper_pid in (event.pid, 0):
                life.zombie_ns = None  # it released itself: nobody could have waited for it
        else:
            self._set_reaper(life, event)
        if (life.parent_tid, life.parent_pid) != (event.parent_tid, event.parent_pid) or (
            life.zombie_ns is None and not life.was_zombie and life.reaped_by is not ReapedBy.KERNEL
        ):
            life.last_parent_pid = event.parent_pid
        life.stack_due = bool(flags & _STACKED)
        if life.stack_due or life.last_parent_pid is not None:
            self._waiting.append((event.ns, key))
        else:
            self._end(key, life)

    def _set_reaper(self, life: LifeBuilder, event: Reap) -> None:
        reaper_pid = event.reaper_pid
        life.reaper = tuple.__new__(Actor, (reaper_pid, event.reaper_tid, event.comm))
        if event.syscall >= 0:
            name = self._syscalls.get(event.syscall) or f"syscall_{event.syscall}"
            life.set_call(name, event.options, event.wait_ns)
        else:
            life.note_unseen("reap_call", UNSEEN_CALL)
        if not event.flags & _STACKED and (reaper_pid, event.reaper_start_ns) not in self._open:
            why = self._outsider(reaper_pid)
            if why is not None:
                life.note_unseen("reap_call.stack", why)
        if event.flags & _BY_PARENT:
            life.set_reaper()
        else:
            life.reaped_by = ReapedBy.TRACER

    def _stack_of(self, event: StackOf) -> None:
        if event.first or event.kind not in (_OF_FORK, _OF_REAP):
            return
        key = (event.pid, event.start_ns)
        life = self._open.get(key)
        if life is None:
            return
        stack = self._stack(event.stack_id, event.problem)
        if event.kind == _OF_FORK:
            life.set_fork_stack(stack, event.problem)
        elif life.reap_ns == event.ns:
            life.set_reap_stack(stack, event.problem)
            if life.last_parent_pid is None:  # nothing else is awaited
                self._end(key, life)

    def _freed(self, event: Freed) -> None:
        key = (event.pid, event.start_ns)
        life = self._open.get(key)
        if life is None or life.reap_ns is not None:
            return
        self._alive -= 1
        life.note_freed(event)
        self._end(key, life)

    # the end

    def _give_up(self, key: Key) -> None:
        """Stop waiting for what is still missing."""
        life = self._open.get(key)
        if life is None:
            return
        if life.stack_due:
            life.note_unseen("reap_call.stack", UNSEEN_LOST)
        last = life.last_parent_pid
        if last is not None and life.parent_pid != last:
            life.note_unseen("reparents", UNSEEN_ADOPTION.format(last))
            life.parent_pid = last
            life.set_reaper()
        self._end(key, life)

    def _end(self, key: Key, life: LifeBuilder) -> None:
        del self._open[key]
        self._children.remove(key, life)
        no_instant = life.was_zombie or life.reaped_by is ReapedBy.KERNEL
        if life.zombie_ns is None and not no_instant:
            # exit_notify() signals each zombie with an exit signal, unless nobody is to wait
            lost = life.exit_signal != 0 and life.reaped_by is not ReapedBy.UNSEEN
            life.note_unseen("zombie_ns", UNSEEN_LOST if lost else UNSEEN_ZOMBIE)
        if life.exit_ns is None and "exit_ns" not in life.unseen:
            life.note_unseen("exit_ns", UNSEEN_LOST)
        self._close(life)

    def _close(self, life: LifeBuilder) -> None:
        life.finish()
        self._complete(life)
        self._finished.append(life.record())
