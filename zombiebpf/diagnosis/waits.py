# SPDX-License-Identifier: Apache-2.0
"""Find problems of waits and parents: stolen wait, lost status, wrong process, orphans."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from zombiebpf.diagnosis.finding import (
    ERROR,
    WARNING,
    DiagnosisContext,
    Finding,
    by_fork_site,
    first_few,
    forking_library,
)
from zombiebpf.model.join import Join
from zombiebpf.model.life import Actor, Key, Life, ReapedBy, State, signal_name
from zombiebpf.model.stack import Frame
from zombiebpf.wording.wording import children_of

# Under a fork server these joins wait for another process's child, and rightly so.
_FORKSERVER_JOINS = ("Process.join", "atexit", "Pool.", "executor", "loky", "billiard")

# Programs that fork without a library may ignore SIGCHLD on purpose, so as not to wait.
_MAY_IGNORE_SIGCHLD = {"os", "other"}


def stolen_waits(context: DiagnosisContext) -> Iterator[Finding]:
    """Find joins for a child that another call had reaped, by the line of that call."""
    words = context.words
    groups: dict[tuple[Optional[Frame], Optional[str]], list[tuple[Join, Optional[Life]]]] = {}
    for join in context.joins:
        child = context.child_of(join)
        if join.returned != "stolen" or (child and child.reaped_by is ReapedBy.KERNEL):
            continue
        thief = child.reap_call.site if child and child.reap_call else None
        groups.setdefault((thief, join.kind), []).append((join, child))
    for (thief, kind), stolen in groups.items():
        join, child = stolen[0]
        by = context.actor(join.by)
        call = child.reap_call.kind if child and child.reap_call else None
        evidence = []
        for each, life in stolen:
            joiner = context.actor(Actor(each.pid or 0, each.tid, None))
            reap = life.reap_call if life is not None else None
            how = f" with {reap.kind}{words.site(reap.site)}" if reap and reap.kind else ""
            evidence.append(
                f"{each.kind} of {joiner}{words.site(each.site)} waited for"
                f" PID {each.child_pid}, which {context.actor(each.by)} had reaped{how}"
            )
        count = f" {len(stolen)} times" if len(stolen) > 1 else ""
        yield Finding(
            kind="stolen wait",
            severity=ERROR,
            title=f"{call or 'a wait call'}{words.at_line(thief)} in {by} took the status that"
            f" {kind} waited for{count}",
            evidence=first_few(evidence),
            fix="Wait for your own children only: replace the wait for any child (os.wait(),"
            f" os.waitpid(-1, ...)){words.at_line(thief)} by"
            " os.waitpid(pid, ...) for each PID that this code has forked itself",
            site=thief or join.site,
            lives=[life for _, life in stolen if life is not None],
            joins=[each for each, _ in stolen],
        )


def lost_status(context: DiagnosisContext) -> Iterator[Finding]:
    """Find children whose status a library or a join needs, but the kernel discarded."""
    joined: dict[Key, Join] = {}
    for join in context.joins:
        child = context.child_of(join)
        if child is not None:
            joined[child.key] = join
    lost = [
        life
        for life in context.children
        if life.reaped_by is ReapedBy.KERNEL
        and not life.orphaned
        and (life.key in joined or forking_library(life.fork_stack) not in _MAY_IGNORE_SIGCHLD)
    ]
    for site, lives in by_fork_site(lost):
        yield Finding(
            kind="lost status",
            severity=ERROR,
            title=f"the exit status of {children_of(len(lives))}"
            f"{context.origin_of(site, lives)} is lost: SIGCHLD is ignored",
            evidence=first_few(
                f"PID {life.pid} ended, and the kernel released it itself: its parent"
                f" {context.actor(life.forker)} ignores SIGCHLD, or has SA_NOCLDWAIT"
                for life in lives
            ),
            fix="Set signal.signal(signal.SIGCHLD, signal.SIG_DFL) before the first child is"
            " started: with SIG_IGN, which is inherited through exec, exitcode stays None, wait()"
            " gives 0 and os.system() gives -1",
            site=site,
            lives=lives,
            joins=[joined[life.key] for life in lives if life.key in joined],
        )


def wrong_process(context: DiagnosisContext) -> Iterator[Finding]:
    """Find wait calls for a child of another process, which the kernel refuses (ECHILD)."""
    groups: dict[Optional[Frame], list[tuple[Join, Life]]] = {}
    for join in context.joins:
        child = context.child_of(join)
        if child is None or child.forker is None or join.returned is not None:
            continue
        if (join.kind or "").startswith(_FORKSERVER_JOINS) or join.ended_ns is None:
            continue
        parents = {child.forker.pid, *(each.to.pid for each in child.reparents)}
        if join.pid not in parents:
            groups.setdefault(join.site, []).append((join, child))
    for site, waits in groups.items():
        join, child = waits[0]
        yield Finding(
            kind="wrong process",
            severity=ERROR,
            title=f"{join.kind}{context.words.site(join.site)} waits in a process whose child it is"
            " not",
            evidence=first_few(
                f"PID {each.pid} waited for PID {life.pid}, a child of {context.actor(life.forker)}"
                for each, life in waits
            ),
            fix=f"wait in the process that forked it ({context.actor(child.forker)}), or send it"
            " the wish to wait; a Popen or a Process is of no use in another process",
            site=site,
            lives=[life for _, life in waits],
            joins=[each for each, _ in waits],
        )


def orphans(context: DiagnosisContext) -> Iterator[Finding]:
    """Find children that ran on for `threshold_ns` after a signal had killed their parent."""
    groups: dict[int, list[tuple[Life, int, Actor]]] = {}
    parents: dict[int, Life] = {}
    for life in context.children:
        for each in life.reparents:
            if not each.orphaning or each.while_zombie:
                continue
            parent = context.life_at(each.from_.pid, each.ns)
            if parent is None or parent.signal is None:
                continue
            end = life.exit_ns or (context.ended_ns if life.state is State.RUNNING else each.ns)
            if end - each.ns >= context.threshold_ns:
                parents[parent.start_ns] = parent
                groups.setdefault(parent.start_ns, []).append((life, end - each.ns, each.to))
            break
    for start_ns, orphaned in groups.items():
        parent = parents[start_ns]
        signal = signal_name(parent.signal or 0)
        lives = [life for life, _, _ in orphaned]
        site = lives[0].fork_site
        yield Finding(
            kind="orphan",
            severity=WARNING,
            title=f"{children_of(len(lives))}{context.origin_of(site, lives)} lived on when"
            f" {signal} killed the parent, PID {parent.pid}",
            evidence=first_few(
                f"PID {life.pid} was given to {context.actor(adopter)} and ran"
                f"{'' if life.exit_ns else ' on'} for {context.words.duration(ran_ns)} more"
                for life, ran_ns, adopter in orphaned
            ),
            fix="End the parent with SIGTERM and let it end its children, or let each child"
            " notice: wait for multiprocessing.parent_process().sentinel, or ask the kernel with"
            " prctl(PR_SET_PDEATHSIG, SIGTERM)",
            site=site,
            lives=lives,
        )
