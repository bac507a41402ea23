# SPDX-License-Identifier: Apache-2.0
"""Verdicts on waits and parents: stolen wait, lost status, wrong process, orphans."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from zombiebpf.analysis import Join
from zombiebpf.attribution.finding import (
    ERROR,
    WARNING,
    Case,
    Finding,
    actor,
    at,
    by_line,
    duration,
    forked,
    forked_by,
    some,
)
from zombiebpf.attribution.sites import Line, line_of, short
from zombiebpf.life import Life, ReapedBy, State, signal_name

Key = tuple[int, int]

# Under a fork server these wait for another process's children, and are right to.
_BY_PIPE = ("Process.join", "atexit", "Pool.", "executor", "loky", "billiard")


def stolen_waits(case: Case) -> Iterator[Finding]:
    """Somebody else had reaped the child that a join waited for."""
    groups: dict[tuple[Optional[Line], Optional[str]], list[tuple[Join, Optional[Life]]]] = {}
    for join in case.joins:
        child = case.child_of(join)
        if join.returned != "stolen" or (child and child.reaped_by is ReapedBy.KERNEL):
            continue
        thief = line_of(child.reap_call.site) if child and child.reap_call else None
        groups.setdefault((thief, join.kind), []).append((join, child))
    for (thief, kind), stolen in groups.items():
        join, child = stolen[0]
        by = actor(join.by or (child.reaper if child else None))
        call = child.reap_call.kind if child and child.reap_call else None
        how = f"{call or 'a wait call'}{'' if thief is None else f' at {short(thief)}'}"
        evidence = [
            f"{each.kind} of {actor_of(each)}{at(each.site)} waited for PID {each.child_pid},"
            f" which {actor(each.by)} had reaped{_with(life)}"
            for each, life in stolen
        ]
        count = f" {len(stolen)} times" if len(stolen) > 1 else ""
        yield Finding(
            kind="stolen wait",
            severity=ERROR,
            title=f"{how} in {by} took the status that {kind} waited for{count}",
            evidence=some(evidence),
            cure="Wait for your own children only: replace the wait for any child (os.wait(),"
            f" os.waitpid(-1, ...)){'' if thief is None else f' at {short(thief)}'} by"
            " os.waitpid(pid, ...) for each PID that this code has forked itself",
            site=thief or line_of(join.site),
            lives=[life for _, life in stolen if life is not None],
            joins=[each for each, _ in stolen],
        )


def _with(life: Optional[Life]) -> str:
    call = life.reap_call if life is not None else None
    return "" if call is None or call.kind is None else f" with {call.kind}{at(call.site)}"


def actor_of(join: Join) -> str:
    thread = "" if join.tid in (None, join.pid) else f" (thread {join.tid})"
    return f"PID {join.pid}{thread}"


def lost_status(case: Case) -> Iterator[Finding]:
    """The kernel threw the status away that a library or a join counts on."""
    waited: dict[Key, Join] = {}
    for join in case.joins:
        child = case.child_of(join)
        if child is not None:
            waited[child.pid, child.start_ns] = join
    lost = [
        life
        for life in case.children
        if life.reaped_by is ReapedBy.KERNEL
        and not life.orphaned
        and ((life.pid, life.start_ns) in waited or forked_by(life.fork_stack) not in _CARELESS)
    ]
    for (where, _), lives in by_line(lost).items():
        joins = [waited[key] for life in lives if (key := (life.pid, life.start_ns)) in waited]
        evidence = [
            f"PID {life.pid} ended, and the kernel released it itself: its parent"
            f" {actor(life.forker)} ignores SIGCHLD, or has SA_NOCLDWAIT"
            for life in lives
        ]
        yield Finding(
            kind="lost status",
            severity=ERROR,
            title=f"the exit status of {len(lives)} child{'ren' * (len(lives) > 1)}"
            f"{forked(where, lives)} is lost: SIGCHLD is ignored",
            evidence=some(evidence),
            cure="Set signal.signal(signal.SIGCHLD, signal.SIG_DFL) before the first child is"
            " started: with SIG_IGN, which is inherited through exec, exitcode stays None, wait()"
            " gives 0 and os.system() gives -1",
            site=where,
            lives=lives,
            joins=joins,
        )


_CARELESS = {"os", "other"}  # who forks like that may ignore SIGCHLD so as not to wait


def wrong_process(case: Case) -> Iterator[Finding]:
    """A wait call for a child of another process: the kernel refuses it (ECHILD)."""
    groups: dict[Optional[Line], list[tuple[Join, Life]]] = {}
    for join in case.joins:
        child = case.child_of(join)
        if child is None or child.forker is None or join.returned is not None:
            continue
        if (join.kind or "").startswith(_BY_PIPE) or join.ended_ns is None:
            continue
        parents = {child.forker.pid, *(each.to.pid for each in child.reparents)}
        if join.pid not in parents:
            groups.setdefault(line_of(join.site), []).append((join, child))
    for where, waits in groups.items():
        join, child = waits[0]
        yield Finding(
            kind="wrong process",
            severity=ERROR,
            title=f"{join.kind}{at(join.site)} waits in a process whose child it is not",
            evidence=some(
                f"PID {each.pid} waited for PID {life.pid}, a child of {actor(life.forker)}"
                for each, life in waits
            ),
            cure=f"wait in the process that forked it ({actor(child.forker)}), or send it the"
            " wish to wait; a Popen or a Process is of no use in another process",
            site=where,
            lives=[life for _, life in waits],
            joins=[each for each, _ in waits],
        )


def orphans(case: Case) -> Iterator[Finding]:
    """What a parent that was killed left running."""
    groups: dict[int, list[tuple[Life, int, Life]]] = {}
    for life in case.children:
        for each in life.reparents:
            if each.kind.value == "thread" or each.while_zombie:
                continue
            parent = case.life_at(each.from_.pid, each.ns)
            if parent is None or parent.signal is None:
                continue
            end = life.exit_ns or (case.ended_ns if life.state is State.RUNNING else each.ns)
            if end - each.ns >= case.threshold_ns:
                groups.setdefault(parent.start_ns, []).append((life, end - each.ns, parent))
            break
    for left in groups.values():
        _, _, parent = left[0]
        number = signal_name(parent.signal or 0)
        lives = [life for life, _, _ in left]
        where = line_of(lives[0].fork_site)
        yield Finding(
            kind="orphan",
            severity=WARNING,
            title=f"{len(left)} child{'ren' * (len(left) > 1)}{forked(where, lives)} lived on when"
            f" {number} killed the parent, PID {parent.pid}",
            evidence=some(
                f"PID {life.pid} was given to {actor(life.reparents[0].to)} and ran"
                f" {'for ' + duration(ran) if life.exit_ns else 'on for ' + duration(ran)} more"
                for life, ran, _ in left
            ),
            cure="End the parent with SIGTERM and let it end its children, or let each child"
            " notice: wait for multiprocessing.parent_process().sentinel, or ask the kernel with"
            " prctl(PR_SET_PDEATHSIG, SIGTERM)",
            site=where,
            lives=lives,
        )
