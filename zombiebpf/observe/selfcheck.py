# SPDX-License-Identifier: Apache-2.0
"""Start an observer that has checked itself.

The check starts a process of its own that leaves an orphan, adopts and reaps both, and
compares what the probes report with what it knows. A wrong struct layout, which would
otherwise go unnoticed, cannot pass.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Optional

from zombiebpf.attach.processes import read_stat
from zombiebpf.errors import UsageError, ZombiebpfError
from zombiebpf.kernel import machine
from zombiebpf.kernel.boot_facts import BootFacts
from zombiebpf.kernel.observer import Observer
from zombiebpf.kernel.program import NotCompiledError
from zombiebpf.kernel.syscalls import syscall_names
from zombiebpf.lifecycle.lifecycle import Lifecycle
from zombiebpf.model.life import AdopterKind, Life, ReapedBy
from zombiebpf.observe import selfcheck_children

_SHELL = "/bin/sh"
_STATUS = 37
# leaves a child that runs until the pipe, its descriptor 3, is closed
_ARGV = (_SHELL, "-c", f"(read line <&3) & exit {_STATUS}")
_TIMEOUT_S = 5.0

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37

_FIX = (
    "the kernel's layout is not what it says; boot a kernel whose BTF or headers match it, or "
    "report this with the output of `zombiebpf doctor`"
)


class _Expected(NamedTuple):
    """What this process knows about the processes it has started."""

    pid: int
    statuses: Mapping[int, int]  # PID -> exit status, of the odd exits
    silent: Mapping[int, int]  # PID -> exit status, of the exit without a signal
    fork: tuple[int, int]  # CLOCK_MONOTONIC before and after, ns
    zombie: tuple[int, int]
    reap: tuple[int, int]
    start_ticks: int
    waits: tuple[str, int]  # system call and options of the reap


def start_observer(
    forced: Optional[Mapping[str, str]] = None, waits: bool = False, selecting: bool = False
) -> Observer:
    """Attach the probes as Observer.attach() does, and check what they report.

    Raise what that raises, and ZombiebpfError if the probes report wrong data. What was kept
    of this kernel since it booted is asked anew if the probes do not work with it, or have to
    be compiled for it.
    """
    facts = BootFacts.of_this_boot()
    try:
        observer = _checked(Observer.attach(forced, waits, selecting, facts))
    except UsageError:
        raise
    except (ZombiebpfError, NotCompiledError):
        if not facts.were_kept:
            raise
        facts.forget()
        observer = _checked(Observer.attach(forced, waits, selecting, facts))
    facts.keep()
    return observer


def _checked(observer: Observer) -> Observer:
    try:
        check_observer(observer)
    except BaseException:
        observer.close()
        raise
    return observer


def check_observer(observer: Observer) -> bool:
    """Compare what the probes report of processes started here with the truth.

    Return whether the system call of a reap can be read on this machine. Raise
    ZombiebpfError if anything that was reported is wrong.
    """
    with _subreaper():
        truth = _run_children(observer)
    lives = _collect(observer, truth)
    wrong = [each for each in _compare(observer.hook_names(), truth, lives) if each]
    if wrong:
        raise ZombiebpfError(f"the probes do not tell the truth here: {wrong[0]}", _FIX)
    return lives[truth.pid].reap_call is not None


def _run_children(observer: Observer) -> _Expected:
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
                    # the user need not see what the shell might complain about
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
            )
            after = time.monotonic_ns()
            statuses = selfcheck_children.run_odd_exits()
            by_function = any(choice.attach_kind for choice in observer.choices.values())
            silent = selfcheck_children.start_silent_exit(reading, writing) if by_function else {}
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        dead = time.monotonic_ns()
        stat = read_stat(pid)
        reap = time.monotonic_ns()
        _, status = os.waitpid(pid, 0)
        reaped = time.monotonic_ns()
    finally:
        os.close(writing)
        os.close(reading)
    assert os.waitstatus_to_exitcode(status) == _STATUS
    assert stat is not None
    zombie, waited = (before, dead), (reap, reaped)
    return _Expected(
        pid, statuses, silent, (before, after), zombie, waited, stat.start_ticks, ("wait4", 0)
    )


def _collect(observer: Observer, truth: _Expected) -> dict[int, Life]:
    """Return the records by PID; reap the orphans, adopted by now, and the zombie that is left."""
    lifecycle = Lifecycle(syscall_names(), cgroup_path=str, late_event_ns=0)
    deadline = time.monotonic() + _TIMEOUT_S
    lives = list(lifecycle.feed(observer.read()))
    awaited = set(truth.silent) if observer.hook_names()["zombie"] != "signal_generate" else set()
    while awaited and time.monotonic() < deadline:
        lives += lifecycle.feed(observer.read())
        awaited -= {life.pid for life in lifecycle.unfinished if life.zombie_ns is not None}
        time.sleep(0.001)  # a late hook may report it after a wait could reap it
    for child in _own_children(lifecycle):
        os.waitpid(child, selfcheck_children.WALL)
    while True:
        batch = observer.read()
        lives += lifecycle.feed(batch)
        if not batch and (not lifecycle.alive or time.monotonic() > deadline):
            break
        if not batch:
            time.sleep(0.001)  # only with a late hook
    lives += lifecycle.finish()
    return {life.pid: life.life() for life in lives}


def _own_children(lifecycle: Lifecycle) -> list[int]:
    """Return the PIDs that the probes follow and that are children of this process."""
    stats = {life.pid: read_stat(life.pid) for life in lifecycle.unfinished}
    return [pid for pid, stat in stats.items() if stat and stat.parent == os.getpid()]


def _compare(
    hooks: Mapping[str, str], truth: _Expected, lives: Mapping[int, Life]
) -> Iterator[str]:
    """Yield what is wrong, and "" for what is right."""
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
            continue  # no hook reports it
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
    hooks: Mapping[str, str], truth: _Expected, lives: Mapping[int, Life]
) -> Iterator[str]:
    """Check the exit without a signal: a later hook reports it, and marks it as late."""
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
    hooks: Mapping[str, str], truth: _Expected, life: Life, me: tuple[int, int]
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


@contextmanager
def _subreaper() -> Iterator[None]:
    """Adopt orphans within this context; the observed command does not run yet."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = ctypes.c_int()
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)
