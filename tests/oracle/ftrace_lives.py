# SPDX-License-Identifier: Apache-2.0
"""ftrace's records -> process lives, in the oracle's own way.

A process is tied to its sighand_struct: allocated by the forker just before `task_newtask`, freed
inside release_task(), synchronously, in the reaper's context. The instant a zombie begins is the
last SIGCHLD-like signal (si_code 1..3) its dying threads sent: exit_notify() announces inherited
zombies first and the dying process last. The receiver is its parent at that instant. A process
that sends none (exit_signal 0) is a zombie, for all that can be seen, at its last switch.

What another process did unseen (a machine may hide its init from tracing) has no reaper here:
`freed_ns`, of `sched_process_free`, then bounds the reap from above.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional

from tests.oracle.ftrace import EXIT_ZOMBIE, Record

CLONE_SIGHAND, CLONE_PARENT, CLONE_THREAD = 0x800, 0x8000, 0x10000  # linux/sched.h
INIT = 1


class Contradiction(Exception):
    """The records do not make sense: the oracle cannot be trusted."""


@dataclass
class Life:
    """One process as ftrace saw it. Times are CLOCK_MONOTONIC nanoseconds, None is "not seen"."""

    pid: int
    fork_ns: int
    forker_pid: int
    forker_tid: int
    birth_parent: int  # PID
    followed: bool
    execs: list[int] = field(default_factory=list)
    exit_ns: Optional[int] = None
    last_tid: Optional[int] = None  # the last thread
    exit_tids: dict[int, int] = field(default_factory=dict)  # thread -> its last exit
    notices: list[tuple[int, int]] = field(default_factory=list)  # (ns, receiver's PID)
    switch_ns: Optional[int] = None  # last switch of its last thread, if it was a zombie then
    reap_ns: Optional[int] = None
    freed_ns: Optional[int] = None  # an RCU grace period after the reap
    freed_over: Optional[int] = None  # PID that this interrupted
    reaper_pid: Optional[int] = None
    reaper_tid: Optional[int] = None
    reaper_dying: bool = False  # a dying parent, or the process itself
    threads: list[int] = field(default_factory=list)  # in the order of their making
    parent: int = 0  # PID, followed through the deaths of its parents: the model
    parent_tid: int = 0
    inherited: int = 0  # zombies it left, each announced to their adopter
    is_subreaper: bool = False

    @property
    def autoreaped(self) -> bool:
        """Nobody waited: the kernel released it as its death was announced."""
        return self.reaper_dying

    @property
    def zombie_ns(self) -> Optional[int]:
        """When it became a zombie; None if it never was one, or if nothing shows when."""
        if self.reaper_pid == self.pid:
            return None
        if self.notices:
            return self.notices[-1][0]
        return self.switch_ns

    @property
    def seen_parent(self) -> Optional[int]:
        """PID of its parent at its reap, if there is evidence.

        Who waited for it was its parent: nobody traces here. One that was released as it died
        (SA_NOCLDWAIT) was announced to its parent; but SIG_IGN says nothing, and so all it ever
        announced may be the zombies it left.
        """
        if self.reaper_pid is not None and not self.reaper_dying:
            return self.reaper_pid
        if self.reaper_pid == self.pid and len(self.notices) > self.inherited:
            return self.notices[-1][1]
        return None

    @property
    def last_parent(self) -> int:
        """By evidence where there is any, else by the model."""
        return self.parent if self.seen_parent is None else self.seen_parent

    @property
    def adopter(self) -> Optional[int]:
        """Return the PID of its last parent, if that is not the parent it was born to."""
        return None if self.last_parent == self.birth_parent else self.last_parent


class Machine:
    """All processes of the machine, record by record."""

    def __init__(self, root: int, root_forked_before_ns: int, init_tids: Iterable[int]) -> None:
        self.lives: list[Life] = []
        self._root = root
        self._before_ns = root_forked_before_ns
        self._of: dict[int, Life] = {}  # live threads and zombies: tid -> process
        self._tgid = dict.fromkeys(init_tids, INIT)
        self._allocated: dict[int, int] = {}  # tid -> sighand not yet given to a child
        self._by_sighand: dict[int, Life] = {}
        self._children: dict[int, list[Life]] = defaultdict(list)  # by the model's parent
        self._latest: dict[int, Life] = {}  # by PID, the dead included

    def pid_of(self, tid: int) -> int:
        """The process of a thread; a thread older than the trace is taken for a leader."""
        return self._tgid.get(tid, tid)

    def feed(self, record: Record) -> None:
        """Take the next record, in the order of time."""
        getattr(self, "_" + record.name)(record)

    def _kmem_cache_alloc(self, record: Record) -> None:
        self._allocated[record.tid] = record.number("ptr")

    def _task_newtask(self, record: Record) -> None:
        tid, flags = record.number("pid"), record.number("clone_flags")
        forker_pid = self.pid_of(record.tid)
        forker = self._of.get(record.tid)
        if flags & CLONE_THREAD:
            self._tgid[tid] = forker_pid
            if forker is not None:
                self._of[tid] = forker
                forker.threads.append(tid)
            else:
                self._of.pop(tid, None)
            return
        parent, parent_tid = forker_pid, record.tid
        if flags & CLONE_PARENT and forker is not None:
            parent, parent_tid = forker.parent, forker.parent_tid
        is_root = tid == self._root and record.ns < self._before_ns
        followed = is_root or (forker is not None and forker.followed)
        life = Life(tid, record.ns, forker_pid, record.tid, parent, followed)
        life.threads, life.parent, life.parent_tid = [tid], parent, parent_tid
        self._tgid[tid] = tid
        self._of[tid] = life
        if is_root:
            for older in self.lives:
                older.followed = False  # another process that had the same PID
        self.lives.append(life)
        self._latest[tid] = life
        self._children[parent].append(life)
        sighand = self._allocated.pop(record.tid, None)
        if not flags & CLONE_SIGHAND:
            if sighand is None and followed:
                raise Contradiction(f"{record}: no sighand was allocated for it")
            if sighand is not None:
                self._by_sighand[sighand] = life

    def _sched_process_fork(self, record: Record) -> None:
        tid = record.number("child_pid")
        life = self._of.get(tid)
        if life is not None and life.pid == tid:
            life.fork_ns = record.ns

    def _sched_process_exec(self, record: Record) -> None:
        old, life = record.number("old_pid"), self._of.get(record.tid)
        if old != record.tid:  # a thread took over the leader's PID
            life = self._of.pop(old, None)
            self._tgid.pop(old, None)
            self._tgid[record.tid] = record.tid
        if life is not None:
            self._of[record.tid] = life
            life.exit_tids.clear()
            life.threads = [record.tid]
            for child in self._children[life.pid]:
                child.parent_tid = record.tid
            life.execs.append(record.ns)

    def _sys_enter_prctl(self, record: Record) -> None:
        life = self._of.get(record.tid)
        if life is not None:
            life.is_subreaper = record.number("arg2") != 0

    def _sched_process_exit(self, record: Record) -> None:
        life = self._of.get(record.tid)
        if life is None:
            return
        life.exit_tids[record.tid] = record.ns
        # Kernels before 6.16 do not say which thread is the last: it is the latest.
        if record.fields.get("group_dead", 1):
            life.exit_ns = record.ns
            life.last_tid = record.tid

    def _leave_children(self, dead: Life, tid: Optional[int] = None) -> None:
        """find_new_reaper(): a living sibling thread, the nearest living subreaper above, or init.

        exit_notify() does it for each thread (`tid`), some time after its sched_process_exit, just
        before it announces the death; a group's last announcement is for all that is left.
        """
        heirs = [each for each in dead.threads if each not in dead.exit_tids]
        adopter = self._adopter(dead)
        for child in self._children.pop(dead.pid, ()):
            if child.reap_ns is not None:
                continue
            if tid is not None and child.parent_tid != tid:
                self._children[dead.pid].append(child)
            elif heirs:
                child.parent_tid = heirs[0]
                self._children[dead.pid].append(child)
            else:
                dead.inherited += bool(child.notices or child.switch_ns)
                child.parent = child.parent_tid = adopter
                self._children[adopter].append(child)

    def _adopter(self, dead: Life) -> int:
        above = self._of.get(dead.parent)
        while above is not None:
            if above.is_subreaper and above.exit_ns is None:
                return above.pid
            if above.parent == above.pid:
                break
            above = self._of.get(above.parent)
        return INIT

    def _signal_generate(self, record: Record) -> None:
        life = self._of.get(record.tid)
        if life is not None and life.exit_ns is not None and record.number("group"):
            self._leave_children(life)
            life.notices.append((record.ns, self.pid_of(record.number("pid"))))

    def _sched_process_free(self, record: Record) -> None:
        life = self._latest.get(record.number("pid"))
        if life is not None and life.exit_ns is not None and life.freed_ns is None:
            life.freed_ns, life.freed_over = record.ns, self.pid_of(record.tid)

    def _sched_switch(self, record: Record) -> None:
        life = self._of.get(record.number("prev_pid"))
        if life is None:
            return
        tid = record.number("prev_pid")
        if life.last_tid == tid and record.number("prev_state") & EXIT_ZOMBIE:
            life.switch_ns = record.ns
        self._leave_children(life, tid)

    def _kmem_cache_free(self, record: Record) -> None:
        life = self._by_sighand.pop(record.number("ptr"), None)
        if life is None:
            # older than the trace, or a fork that failed
            if self._allocated.get(record.tid) == record.number("ptr"):
                del self._allocated[record.tid]
            return
        if life.exit_ns is None:
            raise Contradiction(f"{life} was released before it died")
        self._leave_children(life)
        life.reap_ns = record.ns
        life.reaper_tid = record.tid
        life.reaper_pid = self.pid_of(record.tid)
        reaper = self._of.get(record.tid)
        life.reaper_dying = reaper is not None and record.tid in reaper.exit_tids


def descendants(
    records: Iterable[Record], root: int, before_ns: int, init_tids: Iterable[int]
) -> list[Life]:
    """The lives of `root` (the one forked last before `before_ns`) and all below, by fork time.

    `init_tids`: init's threads, the only process that has more than one since before the trace.
    """
    machine = Machine(root, before_ns, init_tids)
    for record in records:
        machine.feed(record)
    return [life for life in machine.lives if life.followed]
