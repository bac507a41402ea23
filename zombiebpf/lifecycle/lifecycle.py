# SPDX-License-Identifier: Apache-2.0
"""The state machine that turns kernel events into process records.

It is pure: it reads no clock and no /proc. Events may arrive out of order across CPUs, twice or
not at all; what is then missing in a record is None, with the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Callable, Optional, Protocol, cast

from zombiebpf.lifecycle.builder import UNSEEN_LOST, LifeBuilder
from zombiebpf.lifecycle.parents import ChildrenByThread
from zombiebpf.model import wire
from zombiebpf.model.events import (
    Event,
    Exec,
    Fork,
    ForkFlags,
    Freed,
    ReapFlags,
    Reparent,
    ReparentFlags,
    Snapshot,
    StackKind,
    StackOf,
    Text,
)
from zombiebpf.model.life import (
    Actor,
    AdopterKind,
    Execution,
    Key,
    LifeRow,
    ReapedBy,
    Reparenting,
)
from zombiebpf.model.stack import Stack
from zombiebpf.model.units import NS_PER_S
from zombiebpf.model.wire import COMMS, DECODE, Records

_FORKED_STACKED = int(ForkFlags.STACKED)
_INIT, _RESOLVED, _EXACT = map(int, ReparentFlags)
_EXITING, _BY_PARENT, _STACKED, _LATE = map(int, ReapFlags)
_OF_FORK, _OF_REAP = int(StackKind.FORK), int(StackKind.REAP)
_KERNEL = ReapedBy.KERNEL

# How long a reaped process stays open for late events: the last context switch of a
# dying thread may be stamped long after the reap it belongs to.
LATE_EVENT_NS = NS_PER_S

_MOST_YOUNG = 10_000  # of the ended ones, if nobody asks for what has changed

UNSEEN_ZOMBIE = "no signal told of it, nor a later look at the dying thread, before the reap"
UNSEEN_CALL = "the registers of the reaper's system call could not be read"
UNSEEN_ADOPTION = "its last parent was PID {}; when it was given to it was not seen"

# The hot path takes these records apart without making an event of them.
_unpack_fork, _unpack_exit = wire.UNPACK[wire.FORK], wire.UNPACK[wire.EXIT]
_unpack_zombie, _unpack_reap = wire.UNPACK[wire.ZOMBIE], wire.UNPACK[wire.REAP]


class Watcher(Protocol):
    """Takes, one by one, the events that concern Python stacks, before the records change.

    These are stacks, waits, blocks and snapshots; of processes that a Python forked or that
    were found by a snapshot, and of their descendants, all but zombies and reparentings;
    reaps by a Python; and while a thread waits, all exits and reaps.
    """

    @property
    def waiting(self) -> Mapping[int, object]:
        """The threads that wait, by TID: always the same object."""

    def take(self, event: Event) -> None:
        """Take an event."""


class _NoWatcher:
    waiting: Mapping[int, object] = MappingProxyType({})

    def take(self, event: Event) -> None:
        pass


class Lifecycle:
    """Turn events into process records: feed() takes events and returns what has ended.

    `syscalls` maps system call numbers of the observed machine to names.
    `cgroup_path` returns the path of a cgroup id, or None.
    `stack` returns the stack for the id and problem of a StackOf, or None.
    `outsider` returns why the stack of a reaper outside the observation is unknown;
    None if it is not Python.
    `complete` may fill in a builder before its record is made; afterwards nothing changes.
    `watcher` is told of what concerns Python. `completed` adds to a snapshot what only /proc
    tells.
    """

    def __init__(
        self,
        syscalls: Mapping[int, str],
        cgroup_path: Callable[[int], Optional[str]] = lambda _: None,
        late_event_ns: int = LATE_EVENT_NS,
        stack: Callable[[int, int], Optional[Stack]] = lambda number, problem: None,
        outsider: Callable[[int], Optional[str]] = lambda pid: None,
        complete: Callable[[LifeBuilder], None] = lambda life: None,
        watcher: Optional[Watcher] = None,
        completed: Callable[[Snapshot], Snapshot] = lambda event: event,
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
        self._finished: list[LifeRow] = []
        self._young: deque[Key] = deque()  # forked, and not looked at by changed()
        self._changed: dict[Key, LifeBuilder] = {}  # since changed() has shown them
        self._alive = 0
        self._watcher: Watcher = watcher or _NoWatcher()
        self._threads = self._watcher.waiting
        self._completed = completed
        handlers: dict[int, Callable[[bytes, int], object]] = {
            wire.FORK: self._fork,
            wire.EXEC: self._exec,
            wire.TEXT: self._text,
            wire.EXIT: self._exit,
            wire.ZOMBIE: self._zombie,
            wire.REPARENT: self._reparent,
            wire.WAIT: self._watch,
            wire.REAP: self._reap,
            wire.FREED: self._freed,
            wire.STACK: self._stack_of,
            wire.BLOCK: self._watch,
            wire.SNAPSHOT: self._snapshot,
        }
        self._handlers = [handlers.get(kind, wire.unknown) for kind in range(256)]

    def feed(self, records: Records) -> list[LifeRow]:
        """Take the records of one read. Return those of the processes that they end.

        Raise WireError for a record of an unknown type.
        """
        if records:
            data, handlers = records.data, self._handlers
            for at, kind in zip(records.places, records.kinds):
                handlers[kind](data, at)
            waiting, oldest = self._waiting, records.ns(-1) - self._late_event_ns
            while waiting and waiting[0][0] < oldest:
                self._give_up(waiting.popleft()[1])
            if len(self._young) > 2 * len(self._open) + _MOST_YOUNG:
                self._young = deque(key for key in self._young if key in self._open)
        finished, self._finished = self._finished, []
        return finished

    def finish(self) -> list[LifeRow]:
        """End the observation. Return the records of all unfinished processes."""
        while self._waiting:
            self._give_up(self._waiting.popleft()[1])
        for life in self._open.values():
            self._close(life)
        finished, self._finished = self._finished, []
        for each in (self._open, self._zombies, self._young, self._changed):
            each.clear()
        self._alive = 0
        self._children = ChildrenByThread()
        return finished

    @property
    def unfinished(self) -> Iterable[LifeRow]:
        """Return the records, as they are now, of unreaped processes in fork order."""
        return (life.row() for life in self._open.values() if life.reap_ns is None)

    @property
    def zombies(self) -> list[LifeRow]:
        """Return the records of the processes that are zombies now, in fork order."""
        return [
            life.row()
            for life in self._open.values()
            if life.reap_ns is None and (life.zombie_ns is not None or life.was_zombie)
        ]

    def changed(self, before_ns: int) -> list[LifeRow]:
        """Return the records, as they are now, of unreaped processes that this has not returned so.

        Those that were forked after `before_ns` can wait: most end soon. What this costs does
        not grow with the number of processes that live and do nothing.
        """
        found, self._changed = self._changed, {}
        young = self._young
        while young:
            key = young[0]
            life = self._open.get(key)
            if life is not None and not life.shown:
                if (life.fork_ns or 0) > before_ns:
                    break
                life.shown = True
                found[key] = life
            young.popleft()
        return [life.row() for life in found.values() if life.reap_ns is None]

    def zombies_since(self, ns: int) -> list[LifeBuilder]:
        """Return unreaped processes that became zombies before `ns`, each process once.

        They count as changed: the caller is to say what their parents do.
        """
        found = []
        while self._zombies and self._zombies[0][0] < ns:
            key = self._zombies.popleft()[1]
            life = self._open.get(key)
            if life is not None and life.reap_ns is None:
                found.append(life)
                self._note_change(key, life)
        return found

    @property
    def oldest_zombie_ns(self) -> Optional[int]:
        """Return when the first zombie died that zombies_since() has not returned; None: none."""
        zombies = self._zombies
        while zombies:
            ns, key = zombies[0]
            life = self._open.get(key)
            if life is not None and life.reap_ns is None:
                return ns
            zombies.popleft()
        return None

    @property
    def alive(self) -> int:
        """Return the number of processes that have not been reaped."""
        return self._alive

    # birth

    def _fork(self, data: bytes, at: int) -> None:
        (
            ns, start_ns, pid, forker_start_ns, cgroup_id, forker_pid, forker_tid, parent_pid,
            parent_tid, exit_signal, pidns, ns_pid, comm, flags,
        ) = _unpack_fork(data, at)  # fmt: skip
        key = (pid, start_ns)
        known = self._open.get(key)
        if known is not None:
            known.note_fork(cast(Fork, DECODE[wire.FORK](data, at)))
            self._note_change(key, known)
        else:
            life = LifeBuilder()
            life.pid, life.start_ns = pid, start_ns
            life.comm = life.forker_comm = COMMS[comm]
            life.forker_pid, life.forker_tid = forker_pid, forker_tid
            life.fork_ns = ns
            life.pidns, life.pidns_pid = pidns, ns_pid
            life.cgroup = self._cgroup_path(cgroup_id)
            life.exit_signal = exit_signal
            life.birth_parent = life.parent_pid = parent_pid
            life.parent_tid = parent_tid
            if parent_pid == forker_pid:
                life.parent_start_ns = forker_start_ns
            forker = self._open.get((forker_pid, forker_start_ns))
            if forker is not None:
                if forker.argv is not None:
                    life.argv, life.argv_cut = forker.argv, forker.argv_cut
                # it may be a Python that is not known yet: a fork server, say
                life.watched = forker.watched
            self._open[key] = life
            self._alive += 1
            self._young.append(key)
            self._children.add(parent_tid, key, life)
            if flags & _FORKED_STACKED:
                life.expect_fork_stack()
            known = life
        if flags & _FORKED_STACKED or known.watched:
            self._watch(data, at)

    def _snapshot(self, data: bytes, at: int) -> None:
        event = self._completed(cast(Snapshot, DECODE[wire.SNAPSHOT](data, at)))
        self._watcher.take(event)
        key = (event.pid, event.start_ns)
        life = self._open.get(key)
        if life is None:
            life = LifeBuilder.from_snapshot(event, self._cgroup_path(event.cgroup_id))
            self._open[key] = life
            self._children.add(event.parent_tid, key, life)
            self._alive += 1
            self._young.append(key)
        life.watched = True  # also if its fork, which announced no stack, came before
        if life.note_earlier_end(event):
            self._zombies.append((event.ns, key))
        self._note_change(key, life)

    def _note_change(self, key: Key, life: LifeBuilder) -> None:
        if life.shown:
            self._changed[key] = life

    def _watch(self, data: bytes, at: int) -> None:
        self._watcher.take(DECODE[data[at + wire.TYPE_AT]](data, at))

    # the program it runs

    def _exec(self, data: bytes, at: int) -> None:
        event = cast(Exec, DECODE[wire.EXEC](data, at))
        key = (event.pid, event.start_ns)
        life = self._open.get(key)
        if event.old_tid != event.pid:
            self._children.rename_thread(event, None if life is None else life.comm)
        if life is None:
            return
        if life.watched:
            self._watcher.take(event)
        if all(each.ns != event.ns for each in life.execs):
            life.comm = event.comm
            life.execs = (*life.execs, Execution(event.ns, None))
            life.new_program(event.ns)
            self._note_change(key, life)

    def _text(self, data: bytes, at: int) -> None:
        event = cast(Text, DECODE[wire.TEXT](data, at))
        key = (event.pid, event.start_ns)
        life = self._open.get(key)
        if life is None:
            return
        if life.watched:
            self._watcher.take(event)
        if event.ns != life.program_ns:
            life.note_unseen("exec", UNSEEN_LOST)
            life.new_program(event.ns)
        life.add_text(event)
        self._note_change(key, life)

    # death

    def _exit(self, data: bytes, at: int) -> None:
        ns, start_ns, pid, _, _, code, comm = _unpack_exit(data, at)
        key = (pid, start_ns)
        life = self._open.get(key)
        if self._threads or (life is not None and life.watched):
            self._watch(data, at)
        if life is None or life.exit_ns is not None:
            return
        life.exit_ns = ns
        life.wait_status = code
        life.comm = COMMS[comm]
        self._note_change(key, life)

    def _zombie(self, data: bytes, at: int) -> None:
        ns, start_ns, pid, _, parent_tid, code, hook = _unpack_zombie(data, at)
        key = (pid, start_ns)
        life = self._open.get(key)
        if life is None or life.zombie_ns is not None or life.reaped_by is _KERNEL:
            return
        life.zombie_ns = ns
        life.wait_status = code
        life.zombie_parent_tid = parent_tid
        self._zombies.append((ns, key))
        if hook:
            life.zombie_exact = False
        self._note_change(key, life)

    def _reparent(self, data: bytes, at: int) -> None:
        event = cast(Reparent, DECODE[wire.REPARENT](data, at))
        if not event.flags & _RESOLVED:
            return  # no child was left to adopt, or its reap will show the adopter
        if (event.adopter_pid, event.adopter_tid) == (event.pid, event.tid):
            return  # an exec has given the dying leader's number to the adopting thread
        kind = AdopterKind.SUBREAPER
        if (event.adopter_pid, event.adopter_start_ns) == (event.pid, event.start_ns):
            kind = AdopterKind.THREAD
        elif event.flags & _INIT:
            kind = AdopterKind.INIT
        exact = bool(event.flags & _EXACT)
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
            child.add_reparent(step)
            child.parent_pid = event.adopter_pid
            child.parent_start_ns = event.adopter_start_ns
            self._children.adopt(event.adopter_tid, key, child)
            self._note_change(key, child)
            if child.reap_parent_tid is not None:
                child.set_reaper()

    def _reap(self, data: bytes, at: int) -> None:
        (
            ns, start_ns, pid, reaper_start_ns, wait_ns, reaper_pid, reaper_tid, parent_pid,
            parent_tid, code, syscall, options, flags, comm,
        ) = _unpack_reap(data, at)  # fmt: skip
        key = (pid, start_ns)
        life = self._open.get(key)
        if self._threads or flags & _STACKED or (life is not None and life.watched):
            self._watch(data, at)
        if life is None or life.reap_ns is not None:
            return
        life.reap_ns = ns
        if flags & _LATE:
            life.reap_exact = False
        self._alive -= 1
        life.wait_status = code
        life.reap_parent_tid = parent_tid
        if flags & _EXITING:
            life.reaped_by = _KERNEL
            if reaper_start_ns == start_ns and reaper_pid in (pid, 0):
                life.zombie_ns = None  # it released itself: nobody could have waited for it
        else:
            life.reaper_pid, life.reaper_tid = reaper_pid, reaper_tid
            life.reaper_comm = COMMS[comm]
            if syscall >= 0:
                self._set_call(life, syscall, options, wait_ns)
            else:
                life.note_unseen("reap_call", UNSEEN_CALL)
            if not flags & _STACKED and (reaper_pid, reaper_start_ns) not in self._open:
                why = self._outsider(reaper_pid)
                if why is not None:
                    life.note_unseen("reap_call.stack", why)
            if flags & _BY_PARENT:
                life.set_reaper()
            else:
                life.reaped_by = ReapedBy.TRACER
        if (life.parent_tid != parent_tid or life.parent_pid != parent_pid) or (
            life.zombie_ns is None and not life.was_zombie and life.reaped_by is not _KERNEL
        ):
            life.last_parent_pid = parent_pid
        life.stack_due = bool(flags & _STACKED)
        if life.stack_due or life.last_parent_pid is not None:
            self._waiting.append((ns, key))
        else:
            self._end(key, life)

    def _set_call(self, life: LifeBuilder, syscall: int, options: int, wait_ns: int) -> None:
        """Set the system call of the reap; `wait_ns` 0: no do_wait() was observed."""
        name = self._syscalls.get(syscall) or f"syscall_{syscall}"
        life.reap_called = True
        life.reap_syscall = name
        if wait_ns:
            assert life.reap_ns is not None
            life.reap_options = options
            life.reap_began_ns = wait_ns
            life.reap_blocked_ns = life.reap_ns - wait_ns
        elif name in ("wait4", "waitid"):
            life.reap_options = options

    def _stack_of(self, data: bytes, at: int) -> None:
        event = cast(StackOf, DECODE[wire.STACK](data, at))
        self._watcher.take(event)
        if event.first or event.kind not in (_OF_FORK, _OF_REAP):
            return
        key = (event.pid, event.start_ns)
        life = self._open.get(key)
        if life is None:
            return
        stack = self._stack(event.stack_id, event.problem)
        if event.kind == _OF_FORK:
            life.set_fork_stack(stack, event.problem)
            self._note_change(key, life)
        elif life.reap_ns == event.ns:
            life.set_reap_stack(stack, event.problem)
            if life.last_parent_pid is None:  # nothing else is awaited
                self._end(key, life)

    def _freed(self, data: bytes, at: int) -> None:
        event = cast(Freed, DECODE[wire.FREED](data, at))
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
        no_instant = life.was_zombie or life.reaped_by is _KERNEL
        if life.zombie_ns is None and not no_instant:
            # exit_notify() signals each zombie with an exit signal, unless nobody is to wait
            lost = life.exit_signal != 0 and life.reaped_by is not ReapedBy.UNSEEN
            life.note_unseen("zombie_ns", UNSEEN_LOST if lost else UNSEEN_ZOMBIE)
        if life.exit_ns is None and "exit_ns" not in life.unseen:
            life.note_unseen("exit_ns", UNSEEN_LOST)
        self._close(life)

    def _close(self, life: LifeBuilder) -> None:
        if life.rare:
            life.finish()
        self._complete(life)
        self._finished.append(life.row())
