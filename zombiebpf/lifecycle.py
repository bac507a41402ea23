# SPDX-License-Identifier: Apache-2.0
"""Events -> process lives: a pure state machine.

It reads no clock and no /proc. It takes events out of order across CPUs, twice
or not at all; what is then missing in a life is None, with the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Callable, Optional

from zombiebpf.events import (
    Block,
    Event,
    Exec,
    Existing,
    Exit,
    Fork,
    Freed,
    Reap,
    ReapFlags,
    Reparent,
    StackKind,
    StackOf,
    Text,
    Wait,
    Zombie,
)
from zombiebpf.kinship import Key, Kinship
from zombiebpf.life import (
    Actor,
    AdopterKind,
    Execution,
    Life,
    PidNamespace,
    ReapedBy,
    Reparenting,
)
from zombiebpf.open_life import NOTHING, UNSEEN_LOST, OpenLife
from zombiebpf.stack import Stack

_EXITING, _BY_PARENT, _STACKED, _LATE = map(int, ReapFlags)
_OF_FORK, _OF_REAP = int(StackKind.FORK), int(StackKind.REAP)

# A dying thread's last switch may be stamped long after the reap it belongs to.
GRACE_NS = 1_000_000_000

UNSEEN_ZOMBIE = "no signal told of it, nor a later look at the dying thread, before the reap"
UNSEEN_CALL = "the registers of the reaper's system call could not be read"
UNSEEN_ADOPTION = "its last parent was PID {}; when it was given to it was not seen"


class Lifecycle:
    """Feed it events, take finished lives.

    `syscalls` names the numbers of the machine the events come from;
    `cgroup_path` turns a cgroup's id into its path, or None; `stack` a StackOf's id
    and problem into the stack, or into None and the reason. `outsider` is asked about
    a reaper that is not followed: why its stack is not known, None if it has none.
    """

    def __init__(
        self,
        syscalls: Mapping[int, str],
        cgroup_path: Callable[[int], Optional[str]] = lambda _: None,
        grace_ns: int = GRACE_NS,
        stack: Callable[[int, int], Optional[Stack]] = lambda number, problem: None,
        outsider: Callable[[int], Optional[str]] = lambda pid: None,
    ) -> None:
        self._stack = stack
        self._outsider = outsider
        self._syscalls = syscalls
        self._cgroup_path = cgroup_path
        self._grace_ns = grace_ns
        self._open: dict[Key, OpenLife] = {}
        self._kinship = Kinship()
        self._waiting: deque[tuple[int, Key]] = deque()  # reaped, but something may still come
        self._zombies: deque[tuple[int, Key]] = deque()  # in the order in which they began
        self._finished: list[Life] = []
        self._alive = 0
        self._handlers: dict[type, Callable[..., None]] = {
            Fork: self._fork,
            Existing: self._existing,
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
        """Take events; return the lives that these have ended, whole."""
        if events:
            handlers = self._handlers
            for event in events:
                handlers[event.__class__](event)
            waiting, oldest = self._waiting, events[-1].ns - self._grace_ns
            while waiting and waiting[0][0] < oldest:
                self._give_up(waiting.popleft()[1])
        finished, self._finished = self._finished, []
        return finished

    def finish(self) -> list[Life]:
        """The end of observation: what is still unfinished, as far as it is known."""
        while self._waiting:
            self._give_up(self._waiting.popleft()[1])
        finished, self._finished = self._finished, []
        for life in self._open.values():
            finished.append(life.close())
        self._open.clear()
        self._zombies.clear()
        self._alive = 0
        self._kinship = Kinship()
        return finished

    @property
    def unfinished(self) -> Iterable[Life]:
        """Lives that have not been reaped, in the order of their forks."""
        return (life for life in self._open.values() if life.reap_ns is None)

    def zombies_since(self, ns: int) -> list[OpenLife]:
        """Those that became zombies before `ns` and are not reaped; each is given once."""
        found = []
        while self._zombies and self._zombies[0][0] < ns:
            life = self._open.get(self._zombies.popleft()[1])
            if life is not None and life.reap_ns is None:
                found.append(life)
        return found

    @property
    def alive(self) -> int:
        """How many there are of `unfinished`."""
        return self._alive

    # birth

    def _fork(self, event: Fork) -> None:
        (ns, start_ns, pid, forker_start_ns, cgroup_id, forker_pid, forker_tid, parent_pid,
         parent_tid, exit_signal, pidns, ns_pid, comm) = event  # fmt: skip
        key = (pid, start_ns)
        if key in self._open:
            self._open[key].note_fork(event)
            return
        new = tuple.__new__  # the hot path: no NamedTuple's or dataclass's constructor
        life = OpenLife.__new__(OpenLife)
        life.pid = pid
        life.start_ns = start_ns
        life.comm = comm
        life.forker = new(Actor, (forker_pid, forker_tid, comm))
        life.fork_ns = ns
        life.pidns = new(PidNamespace, (pidns, ns_pid))
        life.cgroup = self._cgroup_path(cgroup_id)
        life.unseen = NOTHING
        life.exit_signal = exit_signal
        life.birth_parent = life.parent_pid = parent_pid
        life.parent_tid = parent_tid
        if parent_pid == forker_pid:
            life.parent_start_ns = forker_start_ns
        forker = self._open.get((forker_pid, forker_start_ns))
        if forker is not None:
            life.argv, life.argv_cut = forker.argv, forker.argv_cut
        self._open[key] = life
        self._alive += 1
        self._kinship.add(parent_tid, key, life)

    def _existing(self, event: Existing) -> None:
        key = (event.pid, event.start_ns)
        if key not in self._open:
            life = OpenLife.existing(event, self._cgroup_path(event.cgroup_id))
            self._open[key] = life
            self._kinship.add(event.parent_tid, key, life)
            self._alive += 1
        if self._open[key].note_earlier_end(event):
            self._zombies.append((event.ns, key))

    # the program it runs

    def _exec(self, event: Exec) -> None:
        life = self._open.get((event.pid, event.start_ns))
        if event.old_tid != event.pid:
            self._kinship.take_leaders_place(event, None if life is None else life.comm)
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
        ns, start_ns, pid, _, _, code, comm = event
        life = self._open.get((pid, start_ns))
        if life is None or life.exit_ns is not None:
            return
        life.exit_ns = ns
        life.wait_status = code
        life.comm = comm

    def _zombie(self, event: Zombie) -> None:
        ns, start_ns, pid, _, parent_tid, code, flags = event
        key = (pid, start_ns)
        life = self._open.get(key)
        if life is None or life.zombie_ns is not None or life.reaped_by is ReapedBy.KERNEL:
            return
        life.zombie_ns = ns
        life.wait_status = code
        life.zombie_parent_tid = parent_tid
        self._zombies.append((ns, key))
        if flags:
            life.zombie_exact = False

    def _reparent(self, event: Reparent) -> None:
        if not event.resolved:
            return  # nobody was left to be adopted, or the reap will tell
        if (event.adopter_pid, event.adopter_tid) == (event.pid, event.tid):
            return  # an exec has given the dying leader's number to the adopting thread
        kind = AdopterKind.SUBREAPER
        if (event.adopter_pid, event.adopter_start_ns) == (event.pid, event.start_ns):
            kind = AdopterKind.THREAD
        elif event.is_init:
            kind = AdopterKind.INIT
        from_ = Actor(event.pid, event.tid, event.comm)
        to = Actor(event.adopter_pid, event.adopter_tid, event.adopter_comm)
        for key, child in self._kinship.pop(event.tid).items():
            if child.reap_parent_tid == event.tid:
                continue  # it was reaped before that
            if child.parent_start_ns not in (event.start_ns, None):
                continue  # an earlier user of the number was its parent
            # whose child it was when it became a zombie was read in the kernel
            while_zombie = child.zombie_parent_tid == event.tid
            if while_zombie:
                child.zombie_parent_tid = event.adopter_tid
            child.reparents = (
                *child.reparents,
                Reparenting(event.ns, from_, to, kind, while_zombie, event.exact),
            )
            child.parent_pid = event.adopter_pid
            child.parent_start_ns = event.adopter_start_ns
            self._kinship.adopt(event.adopter_tid, key, child)
            if child.reap_parent_tid is not None:
                child.set_reaper()

    def _reap(self, event: Reap) -> None:
        (ns, start_ns, pid, reaper_start_ns, wait_ns, reaper_pid, reaper_tid, parent_pid,
         parent_tid, code, syscall, options, flags, comm) = event  # fmt: skip
        key = (pid, start_ns)
        life = self._open.get(key)
        if life is None or life.reap_ns is not None:
            return
        life.reap_ns, life.reap_exact = ns, not flags & _LATE
        self._alive -= 1
        life.wait_status = code
        life.reap_parent_tid = parent_tid
        if flags & _EXITING:
            life.reaped_by = ReapedBy.KERNEL
            if reaper_start_ns == start_ns and reaper_pid in (pid, 0):
                life.zombie_ns = None  # it released itself: it never was to be waited for
        else:
            life.reaper = tuple.__new__(Actor, (reaper_pid, reaper_tid, comm))
            if syscall >= 0:
                name = self._syscalls.get(syscall) or f"syscall_{syscall}"
                life.set_call(name, options, wait_ns)
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
        if (life.parent_tid, life.parent_pid) != (parent_tid, parent_pid) or (
            life.zombie_ns is None and not life.was_zombie and life.reaped_by is not ReapedBy.KERNEL
        ):
            life.last_parent_pid = parent_pid
        life.stack_due = bool(flags & _STACKED)
        if life.stack_due or life.last_parent_pid is not None:
            self._waiting.append((ns, key))
        else:
            self._end(key, life)

    def _stack_of(self, event: StackOf) -> None:
        ns, start_ns, pid, number, _, kind, problem, first, _ = event
        if first or kind not in (_OF_FORK, _OF_REAP):
            return
        key = (pid, start_ns)
        life = self._open.get(key)
        if life is None:
            return
        stack = self._stack(number, problem)
        if kind == _OF_FORK:
            life.set_fork_stack(stack, problem)
        elif life.reap_ns == ns:
            life.set_reap_stack(stack, problem)
            if life.last_parent_pid is None:  # all else has come before
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
        """What is still missing will not come."""
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

    def _end(self, key: Key, life: OpenLife) -> None:
        del self._open[key]
        self._kinship.remove(key, life)
        told = life.was_zombie or life.reaped_by is ReapedBy.KERNEL
        if life.zombie_ns is None and not told:
            # a signal is sent for every zombie that has one to send, if anybody is to wait
            lost = life.exit_signal != 0 and life.reaped_by is not ReapedBy.UNSEEN
            life.note_unseen("zombie_ns", UNSEEN_LOST if lost else UNSEEN_ZOMBIE)
        if life.exit_ns is None and "exit_ns" not in life.unseen:
            life.note_unseen("exit_ns", UNSEEN_LOST)
        self._finished.append(life.close())
