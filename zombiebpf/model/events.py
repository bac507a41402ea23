# SPDX-License-Identifier: Apache-2.0
"""Kernel events: one immutable value per record of the probes.

This module is the one table of the wire format on the Python side. Each class
declares the members of its struct in probes/wire.h, in the same order and with
the same widths (`U64`, `I32`, `Comm`...); `zombiebpf.model.wire` derives the
decoders from these annotations.

Every `ns` is CLOCK_MONOTONIC in nanoseconds, taken in the kernel by
bpf_ktime_get_ns(). Every `start_ns` is the start of the process on CLOCK_BOOTTIME
(`task_struct.start_boottime` of the thread group leader). Together with the PID it
identifies a process for ever. PIDs are those of the observer's PID namespace;
0 is a process that this namespace cannot see.
"""

from __future__ import annotations

import enum
from typing import Annotated, NamedTuple, Optional, Union

# A type and its format character of the struct module.
U8 = Annotated[int, "B"]
U16 = Annotated[int, "H"]
U32 = Annotated[int, "I"]
I32 = Annotated[int, "i"]
U64 = Annotated[int, "Q"]
I64 = Annotated[int, "q"]
Comm = Annotated[str, "16s"]  # NUL-padded; bytes that are not UTF-8 become lone surrogates
TextData = Annotated[bytes, "56s"]
Selves6 = Annotated["tuple[int, ...]", "6Q"]
Selves3 = Annotated["tuple[int, ...]", "3Q"]

TEXT_BYTES = 56  # of `Text.data`
ARGV_BYTES = 37 * TEXT_BYTES  # of an argument vector that are sent; the rest is cut


class ForkFlags(enum.IntFlag):
    """`Fork.flags`."""

    STACKED = 1  # the forker is Python: a StackOf follows


class Fork(NamedTuple):
    """`sched_process_fork`: a process (not a thread) was created and has not run yet."""

    ns: U64
    start_ns: U64
    pid: U32
    forker_start_ns: U64
    cgroup_id: U64  # of the unified hierarchy; 0: unknown
    forker_pid: U32
    forker_tid: U32
    parent_pid: U32  # real_parent: not the forker after CLONE_PARENT
    parent_tid: U32
    exit_signal: I32  # sent to the parent: usually SIGCHLD, 0 for none
    pidns: U32  # inode number of the innermost PID namespace
    ns_pid: U32  # the PID in that namespace
    comm: Comm  # the forker's, and so the child's until it execs
    flags: U32  # ForkFlags


class Exec(NamedTuple):
    """`sched_process_exec`: a program was started in the process."""

    ns: U64
    start_ns: U64
    pid: U32
    old_tid: U32  # differs from pid if a thread other than the leader called exec; 0: unknown
    comm: Comm


class TextKind(enum.IntEnum):
    """What a `Text` record is part of."""

    FILENAME = 1
    ARGV = 2


class Text(NamedTuple):
    """A piece of the filename or of the argument vector of an exec. Pieces arrive in order."""

    ns: U64  # equals that of the Exec
    start_ns: U64
    pid: U32
    kind: U16  # TextKind
    length: U16  # valid bytes in `data`
    total: U32  # ARGV: bytes in the whole vector, of which at most ARGV_BYTES are sent
    data: TextData

    @property
    def piece(self) -> bytes:
        """Return the valid bytes of `data`."""
        return self.data[: self.length]


class Exit(NamedTuple):
    """`sched_process_exit` of the last thread of a process."""

    ns: U64
    start_ns: U64
    pid: U32
    tid: U32  # the last thread
    parent_pid: U32
    code: U32  # wait status word as in wait(2)
    comm: Comm


class ZombieHook(enum.IntEnum):
    """How the zombie instant was taken (`Zombie.hook`)."""

    SIGNAL_GENERATE = 0  # under tasklist_lock: exact
    LATE = 1  # no signal was sent; a later hook saw the dying thread: an upper bound


class Zombie(NamedTuple):
    """The process has become EXIT_ZOMBIE and can be waited for."""

    ns: U64
    start_ns: U64
    pid: U32
    parent_pid: U32
    parent_tid: U32
    code: U32  # wait status word
    hook: U32  # ZombieHook


class ReparentFlags(enum.IntFlag):
    """`Reparent.flags`."""

    INIT = 1  # the adopter is the init of its PID namespace
    RESOLVED = 2  # the adopter was read; without it no child was left to read it from
    EXACT = 4  # taken under tasklist_lock, not at the last context switch


class Reparent(NamedTuple):
    """All children of one dying thread were given to an adopter."""

    ns: U64
    start_ns: U64  # of the dying thread's process
    pid: U32
    adopter_start_ns: U64
    tid: U32  # the dying thread, whose children they were
    adopter_pid: U32  # 0 without ReparentFlags.RESOLVED
    adopter_tid: U32
    flags: U32  # ReparentFlags
    comm: Comm  # of the dying process
    adopter_comm: Comm


class Wait(NamedTuple):
    """`sched_process_wait`: a followed thread entered do_wait()."""

    ns: U64
    start_ns: U64
    pid: U32
    tid: U32
    syscall: I32  # number, -1: unknown
    options: I32  # WNOHANG and so on; -1: unknown
    target: I32  # a PID, -1: any child, -PGID, 0: other children; meaningless if syscall is -1
    skipped: U32  # non-blocking waits of this thread since its last Wait that were not sent


class ReapFlags(enum.IntFlag):
    """`Reap.flags`."""

    EXITING = 1  # the reaper itself was past exit_notify(): nobody waited
    BY_PARENT = 2  # the reaper's process is that of real_parent
    STACKED = 4  # the reaper is Python: a StackOf follows
    LATE = 8  # reported after the release: an upper bound


class Reap(NamedTuple):
    """release_task() of the process, in the context of the reaper."""

    ns: U64
    start_ns: U64
    pid: U32
    reaper_start_ns: U64
    wait_ns: U64  # when the reaping thread entered do_wait(); 0: not observed
    reaper_pid: U32
    reaper_tid: U32
    parent_pid: U32  # real_parent at this instant
    parent_tid: U32
    code: U32  # wait status word
    syscall: I32  # system call the reaper is in; -1: unknown or none
    options: I32
    flags: U32  # ReapFlags
    comm: Comm  # the reaper's


class Freed(NamedTuple):
    """`sched_process_free` of a process whose reap was not observed: an upper bound."""

    ns: U64
    start_ns: U64
    pid: U32
    parent_pid: U32
    code: U32


class StackKind(enum.IntEnum):
    """Which event a `StackOf` belongs to."""

    FORK = 1  # the forker's stack; pid and start_ns are the child's
    WAIT = 2  # pid and start_ns are the waiter's
    REAP = 3  # the reaper's stack; pid and start_ns are those of the reaped process
    BLOCK = 4  # pid and start_ns are those of the blocked process


class StackProblem(enum.IntEnum):
    """Why a call stack is incomplete."""

    NONE = 0
    CUT = 1  # deeper than what is captured
    UNREADABLE = 2  # a page was not in memory, or is not a Python object
    NO_THREAD = 3  # no Python thread state: a C thread, or the interpreter is not initialised
    UNREGISTERED = 4  # an interpreter that is not (yet) known to the probes
    LOST = 5  # its record, or that of a function, was lost


class StackOf(NamedTuple):
    """The Python stack of the thread that forked, waited, reaped or was blocked.

    It follows the event it belongs to and has that event's `ns`. Only processes
    that are registered as Python interpreters have one.
    """

    ns: U64
    start_ns: U64
    pid: U32
    stack_id: U64  # 0: none, `problem` gives the reason
    tid: U32  # the thread that the stack was captured from
    kind: U8  # StackKind
    problem: U8  # StackProblem
    first: U8  # index, from the innermost frame on, of the frame that selves[0] belongs to
    # The first local variable (a method's `self`) of each frame, an address; 0: none. Equal
    # addresses at a fork and a join show that both concern one Process, Popen or Pool.
    selves: Selves6


class Block(NamedTuple):
    """A Python thread was off the CPU in a system call (`sched_switch`).

    Sent when the thread runs again, for processes that have or had children, if the
    block lasted 0.5 ms or more, polled a pipe or read a word from one. One system call
    may cause several: a signal wakes it.
    """

    ns: U64  # when it began
    start_ns: U64
    pid: U32
    ended_ns: U64
    stack_id: U64  # 0: none
    timeout_ns: I64  # that of poll, ppoll, select...; -1: none or unknown
    tid: U32
    syscall: I32
    pipe: U32  # inode of what poll() watches first, or read() reads, if it is a pipe; 0: none
    selves: Selves3  # of the three innermost frames


class SnapshotFlags(enum.IntFlag):
    """`Snapshot.flags`."""

    EXITING = 1  # its exit had begun before
    ZOMBIE = 2  # it was a zombie already
    JOINED = 4  # it entered a selected cgroup; it was not selected before


class Snapshot(NamedTuple):
    """A process that existed when it was selected, as the attach scan found it.

    It precedes all other events of that process except, at times, its Fork. It can be
    sent twice, the second time with more flags, if the process changed during the scan.
    """

    ns: U64  # when the scan read it
    start_ns: U64
    pid: U32
    parent_start_ns: U64
    cgroup_id: U64
    parent_pid: U32  # real_parent: the forker or an adopter
    parent_tid: U32
    exit_signal: I32
    pidns: U32
    ns_pid: U32
    code: U32  # wait status word, with SnapshotFlags.EXITING
    flags: U32  # SnapshotFlags
    tgid: U32  # its PID in the initial PID namespace
    comm: Comm
    # Not in the record: added from /proc by zombiebpf.observe.snapshots.
    parent_comm: Optional[str] = None
    argv: Optional[tuple[str, ...]] = None


Event = Union[Fork, Exec, Text, Exit, Zombie, Reparent, Wait, Reap, Freed, StackOf, Block, Snapshot]
