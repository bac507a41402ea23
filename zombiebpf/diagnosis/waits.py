# SPDX-License-Identifier: Apache-2.0
"""Find problems of waits and parents: stolen wait, lost status, wrong process, orphans."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Optional

from zombiebpf.diagnosis.finding import (
    ERROR,
    MAX_NAMED,
    WARNING,
    DiagnosisContext,
    Finding,
    Parents,
    first_few,
    site_key,
)
from zombiebpf.model.join import Join
from zombiebpf.model.life import Actor, Life, ReapedBy, State, signal_name
from zombiebpf.model.observation import Orphan
from zombiebpf.model.stack import Frame
from zombiebpf.wording.wording import children_of

# Under a fork server these joins wait for another process's child, and rightly so.
_FORKSERVER_JOINS = ("Process.join", "atexit", "Pool.", "executor", "loky", "billiard")

# Programs that fork without a library may ignore SIGCHLD on purpose, so as not to wait.
_MAY_IGNORE_SIGCHLD = {"os", "other"}


def stolen_waits(context: DiagnosisContext) -> Iterator[Finding]:
    """Find joins for a child that another call had reaped, by the line of that call."""
    words = context.words
    groups: dict[tuple[Optional[Frame], Optional[str]], _Pairs] = {}
    for each in context.observation.stolen():
        if each.reaped_by is not ReapedBy.KERNEL:
            groups.setdefault((each.reap_site, each.kind), _Pairs()).add(each.join, each.child)
    for (thief, kind), pairs in groups.items():
        stolen = pairs.examples(context)
        join, child = stolen[0]
        by = context.actor(join.by)
        call = child.reap_call.kind if child and child.reap_call else None
        evidence = []
        for each_join, life in stolen:
            joiner = context.actor(Actor(each_join.pid or 0, each_join.tid, None))
            reap = life.reap_call if life is not None else None
            how = f" with {reap.kind}{words.site(reap.site)}" if reap and reap.kind else ""
            evidence.append(
                f"{each_join.kind} of {joiner}{words.site(each_join.site)} waited for"
                f" PID {each_join.child_pid}, which {context.actor(each_join.by)} had reaped{how}"
            )
        count = len(pairs.joins)
        times = f" {count} times" if count > 1 else ""
        yield Finding(
            kind="stolen wait",
            severity=ERROR,
            title=f"{call or 'a wait call'}{words.at_line(thief)} in {by} took the status that"
            f" {kind} waited for{times}",
            evidence=first_few(evidence, count),
            fix="Wait for your own children only: replace the wait for any child (os.wait(),"
            f" os.waitpid(-1, ...)){words.at_line(thief)} by"
            " os.waitpid(pid, ...) for each PID that this code has forked itself",
            site=thief or join.site,
            processes=pairs.known,
            joins=pairs.joins,
        )


def lost_status(context: DiagnosisContext) -> Iterator[Finding]:
    """Find children whose status a library or a join needs, but the kernel discarded."""
    groups: dict[tuple[Optional[Frame], Optional[int]], tuple[_Pairs, Parents]] = {}
    for each, join in context.observation.discarded():
        if join is None and context.library(each.stack) in _MAY_IGNORE_SIGCHLD:
            continue
        pairs, parents = groups.setdefault(site_key(each), (_Pairs(), Parents()))
        pairs.add(join, each.n)
        parents.add(each.above)
    for (site, _), (pairs, parents) in groups.items():
        count = len(pairs.known)
        yield Finding(
            kind="lost status",
            severity=ERROR,
            title=f"the exit status of {children_of(count)}"
            f"{context.origin_of(site, parents)} is lost: SIGCHLD is ignored",
            evidence=first_few(
                (
                    f"PID {life.pid} ended, and the kernel released it itself: its parent"
                    f" {context.actor(life.forker)} ignores SIGCHLD, or has SA_NOCLDWAIT"
                    for life in context.lives(pairs.known)
                ),
                count,
            ),
            fix="Set signal.signal(signal.SIGCHLD, signal.SIG_DFL) before the first child is"
            " started: with SIG_IGN, which is inherited through exec, exitcode stays None, wait()"
            " gives 0 and os.system() gives -1",
            site=site,
            processes=pairs.known,
            joins=pairs.joins,
        )


def wrong_process(context: DiagnosisContext) -> Iterator[Finding]:
    """Find wait calls for a child of another process, which the kernel refuses (ECHILD)."""
    groups: dict[Optional[Frame], _Pairs] = {}
    for each in context.observation.refused():
        if not (each.kind or "").startswith(_FORKSERVER_JOINS):
            groups.setdefault(each.site, _Pairs()).add(each.join, each.child)
    for site, pairs in groups.items():
        waits = [(join, life) for join, life in pairs.examples(context) if life is not None]
        join, child = waits[0]
        yield Finding(
            kind="wrong process",
            severity=ERROR,
            title=f"{join.kind}{context.words.site(join.site)} waits in a process whose child it is"
            " not",
            evidence=first_few(
                (
                    f"PID {each_join.pid} waited for PID {life.pid}, a child of"
                    f" {context.actor(life.forker)}"
                    for each_join, life in waits
                ),
                len(pairs.joins),
            ),
            fix=f"wait in the process that forked it ({context.actor(child.forker)}), or send it"
            " the wish to wait; a Popen or a Process is of no use in another process",
            site=site,
            processes=pairs.known,
            joins=pairs.joins,
        )


class _Pairs:
    """Joins with the children that they were for, by their numbers."""

    def __init__(self) -> None:
        self.joins = array("q")
        self.known = array("q")  # the children that are known
        self._first: list[tuple[Optional[int], Optional[int]]] = []

    def add(self, join: Optional[int], child: Optional[int]) -> None:
        """Take a join and its child."""
        if join is not None:
            self.joins.append(join)
        if child is not None:
            self.known.append(child)
        if len(self._first) < MAX_NAMED:
            self._first.append((join, child))

    def examples(self, context: DiagnosisContext) -> list[tuple[Join, Optional[Life]]]:
        """Return the first few."""
        observation, found = context.observation, []
        for number, child in self._first:
            if number is not None:
                (join,) = observation.some_joins([number])
                found.append((join, None if child is None else observation.life(child)))
        return found


class _Orphans:
    """The children that one killed parent left."""

    def __init__(self, first: Orphan) -> None:
        self.first = first
        self.numbers = array("q")
        self.parents = Parents()
        self.examples: list[tuple[Orphan, int]] = []  # with how long they ran on

    def add(self, each: Orphan, ran_ns: int) -> None:
        """Take a child that ran on."""
        self.numbers.append(each.n)
        self.parents.add(each.above)
        if len(self.examples) < MAX_NAMED:
            self.examples.append((each, ran_ns))


def orphans(context: DiagnosisContext) -> Iterator[Finding]:
    """Find children that ran on for `threshold_ns` after a signal had killed their parent."""
    groups: dict[int, _Orphans] = {}
    for each in context.observation.orphans():
        end = each.exit_ns or (context.ended_ns if each.state is State.RUNNING else each.ns)
        if end - each.ns >= context.threshold_ns:
            group = groups.setdefault(each.parent_start_ns, _Orphans(each))
            group.add(each, end - each.ns)
    for group in groups.values():
        first = group.first
        count = len(group.numbers)
        lives = context.lives(group.numbers)
        yield Finding(
            kind="orphan",
            severity=WARNING,
            title=f"{children_of(count)}{context.origin_of(first.site, group.parents)} lived on"
            f" when {signal_name(first.parent_signal)} killed the parent, PID {first.parent_pid}",
            evidence=first_few(
                (
                    f"PID {life.pid} was given to {context.actor(each.adopter)} and ran"
                    f"{'' if life.exit_ns else ' on'} for {context.words.duration(ran_ns)} more"
                    for life, (each, ran_ns) in zip(lives, group.examples)
                ),
                count,
            ),
            fix="End the parent with SIGTERM and let it end its children, or let each child"
            " notice: wait for multiprocessing.parent_process().sentinel, or ask the kernel with"
            " prctl(PR_SET_PDEATHSIG, SIGTERM)",
            site=first.site,
            processes=group.numbers,
        )
