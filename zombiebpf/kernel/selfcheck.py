# SPDX-License-Identifier: Apache-2.0
"""The observer proves itself before anybody believes it.

It starts a process of its own that leaves an orphan, adopts and reaps both, and
compares what the probes told with what it knows. A wrong struct layout, which
otherwise is silent, cannot pass.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional

from zombiebpf.errors import ZombiebpfError
from zombiebpf.events import Event
from zombiebpf.kernel import machine, trials
from zombiebpf.kernel.calls import syscall_names
from zombiebpf.life import AdopterKind, Life, ReapedBy
from zombiebpf.lifecycle import Lifecycle

if TYPE_CHECKING:
    from zombiebpf.kernel.observer import Observer

_SHELL = "/bin/sh"
_STATUS = 37
# leaves a child that lives until the pipe, its descriptor 3, is closed
_ARGV = (_SHELL, "-c", f"(read line <&3) & exit {_STATUS}")
_PATIENCE_S = 5.0

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37

_CURE = (
    "the kernel's layout is not what it says; boot a kernel whose BTF or headers match it, or "
    "report this with the output of `zombiebpf doctor`"
)


class _Truth(NamedTuple):
    """What this process knows itself of the trial."""

    pid: int
    statuses: Mapping[int, int]  # of further processes: PID -> exit status
    silent: Mapping[int, int]  # of one whose end no signal tells of
    fork: tuple[int, int]  # CLOCK_MONOTONIC before and after, ns
    zombie: tuple[int, int]
    reap: tuple[int, int]
    start_ticks: int
    waits: tuple[str, int]  # system call and options of the reap


def prove(observer: Observer) -> bool:
    """Try the observer on an own child. ZombiebpfError where it told anything wrong.

    Returns whether the system call of a reap is seen on this machine.
    """
    with _subreaper():
        truth = _trial(observer)
    lives = _collect(observer, truth)
    wrong = [each for each in _compare(observer.choices_names(), truth, lives) if each]
    if wrong:
        raise ZombiebpfError(f"the probes do not tell the truth here: {wrong[0]}", _CURE)
    return lives[truth.pid].reap_call is not None


def _trial(observer: Observer) -> _Truth:
    reading, writing = os.pipe()
    try:
        with observer.following_forks():
            before = time.monotonic_ns()
            pid = os.posix_spawn(
                _SHELL,
                _ARGV,
                {"PATH": "/usr/bin:/bin"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, reading, 3),
                    (os.POSIX_SPAWN_CLOSE, writing),
                    # what its shell might complain of is not for the user
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
            )
            after = time.monotonic_ns()
            statuses = trials.odd_exits()
            by_function = any(choice.way for choice in observer.choices.values())
            silent = trials.silent_exit(reading, writing) if by_function else {}
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        dead = time.monotonic_ns()
        ticks = _start_ticks(pid)
        reap = time.monotonic_ns()
        _, status = os.waitpid(pid, 0)
        reaped = time.monotonic_ns()
    finally:
        os.close(writing)
        os.close(reading)
    assert os.waitstatus_to_exitcode(status) == _STATUS
    return _Truth(
        pid, statuses, silent, (before, after), (before, dead), (reap, reaped), ticks, ("wait4", 0)
    )


def _collect(observer: Observer, truth: _Truth) -> dict[int, Life]:
    """The lives of all; orphans, now ours, and a zombie that was left are reaped here."""
    lifecycle = Lifecycle(syscall_names(), cgroup_path=str, grace_ns=0)
    lives: list[Life] = []
    deadline = time.monotonic() + _PATIENCE_S
    events: list[Event] = observer.read()
    lives += lifecycle.feed(events)
    awaited = set(truth.silent) if observer.choices_names()["zombie"] != "signal_generate" else ()
    while awaited and not _zombies(lifecycle, awaited) and time.monotonic() < deadline:
        lives += lifecycle.feed(observer.read())
        time.sleep(0.001)  # a late hook's: it may come after the wait that could reap it
    for child in _own_children(lifecycle):
        os.waitpid(child, trials.WALL)
    while True:
        batch = observer.read()
        lives += lifecycle.feed(batch)
        if not batch and (not lifecycle.alive or time.monotonic() > deadline):
            break
        if not batch:
            time.sleep(0.001)  # only a late hook comes here
    lives += lifecycle.finish()
    return {life.pid: life for life in lives}


def _zombies(lifecycle: Lifecycle, pids: Collection[int]) -> bool:
    """Whether all of `pids` have been seen to be zombies."""
    seen = {life.pid for life in lifecycle.unfinished if life.zombie_ns is not None}
    return seen.issuperset(pids)


def _own_children(lifecycle: Lifecycle) -> list[int]:
    """PIDs that the probes know and that are children of this process."""
    mine = os.getpid()
    found = []
    for life in lifecycle.unfinished:
        try:
            stat = Path(f"/proc/{life.pid}/stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == mine:
            found.append(life.pid)
    return found


def _compare(hooks: Mapping[str, str], truth: _Truth, lives: Mapping[int, Life]) -> Iterator[str]:
    """What is wrong, in words."""
    me, tid = os.getpid(), threading.get_native_id()
    life = lives.get(truth.pid)
    if life is None:
        yield f"the fork of PID {truth.pid} was not seen"
        return
    yield _equal("forker", life.forker, (me, tid, _own_comm()))
    yield _equal("comm", life.comm, os.path.basename(_SHELL))
    yield _equal("PID namespace", life.pidns, (os.stat("/proc/self/ns/pid").st_ino, truth.pid))
    cgroup = machine.own_cgroup()
    if cgroup is not None:
        yield _equal("cgroup", life.cgroup, str(cgroup))
    yield _within("fork", life.fork_ns, truth.fork)
    yield _equal("program", life.execs and life.execs[-1].filename, _SHELL)
    yield _equal("argv", life.argv, _ARGV)
    yield _equal("exit status", life.exit_status, _STATUS)
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    yield _equal("start time in ticks", life.start_ns // tick, truth.start_ticks)
    yield _within("exit", life.exit_ns, truth.zombie)
    yield _within("zombie", life.zombie_ns, truth.zombie)
    if not life.exit_ns or not life.zombie_ns or life.exit_ns > life.zombie_ns:
        yield f"exit at {life.exit_ns} and zombie at {life.zombie_ns} are not in order"
    if not life.zombie_exact:
        yield "the signal that tells of a zombie was not seen"
    for pid, status in truth.statuses.items():
        yield _equal("exit status", lives[pid].exit_status if pid in lives else None, status)
    yield from _compare_reap(hooks, truth, life, (me, tid))
    yield from _compare_silent(hooks, truth, lives)
    parents = [truth.pid, *truth.silent]
    orphans = [
        other for pid, other in lives.items() if pid not in parents and pid not in truth.statuses
    ]
    yield _equal("number of orphans", len(orphans), len(parents))
    for orphan in orphans:
        forker = orphan.forker.pid if orphan.forker else 0
        yield _equal("an orphan's forker is known", forker in parents, True)
        if forker in truth.silent and hooks["reparent"] == "signal_generate":
            continue  # nothing tells of it
        yield _equal(
            "orphan's adoption",
            [(each.from_.pid, each.to.pid, each.kind) for each in orphan.reparents],
            [(forker, me, AdopterKind.INIT if me == 1 else AdopterKind.SUBREAPER)],
        )
        if hooks["reparent"] == "kill_orphaned_pgrp":
            yield _equal("adoption exact", [each.exact for each in orphan.reparents], [True])
        if hooks["reap"] != "sched_process_free":
            yield _equal("who reaped the orphan", orphan.reaped_by, ReapedBy.ADOPTER)


def _compare_silent(
    hooks: Mapping[str, str], truth: _Truth, lives: Mapping[int, Life]
) -> Iterator[str]:
    """Where no signal is sent, what comes next tells, and says that it is late."""
    for pid, status in truth.silent.items():
        life = lives.get(pid)
        if life is None:
            yield f"the clone of PID {pid} was not seen"
            return
        yield _equal("silent exit's status", life.exit_status, status)
        if hooks["zombie"] != "signal_generate":
            yield _equal("silent zombie seen", life.zombie_ns is not None, True)
            yield _equal("silent zombie exact", life.zombie_exact, False)
        if hooks["reap"] != "sched_process_free":
            yield _equal("silent zombie reaped by", life.reaped_by, ReapedBy.PARENT)


def _compare_reap(
    hooks: Mapping[str, str], truth: _Truth, life: Life, me: tuple[int, int]
) -> Iterator[str]:
    if hooks["reap"] == "sched_process_free":
        if life.reap_ns is None or life.reap_ns < truth.reap[0]:
            yield f"the release at {life.reap_ns} came before the wait at {truth.reap[0]}"
        return
    yield _within("reap", life.reap_ns, truth.reap)
    yield _equal("reaper", life.reaper and life.reaper[:2], me)
    yield _equal("reaped by", life.reaped_by, ReapedBy.PARENT)
    call = life.reap_call
    if call is not None:
        yield _equal("call of the reap", (call.syscall, call.options), truth.waits)


def _equal(what: str, seen: object, true: object) -> str:
    return "" if seen == true else f"{what}: the probes said {seen!r}, true is {true!r}"


def _own_comm() -> str:
    return os.fsdecode(Path("/proc/thread-self/comm").read_bytes()).rstrip("\n")


def _within(what: str, seen: Optional[int], bounds: tuple[int, int]) -> str:
    if seen is not None and bounds[0] <= seen <= bounds[1]:
        return ""
    return f"{what}: the probes said {seen} ns, true is {bounds[0]} to {bounds[1]}"


def _start_ticks(pid: int) -> int:
    """Field 22 of /proc/PID/stat (fs/proc/array.c): start_boottime in clock ticks."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[19])


@contextmanager
def _subreaper() -> Iterator[None]:
    """Adopt orphans for a moment; no process of the user's runs yet."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = ctypes.c_int()
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)
