# SPDX-License-Identifier: Apache-2.0
"""The vocabulary: one immutable value per kernel fact.

Every `ns` is CLOCK_MONOTONIC in nanoseconds, taken in the kernel by
`bpf_ktime_get_ns()`. Every `start_ns` is the process's start on CLOCK_BOOTTIME
(`task_struct.start_boottime` of the thread group's leader), which together with
the PID names a process for ever. PIDs are those of the observer's PID
namespace; 0 is a process that the observer's namespace cannot see.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Optional, Union


class ZombieHook(enum.IntEnum):
    """Which hook saw a zombie begin (`Zombie.hook`)."""

    SIGNAL_GENERATE = 0  # under tasklist_lock: exact
    SCHED_SWITCH = 1  # the dying thread's last switch: a late bound


class Fork(NamedTuple):
    """`sched_process_fork`: a process (not a thread) was made, and has not run yet."""

    ns: int
    start_ns: int
    pid: int
    forker_start_ns: int
    cgroup_id: int  # of the unified hierarchy; 0: unknown
    forker_pid: int
    forker_tid: int
    parent_pid: int  # real_parent: not the forker after CLONE_PARENT
    parent_tid: int
    exit_signal: int  # what the parent will get: SIGCHLD as a rule, 0 for none
    pidns: int  # inode number of the innermost PID namespace
    ns_pid: int  # the PID in that namespace
    comm: str  # forker's, and so the child's until it execs


class Exec(NamedTuple):
    """`sched_process_exec`: a program was started in the process."""

    ns: int
    start_ns: int
    pid: int
    old_tid: int  # differs from pid when a thread that is no leader exec'ed; 0: unknown
    comm: str


ARGV_BYTES = 37 * 56  # of an argument vector that are sent; the rest is cut


class TextKind(enum.IntEnum):
    """What a `Text` chunk is part of."""

    FILENAME = 1
    ARGV = 2


class Text(NamedTuple):
    """A piece of an exec's filename or of its argument vector."""

    ns: int  # equals the Exec's
    start_ns: int
    pid: int
    kind: int  # TextKind
    total: int  # ARGV: bytes there are, of which ARGV_BYTES at the most are sent
    data: bytes  # pieces come in order


class Exit(NamedTuple):
    """`sched_process_exit` of a process's last thread."""

    ns: int
    start_ns: int
    pid: int
    tid: int  # the last thread
    parent_pid: int
    code: int  # wait status word as in wait(2)
    comm: str


class Zombie(NamedTuple):
    """The process has become EXIT_ZOMBIE and can be waited for."""

    ns: int
    start_ns: int
    pid: int
    parent_pid: int
    parent_tid: int
    code: int  # wait status word
    hook: int  # ZombieHook


class Reparent(NamedTuple):
    """All children of one dying thread were given to an adopter.

    `adopter_pid` is 0 with `resolved` False when no child was left to tell by.
    """

    ns: int
    start_ns: int  # of the dying thread's process
    pid: int
    adopter_start_ns: int
    tid: int  # the dying thread, whose children they were
    adopter_pid: int
    adopter_tid: int
    is_init: bool  # adopter is the init of its PID namespace
    resolved: bool
    exact: bool  # stamped under tasklist_lock, not at the last switch
    comm: str  # the dying process's
    adopter_comm: str


class Wait(NamedTuple):
    """`sched_process_wait`: a followed thread entered do_wait()."""

    ns: int
    start_ns: int
    pid: int
    tid: int
    syscall: int  # number, -1: unknown
    options: int  # WNOHANG and so on; -1: unknown
    target: int  # first argument of wait4, second of waitid; meaningless if syscall is -1
    skipped: int  # non-blocking waits of this thread since its last Wait, not sent


class ReapFlags(enum.IntFlag):
    """`Reap.flags`."""

    EXITING = 1  # the reaper was itself past exit_notify: nobody waited
    BY_PARENT = 2  # the reaper's process is real_parent's
    STACKED = 4  # the reaper is Python: a StackOf follows
    LATE = 8  # told when the release was over: a late bound


class Reap(NamedTuple):
    """release_task() of the process, in the reaper's context."""

    ns: int
    start_ns: int
    pid: int
    reaper_start_ns: int
    wait_ns: int  # when the reaping thread entered do_wait(); 0: not seen
    reaper_pid: int
    reaper_tid: int
    parent_pid: int  # real_parent at this instant
    parent_tid: int
    code: int  # wait status word
    syscall: int  # the reaper stands in; -1: unknown or none
    options: int
    flags: int  # ReapFlags
    comm: str  # reaper's


class Freed(NamedTuple):
    """`sched_process_free` of a process whose reap was not seen: a late bound."""

    ns: int
    start_ns: int
    pid: int
    parent_pid: int
    code: int


class StackKind(enum.IntEnum):
    """Which event a `StackOf` belongs to."""

    FORK = 1  # the forker's stack; pid and start_ns are the child's
    WAIT = 2  # pid and start_ns are the waiter's
    REAP = 3  # the reaper's stack; pid and start_ns are those of the reaped
    BLOCK = 4  # pid and start_ns are the blocked process's


class StackProblem(enum.IntEnum):
    """Why a stack is not whole."""

    NONE = 0
    CUT = 1  # deeper than what is captured
    UNREADABLE = 2  # a page was not in memory, or is no Python object
    NO_THREAD = 3  # no Python thread state: a thread of C, or the interpreter is not up
    UNREGISTERED = 4  # an interpreter, but not known (yet) to the probes
    LOST = 5  # its record, or a function's, was lost


class StackOf(NamedTuple):
    """The Python stack of the thread that forked, waited, reaped or was blocked.

    It comes right after the event it belongs to, with that event's `ns`. Only
    processes that are registered as Python interpreters have one.
    """

    ns: int
    start_ns: int
    pid: int
    stack_id: int  # 0: none, `problem` says why
    tid: int  # whose stack it is
    kind: int  # StackKind
    problem: int  # StackProblem
    first: int  # index, from the innermost frame on, of the frame that selves[0] belongs to
    # each frame's first local variable (a method's `self`), an address; 0: none. A fork's
    # and a join's `self` tell whether they are of the same Process, Popen or Pool.
    selves: tuple[int, ...]


class Block(NamedTuple):
    """A Python thread was off the CPU, waiting in a system call (`sched_switch`).

    Sent when it runs again, for processes that have, or had, children, if it lasted 0.5 ms or
    more, polled a pipe or read a word of one. One system call may make several: a signal wakes it.
    """

    ns: int  # when it began
    start_ns: int
    pid: int
    ended_ns: int
    stack_id: int  # 0: none
    timeout_ns: int  # poll's, ppoll's, select's...; -1: none or unknown
    tid: int
    syscall: int
    pipe: int  # inode number of what poll() watches first, or read() reads, if a pipe; 0: none
    selves: tuple[int, ...]  # of the three innermost frames


class ExistingFlags(enum.IntFlag):
    """`Existing.flags`."""

    EXITING = 1  # its exit had begun before
    ZOMBIE = 2  # it was a zombie already
    JOINED = 4  # it came into a selected cgroup: it was none of the selected until then


class Existing(NamedTuple):
    """A process that is followed from now on, but was not forked before our eyes.

    It precedes all other events of that process but, at times, its Fork. It may
    come again, with more flags: what it tells then happened while it was looked at.
    """

    ns: int  # when it was looked at
    start_ns: int
    pid: int
    parent_start_ns: int
    cgroup_id: int
    parent_pid: int  # real_parent: who forked it, or who adopted it
    parent_tid: int
    exit_signal: int
    pidns: int
    ns_pid: int
    code: int  # wait status word, where it is EXITING
    flags: int  # ExistingFlags
    tgid: int  # its PID in the machine's first PID namespace
    comm: str
    # what only /proc tells, as the reader finds it
    parent_comm: Optional[str] = None
    argv: Optional[tuple[str, ...]] = None


Event = Union[Fork, Exec, Text, Exit, Zombie, Reparent, Wait, Reap, Freed, StackOf, Block, Existing]
