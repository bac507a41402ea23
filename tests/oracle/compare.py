# SPDX-License-Identifier: Apache-2.0
"""zombiebpf's JSON document against the oracles: what of it do they not confirm?

Lives are paired by PID and nearest fork time, for a PID may be used again. Instants that both saw
at the same hook may differ by TOLERANCE_NS, for the handlers of a hook run one after the other: or
by more, if the machine was held up (an interrupt, the hypervisor) just there. That is not taken on
trust: zombiebpf's instant must then lie between those of two ftrace instances, of which one was
attached before its handlers and one after.

Where zombiebpf hooks functions of the kernel, it stands at their entry, before the tracepoints
that ftrace has: then it may be earlier, but not before what the kernel did before that call. Only
wake_up_new_task() comes after a fork's: then it may be later, but not after that fork's return.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from statistics import median
from typing import Any, Optional, Protocol

from tests.oracle.bpftrace import Death
from tests.oracle.ftrace import Brackets
from tests.oracle.ftrace_lives import INIT, Life

TOLERANCE_NS = 50_000
SAME_FORK_NS = 1_000_000_000  # a PID is not used again so soon
Process = dict[str, Any]  # one of the document's "processes"


class HasPid(Protocol):
    """A life of whichever oracle."""

    pid: int


class Comparison:
    """Counts what agrees, lists what does not (`unexplained`)."""

    def __init__(self, brackets: Optional[Brackets] = None) -> None:
        self.unexplained: list[str] = []
        self.agreed: dict[str, int] = defaultdict(int)
        self.until_ns, self.claimed = brackets or Brackets({}, set())
        self.earlier: set[str] = set()  # facts that zombiebpf takes from a function's entry
        self.fork_after = False
        self.fork_ended_ns: dict[int, int] = {}  # id(life) -> when the forker had its PID
        self.held_up: dict[str, int] = defaultdict(int)
        self.bracketed: dict[str, int] = defaultdict(int)
        self.differences_ns: dict[str, list[int]] = defaultdict(list)

    def same(self, fact: str, life: HasPid, ours: object, theirs: object) -> None:
        """`ours` is zombiebpf's, `theirs` the oracle's."""
        if ours == theirs:
            self.agreed[fact] += 1
        else:
            self.unexplained.append(
                f"pid {life.pid}: {fact}: zombiebpf {ours}, oracle {theirs}; {life}"
            )

    def near(
        self,
        fact: str,
        life: Life,
        ours: Optional[int],
        theirs: Optional[int],
        within: Optional[tuple[int, int]] = None,
    ) -> None:
        """Two instants or intervals in nanoseconds, or None for what did not happen.

        `within`: between what the oracle's first and last look prove it to be.
        """
        if ours is None or theirs is None:
            self.same(fact, life, ours, theirs)
            return
        self.differences_ns[fact].append(ours - theirs)
        is_within = within is not None and within[0] <= ours <= within[1]
        self.bracketed[fact] += is_within
        if abs(ours - theirs) <= TOLERANCE_NS:
            self.agreed[fact] += 1
        elif is_within:
            self.held_up[fact] += 1
        else:
            self.unexplained.append(
                f"pid {life.pid}: {fact} differs by {(ours - theirs) / 1000:.1f} us, "
                f"not held up ({within}): zombiebpf {ours}, oracle {theirs}; {life}"
            )

    def instant(
        self,
        fact: str,
        life: Life,
        ours: Optional[int],
        theirs: Optional[int],
        not_before: Optional[int] = None,
        not_after: Optional[int] = None,
    ) -> None:
        """One instant, seen by two handlers of the same hook; `not_before` where ours is an earlier
        one, `not_after` where it is a later one."""
        within = None
        if theirs is not None and theirs in self.until_ns:
            low = not_before if not_before is not None and fact in self.earlier else theirs
            within = low, self.until_ns[theirs] if not_after is None else not_after
        self.near(fact, life, ours, theirs, within)

    def table(self) -> str:
        """What agreed, and how far the instants lay apart."""
        rows = [
            f"{'fact':<22}{'within 50 us':>13}{'held up':>9}{'bracketed':>11}"
            f"{'median us':>11}{'max us':>9}"
        ]
        for fact, count in self.agreed.items():
            row = f"{fact:<22}{count:>13}"
            apart = [abs(ns) for ns in self.differences_ns.get(fact, ())]
            if apart:
                row += f"{self.held_up[fact]:>9}{self.bracketed[fact]:>11}"
                row += f"{median(apart) / 1000:>11.2f}{max(apart) / 1000:>9.2f}"
            rows.append(row)
        return "\n".join(rows)


def compare(
    document: dict[str, Any],
    lives: list[Life],
    deaths: list[Death],
    book: dict[str, Any],
    brackets: Brackets,
) -> Comparison:
    """All of it: the document, ftrace's lives, bpftrace's deaths, the workload's book."""
    result = Comparison(brackets)
    hooks = document["meta"]["hooks"]
    if "release_task" in hooks["reap"]:
        result.earlier |= {"reap", "zombie interval"}
    if "proc_exit_connector" in hooks["zombie"]:
        result.earlier.add("zombie")
    if "finalize_exec" in hooks["exec"]:
        result.earlier.add("exec")
    if "taskstats_exit" in hooks["exit"]:
        result.earlier.add("exit")
    result.fork_after = "wake_up_new_task" in hooks["fork"]
    lost = document["meta"]["lost_events"]
    if lost:
        result.unexplained.append(f"zombiebpf lost {lost} events")
    _check_book(result, lives, book)
    statuses = _statuses(result, lives, deaths)
    _check_waits(result, lives, statuses, book)
    for life, process in _pairs(result, document["processes"], lives):
        is_root = life.pid == book["root"] and life is lives[0]
        _check_birth(result, life, process, is_root)
        _check_death(result, life, process, statuses.get(id(life)))
        _check_parents(result, life, process)
    return result


def _pairs(
    result: Comparison, processes: Iterable[Process], lives: list[Life]
) -> list[tuple[Life, Process]]:
    """Each life with the document's; whatever is in one only, or twice, is unexplained."""
    by_pid: dict[int, list[Process]] = defaultdict(list)
    for process in processes:
        by_pid[process["pid"]].append(process)
    pairs = []
    for life in lives:

        def distance(process: Process, life: Life = life) -> int:
            fork_ns = process["fork_ns"]
            return 0 if fork_ns is None else abs(fork_ns - life.fork_ns)

        candidates = by_pid[life.pid]
        nearest = min(candidates, key=distance, default=None)
        if nearest is None or distance(nearest) > SAME_FORK_NS:
            result.unexplained.append(f"pid {life.pid}: zombiebpf has not seen {life}")
            continue
        candidates.remove(nearest)
        result.agreed["life"] += 1
        pairs.append((life, nearest))
    for rest in by_pid.values():
        for process in rest:
            result.unexplained.append(
                f"pid {process['pid']}: only zombiebpf has it, or has it twice: {process}"
            )
    return pairs


def _by_pid(lives: list[Life]) -> dict[int, list[Life]]:
    found: dict[int, list[Life]] = defaultdict(list)
    for life in lives:
        found[life.pid].append(life)
    return found


def _check_book(result: Comparison, lives: list[Life], book: dict[str, Any]) -> None:
    """The oracle itself: as many lives as forks, each by the thread that says so."""
    expected = len(book["forks"]) + 1
    if len(lives) != expected:
        result.unexplained.append(f"the workload counted {expected} processes, ftrace {len(lives)}")
    by_pid = _by_pid(lives)
    for fork in book["forks"]:
        matching = [
            life
            for life in by_pid.get(fork["child"], ())
            if fork["began_ns"] <= life.fork_ns <= fork["ended_ns"]
        ]
        if [(life.forker_pid, life.forker_tid) for life in matching] == [
            (fork["pid"], fork["tid"])
        ]:
            result.agreed["fork (workload)"] += 1
            result.fork_ended_ns[id(matching[0])] = fork["ended_ns"]
        else:
            result.unexplained.append(f"fork {fork} is not ftrace's: {matching}")


def _statuses(result: Comparison, lives: list[Life], deaths: list[Death]) -> dict[int, int]:
    """id(life) -> the wait status bpftrace read.

    Where the kernel does not say which thread is the last (before 6.16) two may both find no other
    alive: ftrace took the later one then, but the process is dead with the first.
    """
    by_pid: dict[int, list[Death]] = defaultdict(list)
    for death in deaths:
        by_pid[death.pid].append(death)
    statuses = {}
    for life in lives:
        if life.exit_ns is None:
            result.unexplained.append(f"pid {life.pid}: ftrace has not seen its end: {life}")
            continue
        exit_ns = life.exit_ns
        ends = [each for each in by_pid[life.pid] if abs(each.ns - exit_ns) < SAME_FORK_NS]
        near = {each.status for each in ends}
        if len(near) == 1:
            statuses[id(life)] = near.pop()
        else:
            result.unexplained.append(f"pid {life.pid}: bpftrace saw statuses {near} of {life}")
        if len(ends) > 1:
            first = min(each.ns for each in ends)
            life.exit_ns = min(life.exit_tids.values(), key=lambda ns: abs(ns - first))
    return statuses


def _check_waits(
    result: Comparison, lives: list[Life], statuses: dict[int, int], book: dict[str, Any]
) -> None:
    """The oracle itself: what waits gave the workload is what ftrace and bpftrace saw."""
    by_pid = _by_pid(lives)
    for wait in book["waits"]:
        matching = [
            life
            for life in by_pid.get(wait["child"], ())
            if life.reap_ns is not None and wait["began_ns"] <= life.reap_ns <= wait["ended_ns"]
        ]
        seen = [(each.reaper_pid, each.reaper_tid, statuses.get(id(each))) for each in matching]
        if seen == [(wait["pid"], wait["tid"], wait["status"])]:
            result.agreed["wait (workload)"] += 1
        else:
            result.unexplained.append(f"wait {wait} is not the oracles': {matching} {seen}")


def _check_birth(result: Comparison, life: Life, process: Process, is_root: bool) -> None:
    forker = process["forker"] or {}
    result.same("forker", life, (forker.get("pid"), forker.get("tid")), (
        life.forker_pid, life.forker_tid))  # fmt: skip
    execs = [each["ns"] for each in process["exec"]]
    result.same("number of execs", life, len(execs), len(life.execs))
    if is_root:
        return  # these instants were before the later ftrace instance: no telling a hold-up
    not_after = result.fork_ended_ns.get(id(life)) if result.fork_after else None
    result.instant("fork", life, process["fork_ns"], life.fork_ns, None, not_after)
    before = life.fork_ns
    for ours, theirs in zip(execs, life.execs):
        result.instant("exec", life, ours, theirs, before)
        before = theirs


def _check_death(result: Comparison, life: Life, process: Process, status: Optional[int]) -> None:
    if status is not None:
        killed = os.WIFSIGNALED(status)
        theirs = (None, os.WTERMSIG(status)) if killed else (os.WEXITSTATUS(status), None)
        result.same("exit status", life, (process["exit_status"], process["signal"]), theirs)
    since = max((life.fork_ns, *life.execs))
    result.instant("exit", life, process["exit_ns"], life.exit_ns, since)
    zombie_ns = life.zombie_ns
    if zombie_ns in result.claimed and process["zombie_ns"] is None:
        # Silent (exit_signal 0), and its reaper was at it while the hook ran: a wait claims the
        # zombie (EXIT_DEAD) a little before it releases it. To have missed it is right as well.
        result.agreed["zombie claimed"] += 1
        zombie_ns = None
    late = process["zombie_exact"] is False
    if late and "zombie" in result.earlier and zombie_ns is None:
        result.agreed["zombie, then claimed"] += 1  # before its last switch, where ftrace looks
        zombie_ns = process["zombie_ns"]
    else:
        result.instant(
            "zombie", life, process["zombie_ns"], zombie_ns, life.exit_ns if late else None
        )
    if life.reap_ns is None:
        if process["reap_ns"] is None and life.freed_over == INIT:
            # Where init is hidden from BPF, what interrupts it is hidden too; not from ftrace.
            result.agreed["freed unseen"] += 1
            return
        result.same("reaper unseen", life, process["reaped_by"], "unseen")
        result.instant("freed", life, process["reap_ns"], life.freed_ns)
        return
    reaper = process["reaper"] or {}
    theirs_reaper = (life.reaper_pid, life.reaper_tid)
    if life.autoreaped:  # released by a dying task's own exit: nobody reaped it
        theirs_reaper = (None, None)
    result.same("reaper", life, (reaper.get("pid"), reaper.get("tid")), theirs_reaper)
    if process["reap_exact"] is False and life.autoreaped:
        # released with its last thread by one call, reported after that call
        result.same("late, not early", life, process["reap_ns"] >= life.reap_ns, True)
        return
    died_ns = zombie_ns if zombie_ns is not None else life.exit_ns
    result.instant("reap", life, process["reap_ns"], life.reap_ns, died_ns)
    interval = within = None
    if zombie_ns is not None:
        interval = life.reap_ns - zombie_ns
        until = result.until_ns
        if zombie_ns in until and life.reap_ns in until:
            shortest = life.reap_ns - until[zombie_ns]
            within = (
                0 if "zombie interval" in result.earlier else shortest,
                until[life.reap_ns] - zombie_ns,
            )
    result.near("zombie interval", life, process["zombie_interval_ns"], interval, within)


def _check_parents(result: Comparison, life: Life, process: Process) -> None:
    """The adopter, how the reaper relates to it, and an unbroken chain from the birth parent."""
    orphanings = [each for each in process["reparents"] if each["kind"] != "thread"]
    adopter = orphanings[-1]["to"]["pid"] if orphanings else None
    fact = "adopter" if life.seen_parent is not None else "adopter (modelled)"
    result.same(fact, life, adopter, life.adopter)
    chain = [life.birth_parent]
    for each in orphanings:
        result.same("adoption chain", life, each["from"]["pid"], chain[-1])
        chain.append(each["to"]["pid"])
    if life.reap_ns is not None:
        expected = "parent" if life.adopter is None else "adopter"
        expected = "kernel" if life.autoreaped else expected
        result.same("reaped by", life, process["reaped_by"], expected)
