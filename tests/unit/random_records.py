# SPDX-License-Identifier: Apache-2.0
"""Simulate a machine and record it, in the bytes that the probes write to the ring buffer.

C and Python parents fork children in different ways, and wait for some of them. Depending on
the seed, records are lost, overtake each other and arrive twice. The bytes depend on the seed
alone: only Random.random() is used, which returns the same in every version of Python.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Optional, TypeVar

from tests.unit.encoded_records import record
from tests.unit.random_calls import (
    EXECUTING,
    OF_FORK,
    OF_POOL,
    OF_POPEN,
    OF_PROCESS,
    OF_SERVER,
    POOL_STARTING,
    READING,
    SELECTING,
    SERVER_STARTING,
    SERVING,
    STARTING,
    Call,
)
from tests.unit.stack_builders import stack
from zombiebpf.model import wire
from zombiebpf.model.events import (
    ARGV_BYTES,
    TEXT_BYTES,
    ForkFlags,
    ReapFlags,
    ReparentFlags,
    SnapshotFlags,
    StackKind,
    StackProblem,
    TextKind,
    ZombieHook,
)
from zombiebpf.model.stack import Stack

US, MS, S = 1_000, 1_000_000, 1_000_000_000
HEADER_BYTES = 8  # of the ring buffer, before each record
SYSCALLS = {
    0: "read", 7: "poll", 23: "select", 61: "wait4", 202: "futex", 230: "clock_nanosleep",
    247: "waitid", 270: "pselect6",
}  # fmt: skip
READ, POLL, SELECT, WAIT4, SLEEP, WAITID, PSELECT6 = 0, 7, 23, 61, 230, 247, 270
OBSERVER, INIT = 200, 1  # PIDs of processes that are not followed
PLAIN_PIDNS = 4026531836
_WNOHANG, _WNOWAIT, _SIGCHLD = 1, 0x01000000, 17
_TIDS = range(300, 1300)  # few, so that each is used again
_BOOT_NS = 3 * S  # CLOCK_BOOTTIME is ahead by this
_COMMS = (
    b"python3", b"sh", b"sleep", b"Zombie (x) 1", b"\xff\xfe\xc3", b"fifteen bytes..", b"",
    b"sixteen bytes!!!", b"cut\0behind", b"worker \xe2\x82\xac", b"make", b"cc1plus", b"a b\nc",
)  # fmt: skip

Choice = TypeVar("Choice")


class Recording(NamedTuple):
    """The recording of one machine."""

    reads: list[bytes]  # the records of each read, with the ring buffer's headers
    stacks: dict[int, Stack]  # by id; a missing one was lost
    lossless: bool  # no record was lost, overtaken or duplicated


class _Process:
    def __init__(
        self, pid: int, start_ns: int, comm: bytes, parent: Optional[_Thread], followed: bool
    ) -> None:
        self.pid, self.start_ns, self.comm = pid, start_ns, comm
        self.ns_pid, self.pidns, self.cgroup = pid, PLAIN_PIDNS, 0
        self.init: _Process = self  # of its PID namespace
        self.parent = parent
        self.followed = followed
        self.python = self.subreaper = self.ignores = False
        self.server: Optional[_Process] = None  # its fork server
        self.exit_signal = _SIGCHLD
        self.state = "alive"  # then "zombie", then "gone"
        self.code = 0
        self.leader = _Thread(pid, self)
        self.threads = [self.leader]
        self.forks_left = 0
        self.how: tuple[Call, ...] = ()  # how its parent waits for it
        self.objects: dict[str, int] = {}  # addresses of its objects
        self.pipe = 0
        self.line = 0  # of the fork
        self.waiters: list[tuple[_Thread, int]] = []  # threads and their turns
        self.past: list[_Process] = []  # children that were reaped
        self.place = 0.0  # of the last record that precedes its reap


class _Thread:
    def __init__(self, tid: int, process: _Process) -> None:
        self.tid, self.process = tid, process
        self.children: dict[_Process, None] = {}
        self.turn = 0  # what was planned in an earlier turn is void


class _Machine:
    def __init__(self, seed: int, forks: int) -> None:
        self._chance = random.Random(seed).random
        mood = self._chance()
        self._lossless = mood < 0.5
        self._loss = 0.0 if self._lossless else (0.002, 0.01, 0.05)[self._below(3)]
        self._overtakes = 0.0 if self._lossless else (0.5, 2.0, 30.0)[self._below(3)]
        self._twice = 0.0 if self._lossless else 0.001
        self._scans = self._chance() < 0.6  # some processes exist, and an attach scan finds them
        self._forks = forks
        self._forked = 0
        self._now = 1000 * S
        self._plans: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0
        self._used: set[int] = set()
        self._next_tid = 0
        self._sent: list[tuple[float, bytes]] = []
        self._last: dict[int, float] = {}  # by context (a thread): the place of its last record
        self._numbers: dict[tuple[str, ...], int] = {}  # of stacks
        self._stacks: dict[int, Stack] = {}
        self._addresses = self._pipes = 0
        self._wakers: dict[tuple[_Thread, int], tuple[Any, ...]] = {}  # of those that wait
        self._outside = {
            pid: _Process(pid, 5 + pid, comm, None, False)
            for pid, comm in ((INIT, b"systemd"), (OBSERVER, b"zombiebpf"), (201, b"gdb"))
        }
        for each in self._outside.values():
            each.init = self._outside[INIT]

    # chance

    def _below(self, end: int) -> int:
        return int(self._chance() * end)

    def _one(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self._chance() * len(choices))]

    # the record

    def _send(self, context: int, kind: int, *values: Any) -> None:
        """Send a record. Records of one context (a thread) keep their order."""
        if self._loss and self._chance() < self._loss:
            return
        made = record(kind, *values)
        if self._lossless:
            self._sent.append((0.0, made))
            return
        place = max(
            len(self._sent) + self._chance() * self._overtakes, self._last.get(context, 0.0)
        )
        self._last[context] = place
        self._sent.append((place, made))
        if self._chance() < self._twice:
            self._sent.append((place + self._chance() * 5, made))

    def recording(self) -> Recording:
        self._run()
        self._sent.sort(key=lambda sent: sent[0])
        header = b"\0" * HEADER_BYTES
        reads, at = [], 0
        while at < len(self._sent):
            count = 1 + self._below(self._one((3, 30, 300, 3000)))
            reads.append(b"".join(header + made for _, made in self._sent[at : at + count]))
            at += count
        return Recording(reads, self._stacks, self._lossless)

    def _stack(self, *frames: str) -> int:
        number = self._numbers.get(frames)
        if number is None:
            number = self._numbers[frames] = (len(self._numbers) + 1) * 0x9E3779B97F4A7C15 % 2**64
            dice = self._chance()
            if dice < 0.96 or self._lossless:
                problem = "cut" if dice < 0.1 else None
                self._stacks[number] = stack(*frames, problem=problem)
        return number

    def _send_stack(
        self, kind: StackKind, process: _Process, ns: int, thread: _Thread, frames: Sequence[str],
        selves: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """Send the stack of an event of `process`, in two records if it has many objects."""
        number, problem = self._stack(*frames), 0
        if self._chance() < 0.04:
            number, problem = 0, self._below(len(StackProblem))
        padded = (*selves, *(0,) * 12)
        for first in (0, 6) if len(selves) > 6 else (0,):
            self._send(
                thread.tid, wire.STACK, ns, process.start_ns, process.pid, number, thread.tid,
                kind, problem, first, *padded[first : first + 6],
            )  # fmt: skip

    # time

    def _plan(self, delay_ns: int, act: Callable[..., None], *arguments: Any) -> None:
        self._planned += 1
        heapq.heappush(self._plans, (self._now + delay_ns, self._planned, act, arguments))

    def _tick(self) -> int:
        self._now += 200 + self._below(20_000)
        return self._now

    def _run(self) -> None:
        for _ in range(4):
            self._app()
        while self._plans:
            ns, _, act, arguments = heapq.heappop(self._plans)
            self._now = max(self._now, ns)
            act(*arguments)

    @property
    def _over(self) -> bool:
        return self._forked >= self._forks

    # birth

    def _tid(self) -> int:
        while True:
            tid = _TIDS[self._next_tid % len(_TIDS)]
            self._next_tid += 1 + (self._chance() < 0.2)
            if tid not in self._used:
                self._used.add(tid)
                return tid

    def _app(self) -> None:
        """Add a process that the observer starts, or that exists already."""
        starter = self._outside[OBSERVER]
        existing = self._scans and self._chance() < 0.7
        if existing:
            app = self._born(starter.leader, followed=True)
            self._snapshot(app, 0)
        else:
            app = self._fork(starter.leader)
        app.python = self._chance() < 0.75
        app.subreaper = self._chance() < 0.3
        self._settle(app, 40 + self._below(400))

    def _settle(self, process: _Process, forks: int) -> None:
        """Make a process a parent that forks `forks` children."""
        process.forks_left = forks
        process.ignores = self._chance() < 0.1
        self._go_on(process.leader, 2 * MS)

    def _born(self, parent: _Thread, followed: bool) -> _Process:
        pid = self._tid()
        self._forked += 1
        start_ns = (_BOOT_NS + self._now) // 10 * 10
        comm = parent.process.comm
        child = _Process(pid, start_ns, comm, parent, followed)
        above = parent.process
        child.pidns, child.init = above.pidns, above.init
        child.ns_pid = pid if child.pidns == PLAIN_PIDNS else 2 + self._below(60)
        child.cgroup = above.cgroup if self._chance() < 0.9 else self._below(6)
        child.python = above.python
        child.server = above.server
        self._addresses = (self._addresses + 1) % 3000  # an address is used again
        base = 0x7F00_0000_0000 + self._addresses * 128
        child.objects = {"p": base + 16, "m": base + 48, ".": 0, "o": 0}
        parent.children[child] = None
        return child

    def _fork(
        self, forker: _Thread, frames: Sequence[str] = (), selves: str = "", **objects: int
    ) -> _Process:
        """Fork a child, with a stack if there are frames."""
        ns, above = self._tick(), forker.process
        parent = forker
        if above.parent is not None and above.parent.process.followed and self._chance() < 0.02:
            parent = above.parent  # CLONE_PARENT
        child = self._born(parent, followed=True)
        if child.pidns == PLAIN_PIDNS and self._chance() < 0.02:
            child.pidns, child.ns_pid, child.init = PLAIN_PIDNS + 1 + self._below(9), 1, child
        elif self._chance() < 0.03:
            child.exit_signal = self._one((0, 0, 10))
        child.objects.update(objects)
        scanned = self._scans and self._forked < 1000 and self._chance() < 0.3
        if scanned and self._chance() < 0.5:
            frames = ()  # the interpreter is not known yet
        if scanned and self._chance() < 0.3:
            self._snapshot(child, 0)
        self._send(
            forker.tid, wire.FORK, ns, child.start_ns, child.pid, above.start_ns, child.cgroup,
            above.pid, forker.tid, parent.process.pid, parent.tid, child.exit_signal, child.pidns,
            child.ns_pid, above.comm, ForkFlags.STACKED if frames else 0,
        )  # fmt: skip
        self._last[child.pid] = self._last.get(forker.tid, 0.0)
        if scanned and self._chance() < 0.5:
            self._snapshot(child, 0)
        if frames:
            addresses = [child.objects[each] for each in selves]
            self._send_stack(StackKind.FORK, child, ns, forker, frames, addresses)
        return child

    def _snapshot(self, process: _Process, flags: int) -> None:
        parent = process.parent
        assert parent is not None
        ns = self._tick()
        if self._chance() < 0.1:
            flags |= SnapshotFlags.JOINED
        self._send(
            OBSERVER, wire.SNAPSHOT, ns, process.start_ns, process.pid, parent.process.start_ns,
            process.cgroup, parent.process.pid, parent.tid, process.exit_signal, process.pidns,
            process.ns_pid, process.code, flags, process.pid, process.comm,
        )  # fmt: skip
        self._last[process.pid] = self._last.get(OBSERVER, 0.0)
        if flags and self._chance() < 0.3:
            self._snapshot(process, flags | SnapshotFlags.EXITING)

    def _existing_child(self, parent: _Thread) -> None:
        """Add a child that was forked before the observation and is found by a scan."""
        child = self._born(parent, followed=True)
        child.comm = self._one(_COMMS)
        child.how = OF_FORK
        dice = self._chance()
        if dice < 0.4:
            self._snapshot(child, 0)
            self._plan(self._lifetime(), self._exit, child)
            return
        child.code = self._code()
        self._snapshot(child, SnapshotFlags.EXITING)
        if dice < 0.6:
            self._plan(self._below(MS), self._become_zombie, child)
        else:
            self._snapshot(child, SnapshotFlags.EXITING | SnapshotFlags.ZOMBIE)
            child.state = "zombie"

    def _lifetime(self) -> int:
        return int(self._chance() ** 4 * 400 * MS) + 50 * US

    # what a parent does

    def _go_on(self, thread: _Thread, within_ns: int) -> None:
        self._plan(self._below(within_ns), self._act, thread, thread.turn)

    def _awake(self, thread: _Thread, turn: int) -> bool:
        """Return whether a thread is alive and still in this turn."""
        process = thread.process
        return thread.turn == turn and process.state == "alive" and thread in process.threads

    def _act(self, thread: _Thread, turn: int) -> None:
        """Do one thing, and plan the next."""
        process = thread.process
        if not self._awake(thread, turn):
            return
        if self._over or process.forks_left <= 0:
            if thread is process.leader and self._chance() < (0.9 if self._over else 0.3):
                self._exit(process)
                if (
                    not self._over
                    and process.parent is not None
                    and not process.parent.process.followed
                ):
                    self._app()
                return
            self._go_on(thread, 5 * MS)
            return
        dice = self._chance()
        mine = [each for each in thread.children if each.state != "gone"]
        if dice < 0.42 and len(mine) < 12 and not self._over:
            process.forks_left -= 1
            child = self._have_child(thread)
            if child.how and self._chance() < 0.7:
                self._begin_call(thread, child)
                return
        elif dice < 0.80 and mine:
            self._begin_call(thread, self._one(mine))
            return
        elif dice < 0.88:
            self._reap_any(thread)
        elif dice < 0.90 and len(process.threads) < 4:
            more = _Thread(self._tid(), process)
            process.threads.append(more)
            self._go_on(more, MS)
        elif dice < 0.91 and thread is not process.leader:
            self._thread_exit(thread)
            return
        elif dice < 0.925:
            self._exec(process, thread)
        elif dice < 0.94 and self._scans:
            self._existing_child(thread)
        elif dice < 0.96 and process.python:
            self._sleep(thread)
        elif dice < 0.985 and process.python and process.past:
            self._begin_call(thread, self._one(process.past))
            return
        elif dice < 0.988 and process.python:
            self._send_stack(StackKind.BLOCK, process, self._tick(), thread, ("main:70",))
        self._go_on(thread, 3 * MS)

    def _have_child(self, thread: _Thread) -> _Process:
        process, line = thread.process, 10 + self._below(6)
        user, dice = f"main:{line}", self._chance()
        if not process.python or dice < 0.04:
            child = self._fork(thread)
            child.how = OF_FORK
        elif dice < 0.45:
            child = self._fork(thread, (*STARTING, user), "pp.m")
            child.how = OF_PROCESS
        elif dice < 0.70:
            child = self._fork(thread, (*EXECUTING, user), "pp")
            child.how = OF_POPEN
            child.python = False
        elif dice < 0.78:
            child = self._fork(thread, (user,))
            child.how = OF_FORK
        elif dice < 0.82:
            child = self._fork(thread, (user,))
            self._exec(child, child.leader, b"/bin/sh")
            child.how = (Call((), "", "wait"),)  # os.system()
            child.python = False
        elif dice < 0.92:
            pool = 0x7E00_0000_0000 + process.pid * 4096 + self._below(2) * 64
            for _ in range(self._below(3)):
                other = self._fork(thread, (*POOL_STARTING, user), "pp.m..o", o=pool)
                other.how = OF_POOL
                self._plan(self._lifetime(), self._exit, other)
            child = self._fork(thread, (*POOL_STARTING, user), "pp.m..o", o=pool)
            child.how = OF_POOL
        else:
            child = self._served(thread, user)
        child.line = line
        if self._chance() < 0.5 and not child.python:
            self._exec(child, child.leader)
        if self._chance() < 0.05 and self._planned < self._forks * 100:
            child.subreaper = self._chance() < 0.4
            child.python = process.python if child.python else self._chance() < 0.2
            self._settle(child, 1 + self._below(25))
        else:
            self._plan(self._lifetime(), self._exit, child)
        return child

    def _served(self, client: _Thread, user: str) -> _Process:
        """Have a fork server fork a child; the first time, fork the server."""
        process = client.process
        server = process.server
        if server is None or server.state != "alive" or server.init is not process.init:
            server = self._fork(client, (*SERVER_STARTING, user), "...pp.m")
            process.server = server
            self._plan(4 * S, self._exit, server)
        began = self._tick()
        child = self._fork(server.leader, SERVING)
        child.how = OF_SERVER
        self._pipes += 1
        child.pipe = 40_000 + self._pipes % 500
        self._block(client, began, self._tick(), READ, (*READING, user), pipe=child.pipe)
        self._plan(self._lifetime() + MS, self._serve, server, child)
        return child

    def _serve(self, server: _Process, child: _Process) -> None:
        """Reap a child by its fork server, once it is dead."""
        if server.state != "alive" or child.state == "gone":
            return
        if child.state == "alive":
            self._plan(5 * MS, self._serve, server, child)
        elif child.parent is not None and child.parent.process is server:
            self._reap(child, server.leader, SERVING, options=_WNOHANG)

    def _exec(self, process: _Process, thread: _Thread, name: bytes = b"") -> None:
        """Execute a program; its name and arguments have any length."""
        ns, comm = self._tick(), self._one(_COMMS)
        tid = thread.tid if self._chance() < 0.9 else 0
        if thread is process.leader:
            tid = process.pid
        process.comm = comm
        context = process.pid
        self._send(context, wire.EXEC, ns, process.start_ns, process.pid, tid, comm)
        name = name or b"/usr/bin/" + b"d/" * int(self._chance() ** 6 * 80) + b"prog\xff"
        dice = self._chance()
        arguments = name + b"\0" + b"argument\0" * int(self._chance() ** 5 * 40)
        total = len(arguments)
        if dice < 0.01:
            arguments = arguments.ljust(ARGV_BYTES, b"x")
            total = len(arguments) + self._below(1000)
        elif dice < 0.1:
            arguments, total = b"", 0
        for kind, text, whole in (
            (TextKind.FILENAME, name, 0), (TextKind.ARGV, arguments, total)
        ):  # fmt: skip
            for at in range(0, len(text), TEXT_BYTES):
                piece = text[at : at + TEXT_BYTES]
                self._send(
                    context, wire.TEXT, ns, process.start_ns, process.pid, kind, len(piece),
                    whole, piece,
                )  # fmt: skip
        if thread is not process.leader:  # de_thread(): the thread takes the leader's TID
            process.leader.children.update(thread.children)
            for child in thread.children:
                child.parent = process.leader
            thread.children = {}
            for each in process.threads[1:]:
                self._give_away(each, process.leader, exact=True)
                self._used.discard(each.tid)
            process.threads = [process.leader]
            process.leader.turn += 1
            self._go_on(process.leader, MS)
        process.python = process.python and self._chance() < 0.5

    def _sleep(self, thread: _Thread) -> None:
        began = self._tick()
        self._now += self._below(2 * MS)
        self._block(
            thread, began, self._tick(), self._one((SLEEP, SELECT, POLL, PSELECT6)),
            (f"main:{60 + self._below(3)}",),
            timeout_ns=self._one((-1, MS, 30 * MS)),
        )  # fmt: skip

    def _block(
        self, thread: _Thread, began: int, ended: int, syscall: int, frames: Sequence[str],
        selves: Sequence[int] = (), timeout_ns: int = -1, pipe: int = 0,
    ) -> None:  # fmt: skip
        process = thread.process
        number = self._stack(*frames) if self._chance() < 0.97 else 0
        self._send(
            thread.tid, wire.BLOCK, began, process.start_ns, process.pid, ended, number,
            timeout_ns, thread.tid, syscall, pipe, *(*selves, 0, 0, 0)[:3],
        )  # fmt: skip

    # calls that wait

    def _begin_call(self, thread: _Thread, child: _Process) -> None:
        """Begin a call that waits for a child, and plan what follows."""
        process = thread.process
        thread.turn += 1
        if not process.python:
            if self._chance() < 0.1:
                self._send_wait(thread, child, self._tick(), 0)
            if child.state == "zombie" or self._chance() < 0.7:
                child.waiters.append((thread, thread.turn))
                if child.state == "zombie":
                    self._plan(self._below(30 * US), self._c_wakes, thread, thread.turn, child)
                return
            self._go_on(thread, 5 * MS)
            return
        call = self._one(child.how or OF_FORK)
        line = child.line if len(child.how) == 1 else 20 + self._below(8)
        user = f"main:{line}"
        began = self._tick()
        if call.style == "not":
            self._poll_once(thread, child, call, user)
            self._go_on(thread, 3 * MS)
        elif call.style == "wait":
            options = 0 if self._chance() < 0.95 else self._one((_WNOWAIT, 2, -1))
            self._send_wait(thread, child, began, options)
            frames, selves = (*call.frames, user), call.addresses(child.objects)
            self._send_stack(StackKind.WAIT, process, began, thread, frames, selves)
            self._wait_for(thread, child, call, user, began, began)
        elif call.style == "poll":
            timeout_ns = -1
            if call not in OF_SERVER:
                timeout_ns = self._one((0, 1, 10, 100)) * MS + self._below(2) * 500_000
            if self._chance() < 0.1:
                timeout_ns = -1
            deadline = began + timeout_ns if timeout_ns >= 0 else 0
            self._wait_for(thread, child, call, user, began, 0, timeout_ns, deadline)
        else:
            left = self._one((3, 20, 120)) * MS
            self._sleeps(thread, thread.turn, child, call, user, MS, left)

    def _send_wait(self, thread: _Thread, child: _Process, ns: int, options: int) -> None:
        process = thread.process
        target = self._one((child.ns_pid, child.ns_pid, child.ns_pid, -1, 0, -process.pid))
        syscall = self._one((WAIT4, WAIT4, WAIT4, WAITID, -1 if options < 0 else WAIT4))
        skipped = self._below(50) if options > 0 else 0
        self._send(
            thread.tid, wire.WAIT, ns, process.start_ns, process.pid, thread.tid, syscall,
            options, target, skipped,
        )  # fmt: skip

    def _wait_for(
        self, thread: _Thread, child: _Process, call: Call, user: str, began: int, wait_ns: int,
        timeout_ns: int = -1, deadline: int = 0,
    ) -> None:  # fmt: skip
        """Sleep until the child dies, the time is up or something else happens."""
        thread.turn += 1
        given = (thread, thread.turn, child, call, user, began, wait_ns, timeout_ns, deadline)
        if child.state != "alive":
            self._plan(self._below(20 * US), self._wakes, *given)
            return
        child.waiters.append((thread, thread.turn))
        self._plan(500 * MS + self._below(400 * MS), self._wakes, *given)  # a signal
        if deadline:
            self._plan(max(deadline - self._now, 0) + self._below(MS), self._wakes, *given)
        elif self._chance() < 0.05:
            self._plan(self._below(20 * MS), self._wakes, *given)  # a signal
        self._wakers[thread, thread.turn] = given

    def _wakes(
        self, thread: _Thread, turn: int, child: _Process, call: Call, user: str, began: int,
        wait_ns: int, timeout_ns: int, deadline: int,
    ) -> None:  # fmt: skip
        """Wake up in a call that waits for a child: reap it, continue, or return."""
        self._wakers.pop((thread, turn), None)
        process = thread.process
        if not self._awake(thread, turn):
            return
        thread.turn += 1
        ended = self._tick()
        frames, selves = (*call.frames, user), call.addresses(child.objects)
        if not wait_ns or ended - began > 500 * US or self._chance() < 0.2:
            syscall = (WAIT4 if self._chance() < 0.9 else WAITID) if wait_ns else POLL
            pipe = 0 if wait_ns else child.pipe
            self._block(thread, began, ended, syscall, frames, selves, timeout_ns, pipe)
        mine = child.parent is not None and child.parent.process is process
        if child.state == "zombie" and mine:
            options = 0 if wait_ns else _WNOHANG
            stacked = not wait_ns or self._chance() < 0.6
            self._reap(
                child, thread, (*call.at_reap, user) if stacked else (),
                call.reaping_addresses(child.objects), options=options,
                wait_ns=wait_ns or (ended if self._chance() < 0.5 else 0),
            )  # fmt: skip
        elif child.state == "alive" and (not deadline or ended < deadline):
            if self._chance() < 0.7:  # the call goes on
                left = max(deadline - ended, 0) if deadline else timeout_ns
                if wait_ns and self._chance() < 0.5:
                    self._send_wait(thread, child, ended, 0)
                    self._send_stack(StackKind.WAIT, process, ended, thread, frames, selves)
                    wait_ns = ended
                self._wait_for(thread, child, call, user, ended, wait_ns, left, deadline)
                return
        self._go_on(thread, 2 * MS)

    def _sleeps(
        self, thread: _Thread, turn: int, child: _Process, call: Call, user: str, delay: int,
        left: int,
    ) -> None:  # fmt: skip
        """Poll and sleep longer each time, as Popen.wait(timeout) does."""
        if not self._awake(thread, turn):
            return
        if child.state == "alive" and left > 0:
            nap, began = min(delay, left, 50 * MS), self._now
            self._now += nap
            frames, selves = (*call.frames, user), call.addresses(child.objects)
            self._block(thread, began, self._now + self._below(90 * US), SLEEP, frames, selves)
            self._now -= nap
            self._plan(nap + 100 * US, self._sleeps, thread, turn, child, call, user, delay * 2,
                       left - nap)  # fmt: skip
            return
        if child.state == "zombie":
            self._poll_once(thread, child, call, user)
        self._go_on(thread, 2 * MS)

    def _poll_once(self, thread: _Thread, child: _Process, call: Call, user: str) -> None:
        """Wait for a child with WNOHANG: reap it if it is a zombie."""
        ns = self._tick()
        frames, selves = (*call.at_reap, user), call.reaping_addresses(child.objects)
        sent = self._chance() < 0.2
        if sent:
            self._send_wait(thread, child, ns, _WNOHANG)
            self._send_stack(StackKind.WAIT, thread.process, ns, thread, frames, selves)
        mine = child.parent is not None and child.parent.process is thread.process
        if child.state == "zombie" and mine:
            self._reap(child, thread, frames, selves, options=_WNOHANG, wait_ns=ns if sent else 0)

    def _c_wakes(self, thread: _Thread, turn: int, child: _Process) -> None:
        process = thread.process
        if not self._awake(thread, turn):
            return
        thread.turn += 1
        if child.state == "zombie" and child.parent is not None and child.parent.process is process:
            self._reap(child, thread, wait_ns=self._now - self._below(MS))
        self._go_on(thread, 2 * MS)

    def _reap_any(self, thread: _Thread) -> None:
        """Reap any zombie of the process, as a handler of SIGCHLD does."""
        process = thread.process
        for each in process.threads:
            for child in each.children:
                if child.state == "zombie":
                    frames = ("/srv/handlers.py:on_child:3", *SELECTING, "main:50")
                    self._reap(child, thread, frames if process.python else (), options=_WNOHANG)
                    return

    # death

    def _code(self) -> int:
        return self._one((0, 0, 0, 3 << 8, 9, 11 | 0x80, 15))

    def _exit(self, process: _Process) -> None:
        if process.state != "alive":
            return
        process.code = self._code()
        last = self._one(process.threads)
        parent = process.parent
        assert parent is not None
        ns = self._tick()
        self._last[last.tid] = max(self._last.get(each.tid, 0.0) for each in process.threads)
        self._send(
            last.tid, wire.EXIT, ns, process.start_ns, process.pid, last.tid, parent.process.pid,
            process.code, process.comm,
        )  # fmt: skip
        process.state = "dead"
        self._precedes_reap(process, last.tid)
        adopter, is_init = process.init, True
        above = parent.process
        while above.parent is not None and above is not process.init:
            if above.subreaper and above.state == "alive":
                adopter, is_init = above, False
                break
            above = above.parent.process
        if adopter is process or adopter.state != "alive":
            adopter, is_init = self._outside[INIT], True
        for thread in process.threads:
            self._give_away(thread, adopter.leader, self._chance() < 0.8, is_init)
            if thread is not process.leader:
                self._used.discard(thread.tid)
        self._become_zombie(process)

    def _thread_exit(self, thread: _Thread) -> None:
        process = thread.process
        process.threads.remove(thread)
        self._give_away(thread, self._one(process.threads), exact=self._chance() < 0.5)
        self._used.discard(thread.tid)

    def _give_away(self, thread: _Thread, to: _Thread, exact: bool, is_init: bool = False) -> None:
        """Give the children of a dying thread to another."""
        if not thread.children and self._chance() < 0.98:
            return
        process, adopter = thread.process, to.process
        flags = ReparentFlags.RESOLVED | ReparentFlags.EXACT * exact | ReparentFlags.INIT * is_init
        values = (
            process.start_ns, process.pid, adopter.start_ns, thread.tid, adopter.pid, to.tid,
            int(flags), process.comm, adopter.comm,
        )  # fmt: skip
        if self._chance() < 0.05:
            values = (process.start_ns, process.pid, 0, thread.tid, 0, 0, 0, process.comm, b"")
        if exact:
            self._send(thread.tid, wire.REPARENT, self._tick(), *values)
        else:
            self._plan(self._below(20 * MS), self._send_late, thread.tid, wire.REPARENT, values)
        for child in thread.children:
            child.parent = to
            to.children[child] = None
            if exact:
                self._precedes_reap(child, thread.tid)
            if not adopter.python or not adopter.followed:
                self._plan(self._lifetime(), self._adopter_reaps, child, to)
        thread.children = {}

    def _send_late(self, context: int, kind: int, values: Sequence[Any]) -> None:
        self._send(context, kind, self._now, *values)

    def _adopter_reaps(self, child: _Process, adopter: _Thread) -> None:
        if child.parent is not adopter or adopter.process.state != "alive":
            return
        if child.state == "zombie":
            self._reap(child, adopter)
        elif child.state != "gone":
            self._plan(20 * MS, self._adopter_reaps, child, adopter)

    def _precedes_reap(self, process: _Process, context: int) -> None:
        """Keep the last record of a context before the reap: tasklist_lock orders them."""
        process.place = max(process.place, self._last.get(context, 0.0))

    def _become_zombie(self, process: _Process) -> None:
        parent = process.parent
        assert parent is not None
        values = (
            process.start_ns, process.pid, parent.process.pid, parent.tid, process.code,
        )  # fmt: skip
        if parent.process.ignores:
            self._autoreap(process)
            return
        process.state = "zombie"
        if process.exit_signal:
            self._send(process.pid, wire.ZOMBIE, self._tick(), *values, ZombieHook.SIGNAL_GENERATE)
            self._precedes_reap(process, process.pid)
        elif self._chance() < 0.6:
            self._plan(
                self._below(3 * MS), self._send_late, process.pid, wire.ZOMBIE,
                (*values, ZombieHook.LATE),
            )  # fmt: skip
        self._wake_waiters(process)
        if not parent.process.followed:
            self._plan(self._below(20 * MS), self._adopter_reaps, process, parent)

    def _wake_waiters(self, process: _Process) -> None:
        for thread, turn in process.waiters:
            given = self._wakers.pop((thread, turn), None)
            if given is not None:
                self._plan(self._below(80 * US), self._wakes, *given)
            else:
                self._plan(self._below(80 * US), self._c_wakes, thread, turn, process)
        process.waiters = []

    def _autoreap(self, process: _Process) -> None:
        """Release a process that nobody waits for, as its parent ignores SIGCHLD."""
        parent = process.parent
        assert parent is not None
        pid, start_ns = process.pid, process.start_ns
        if self._chance() < 0.2:
            pid = 0
        elif self._chance() < 0.2:
            pid, start_ns = parent.process.pid, parent.process.start_ns
        flags = ReapFlags.EXITING | ReapFlags.LATE * (self._chance() < 0.2)
        self._last[process.pid] = max(self._last.get(process.pid, 0.0), process.place)
        self._send(
            process.pid, wire.REAP, self._tick(), process.start_ns, process.pid, start_ns, 0, pid,
            pid, parent.process.pid, parent.tid, process.code, -1, -1, int(flags), process.comm,
        )  # fmt: skip
        self._gone(process)

    def _reap(
        self, child: _Process, reaper: _Thread, frames: Sequence[str] = (),
        selves: Sequence[int] = (), options: int = 0, wait_ns: int = 0,
    ) -> None:  # fmt: skip
        parent = child.parent
        assert parent is not None
        dice = self._chance()
        if dice < 0.01:
            reaper, frames, wait_ns = self._outside[201].leader, (), 0  # a tracer
        ns, process = self._tick(), reaper.process
        self._last[reaper.tid] = max(self._last.get(reaper.tid, 0.0), child.place)
        if dice > 0.98:
            self._send(
                reaper.tid, wire.FREED, ns, child.start_ns, child.pid, parent.process.pid,
                child.code,
            )  # fmt: skip
            self._gone(child)
            return
        flags = ReapFlags.BY_PARENT if process is parent.process else ReapFlags(0)
        if frames:
            flags |= ReapFlags.STACKED
        if 0.02 < dice < 0.04:
            flags |= ReapFlags.LATE
        elif 0.04 < dice < 0.045 and frames:
            flags |= ReapFlags.EXITING
        syscall = self._one((WAIT4, WAIT4, WAIT4, WAITID, 426)) if dice < 0.97 else -1
        self._send(
            reaper.tid, wire.REAP, ns, child.start_ns, child.pid, process.start_ns, wait_ns,
            process.pid, reaper.tid, parent.process.pid, parent.tid, child.code, syscall,
            options if syscall >= 0 else -1, int(flags), process.comm,
        )  # fmt: skip
        if frames:
            self._send_stack(StackKind.REAP, child, ns, reaper, frames, selves)
        self._gone(child)

    def _gone(self, process: _Process) -> None:
        process.state = "gone"
        self._wake_waiters(process)
        assert process.parent is not None
        process.parent.children.pop(process, None)
        past = process.parent.process.past
        past.append(process)
        del past[:-10]
        self._used.discard(process.pid)


def recording(seed: int, forks: int) -> Recording:
    """Return a recording of about `forks` processes."""
    return _Machine(seed, forks).recording()
