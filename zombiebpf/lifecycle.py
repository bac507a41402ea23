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
    Event,
    Exec,
    Exit,
    Fork,
    Freed,
    Reap,
    ReapFlags,
    Reparent,
    Text,
    Wait,
    Zombie,
)
from zombiebpf.life import (
    Actor,
    AdopterKind,
    Execution,
    Life,
    PidNamespace,
    ReapCall,
    ReapedBy,
    Reparenting,
)
from zombiebpf.open_life import NOTHING, UNSEEN_LOST, OpenLife

Key = tuple[int, int]  # pid, start_ns

_EXITING, _BY_PARENT = int(ReapFlags.EXITING), int(ReapFlags.BY_PARENT)

# A dying thread's last switch may be stamped long after the reap it belongs to.
GRACE_NS = 1_000_000_000

UNSEEN_ZOMBIE = "no signal told of it, nor the dying thread's last switch before the reap"
UNSEEN_REAP = "the reap itself was not seen by its hook, only that the process was freed, later"
UNSEEN_CALL = "the registers of the reaper's system call could not be read"
UNSEEN_ADOPTION = "its last parent was PID {}; when it was given to it was not seen"


class Lifecycle:
    """Feed it events, take finished lives.

    `syscalls` names the numbers of the machine the events come from;
    `cgroup_path` turns a cgroup's id into its path, or None.
    """

    def __init__(
        self,
        syscalls: Mapping[int, str],
        cgroup_path: Callable[[int], Optional[str]] = lambda _: None,
        grace_ns: int = GRACE_NS,
    ) -> None:
        self._syscalls = syscalls
        self._cgroup_path = cgroup_path
        self._grace_ns = grace_ns
        self._open: dict[Key, OpenLife] = {}
        self._children: dict[int, dict[Key, OpenLife]] = {}  # by their parent thread's tid
        self._waiting: deque[tuple[int, Key]] = deque()  # reaped, but something may still come
        self._finished: list[Life] = []
        self._handlers: dict[type, Callable[..., None]] = {
            Fork: self._fork,
            Exec: self._exec,
            Text: self._text,
            Exit: self._exit,
            Zombie: self._zombie,
            Reparent: self._reparent,
            Reap: self._reap,
            Freed: self._freed,
            Wait: lambda event: None,
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
        self._children.clear()
        return finished

    @property
    def unfinished(self) -> Iterable[Life]:
        """Lives that have not been reaped, in the order of their forks."""
        return (life for life in self._open.values() if life.reap_ns is None)

    @property
    def alive(self) -> int:
        """How many there are of `unfinished`."""
        return len(self._open) - len(self._waiting)

    # birth

    def _fork(self, event: Fork) -> None:
        (ns, start_ns, pid, forker_start_ns, cgroup_id, forker_pid, forker_tid, parent_pid,
         parent_tid, exit_signal, pidns, ns_pid, comm) = event  # fmt: skip
        key = (pid, start_ns)
        if key in self._open:
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
        children = self._children.get(parent_tid)
        if children is None:
            self._children[parent_tid] = {key: life}
        else:
            children[key] = life

    def _adopt(self, tid: int, key: Key, life: OpenLife) -> None:
        self._children.setdefault(tid, {})[key] = life
        life.parent_tid = tid

    # the program it runs

    def _exec(self, event: Exec) -> None:
        life = self._open.get((event.pid, event.start_ns))
        if event.old_tid != event.pid:
            self._take_leaders_place(event, None if life is None else life.comm)
        if life is not None and all(each.ns != event.ns for each in life.execs):
            life.comm = event.comm
            life.execs = (*life.execs, Execution(event.ns, None))
            life.new_program(event.ns)

    def _take_leaders_place(self, event: Exec, comm: Optional[str]) -> None:
        """The thread that exec'ed takes the dead leader's number: de_thread(), fs/exec.c."""
        tid, pid = event.old_tid, event.pid
        mine = self._children.pop(tid, {}) if tid else self._children_of(event)
        # the leader's children have been given to this thread; its last switch, which
        # would tell of it, may come after the exec
        for child in self._children.get(pid, {}).values():
            child.reparents = (
                *child.reparents,
                Reparenting(
                    event.ns,
                    Actor(pid, pid, comm),
                    Actor(pid, pid, comm),
                    AdopterKind.THREAD,
                    child.zombie_parent_tid == pid,
                    False,
                ),
            )
        for key, child in mine.items():
            if child.zombie_parent_tid == tid:
                child.zombie_parent_tid = pid
            self._adopt(pid, key, child)

    def _children_of(self, event: Exec) -> dict[Key, OpenLife]:
        """All children of a process but its leader's: it has no other thread any more."""
        found: dict[Key, OpenLife] = {}
        for tid in [tid for tid in self._children if tid != event.pid]:
            children = self._children[tid]
            for key, child in list(children.items()):
                if (child.parent_pid, child.parent_start_ns) == (event.pid, event.start_ns):
                    found[key] = children.pop(key)
                    if child.zombie_parent_tid == tid:
                        child.zombie_parent_tid = event.pid
            if not children:
                del self._children[tid]
        return found

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
        life = self._open.get((pid, start_ns))
        if life is None or life.zombie_ns is not None or life.reaped_by is ReapedBy.KERNEL:
            return
        life.zombie_ns = ns
        life.wait_status = code
        life.zombie_parent_tid = parent_tid
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
        for key, child in self._children.pop(event.tid, {}).items():
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
            self._adopt(event.adopter_tid, key, child)
            if child.reap_parent_tid is not None:
                child.set_reaper()

    def _reap(self, event: Reap) -> None:
        (ns, start_ns, pid, reaper_start_ns, wait_ns, reaper_pid, reaper_tid, parent_pid,
         parent_tid, code, syscall, options, flags, comm) = event  # fmt: skip
        key = (pid, start_ns)
        life = self._open.get(key)
        if life is None or life.reap_ns is not None:
            return
        life.reap_ns = ns
        life.wait_status = code
        life.reap_parent_tid = parent_tid
        if flags & _EXITING:
            life.reaped_by = ReapedBy.KERNEL
            if reaper_start_ns == start_ns and reaper_pid in (pid, 0):
                life.zombie_ns = None  # it released itself: it never was to be waited for
        else:
            life.reaper = tuple.__new__(Actor, (reaper_pid, reaper_tid, comm))
            if syscall >= 0:
                life.reap_call = self._call(syscall, options, wait_ns, ns)
            else:
                life.note_unseen("reap_call", UNSEEN_CALL)
            if flags & _BY_PARENT:
                life.set_reaper()
            else:
                life.reaped_by = ReapedBy.TRACER
        if (life.parent_tid, life.parent_pid) != (parent_tid, parent_pid) or (
            life.zombie_ns is None and life.reaped_by is not ReapedBy.KERNEL
        ):
            life.last_parent_pid = parent_pid
            self._waiting.append((ns, key))
        else:
            self._end(key, life)

    def _call(self, syscall: int, options: int, wait_ns: int, ns: int) -> ReapCall:
        name = self._syscalls.get(syscall) or f"syscall_{syscall}"
        if wait_ns:
            return tuple.__new__(ReapCall, (name, options, wait_ns, ns - wait_ns))
        return ReapCall(name, options if name in ("wait4", "waitid") else None, None, None)

    def _freed(self, event: Freed) -> None:
        key = (event.pid, event.start_ns)
        life = self._open.get(key)
        if life is None or life.reap_ns is not None:
            return
        life.reap_ns = event.ns
        life.reap_exact = False
        life.wait_status = event.code
        life.reaped_by = ReapedBy.UNSEEN
        life.note_unseen("reaper", UNSEEN_REAP)
        life.note_unseen("reap_call", UNSEEN_REAP)
        self._end(key, life)

    # the end

    def _give_up(self, key: Key) -> None:
        """What is still missing will not come."""
        life = self._open.get(key)
        if life is None:
            return
        last = life.last_parent_pid
        if last is not None and life.parent_pid != last:
            life.note_unseen("reparents", UNSEEN_ADOPTION.format(last))
            life.parent_pid = last
            life.set_reaper()
        self._end(key, life)

    def _end(self, key: Key, life: OpenLife) -> None:
        del self._open[key]
        siblings = self._children.get(life.parent_tid)
        if siblings is not None:
            siblings.pop(key, None)
            if not siblings:
                del self._children[life.parent_tid]
        if life.zombie_ns is None and life.reaped_by is not ReapedBy.KERNEL:
            # a signal is sent for every zombie that has one to send, if anybody is to wait
            lost = life.exit_signal != 0 and life.reaped_by is not ReapedBy.UNSEEN
            life.note_unseen("zombie_ns", UNSEEN_LOST if lost else UNSEEN_ZOMBIE)
        if life.exit_ns is None:
            life.note_unseen("exit_ns", UNSEEN_LOST)
        self._finished.append(life.close())
