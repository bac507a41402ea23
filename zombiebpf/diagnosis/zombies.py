# SPDX-License-Identifier: Apache-2.0
"""Find zombies that were not waited for: leak, slow reap, abandoned join, idle init."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Optional, TypeVar

from zombiebpf.diagnosis import fixes
from zombiebpf.diagnosis.finding import (
    ERROR,
    MAX_NAMED,
    NOTE,
    WARNING,
    DiagnosisContext,
    Finding,
    Tally,
    first_few,
    site_key,
)
from zombiebpf.model.join import Join
from zombiebpf.model.life import KIND_UNSEEN, Life, State
from zombiebpf.model.observation import Candidate
from zombiebpf.model.stack import Frame
from zombiebpf.model.units import NS_PER_S
from zombiebpf.wording.wording import children_of, count_of, zombies_noun

_Site = tuple[Optional[Frame], Optional[int]]  # see site_key()

Key = TypeVar("Key", bound=Hashable)
Group = TypeVar("Group")


def late_zombies(context: DiagnosisContext) -> Iterator[Finding]:
    """Find late zombies. Each one is in one finding, that of its nearest cause."""
    inits: dict[int, Tally] = {}
    abandoned: dict[_Site, tuple[Tally, array[int]]] = {}
    leaks: dict[_Site, Tally] = {}
    slow: dict[_Site, Tally] = {}
    for each in context.observation.late_zombies(context.threshold_ns):
        if each.init_pid is not None:
            _of(inits, each.init_pid, context.tally).add(each)
        elif each.join is not None and each.join_returned == "timeout":
            tally, joins = _of(abandoned, site_key(each), lambda: (context.tally(), array("q")))
            tally.add(each)
            joins.append(each.join)
        else:
            _of(leaks if _is_leak(each) else slow, site_key(each), context.tally).add(each)
    for tally in inits.values():
        yield _idle_init(context, tally)
    for (site, _), (tally, joins) in abandoned.items():
        yield _abandoned_join(context, site, tally, joins)
    for (site, _), tally in leaks.items():
        yield _leak(context, site, tally)
    for (site, _), tally in slow.items():
        yield _slow_reap(context, site, tally)


def _of(groups: dict[Key, Group], key: Key, make: Callable[[], Group]) -> Group:
    found = groups.get(key)
    if found is None:
        found = groups[key] = make()
    return found


def _is_leak(each: Candidate) -> bool:
    """Return whether nobody waited for it until its parent's program ended."""
    if each.state is State.ZOMBIE or each.given_as_zombie:
        return True
    if each.kind != "atexit" or each.reaper_pid is None:
        return False
    if each.zombie_ns is None:
        return each.already_zombie
    return each.exit_join_ns is None or each.zombie_ns < each.exit_join_ns


def _leak(context: DiagnosisContext, site: Optional[Frame], tally: Tally) -> Finding:
    count, still = len(tally), tally.still
    zombies = zombies_noun(count)
    until = "until the end"
    if still == count:
        until += " of the observation"
    elif not still:
        until = f"until {'its' if count == 1 else 'their'} parent's end"
    stayed = f"stayed {zombies} {until}"
    if tally.already == count:
        least = context.words.duration(tally.shortest_ns)
        stayed = f"{'was' if count == 1 else 'were'} {zombies} since before we looked,"
        stayed += f" for at least {least}{', still' if still == count else ''}"
    return Finding(
        kind="leak",
        severity=ERROR if still else WARNING,
        title=f"{_children(context, site, tally)} {stayed}",
        evidence=_evidence(context, tally),
        fix=fixes.nobody_waits(context.observation.life(tally.first.n), site, context.words),
        site=site,
        processes=tally.numbers,
        zombies=tally,
    )


def _slow_reap(context: DiagnosisContext, site: Optional[Frame], tally: Tally) -> Finding:
    longest, count = tally.longest, len(tally)
    by = "" if longest.kind == KIND_UNSEEN else f" by {longest.kind}"
    bound = " up to" if count > 1 else ""
    if tally.already:
        bound = " at least" if count == 1 else " sometimes at least"
    return Finding(
        kind="slow reap",
        severity=NOTE if longest.kind in fixes.NOT_YOURS else WARNING,
        title=f"{_children(context, site, tally)} waited as {zombies_noun(count)}"
        f" for{bound} {context.words.duration(longest.duration_ns)} to be reaped{by}",
        evidence=_evidence(context, tally),
        fix=fixes.late(context.observation.life(longest.n), site, context.words),
        site=site,
        processes=tally.numbers,
        zombies=tally,
    )


def _abandoned_join(
    context: DiagnosisContext, site: Optional[Frame], tally: Tally, numbers: Sequence[int]
) -> Finding:
    words = context.words
    joins = list(context.observation.some_joins(numbers[:MAX_NAMED]))
    first = joins[0]
    name = (first.kind or "join").replace("(timeout)", "")
    evidence = []
    for life, join in zip(context.lives(tally.numbers), joins):
        evidence.append(
            f"PID {life.pid}: {name}{words.site(join.site)} gave up"
            f"{_timeout(context, ' after', join)}, {_ended(context, life, join)};"
            f" {_sentence(context, life)}"
        )
    return Finding(
        kind="abandoned join",
        severity=WARNING,
        title=f"{name} ran out of its time{_timeout(context, ' of', first)} for"
        f" {_children(context, site, tally)}, and was not repeated",
        evidence=first_few(evidence, len(tally)),
        fix=f"after the {name} with a timeout{words.at_line(first.site)}"
        " look whether the child has ended, and wait again, without a timeout,"
        " when it is due or has been told to end (terminate())",
        site=first.site or site,
        processes=tally.numbers,
        joins=numbers,
        zombies=tally,
    )


def _ended(context: DiagnosisContext, life: Life, join: Join) -> str:
    """Return when a zombie had ended, by the end of the join that gave up."""
    if life.already_zombie:
        return "the child had ended before"
    if join.ended_ns is None or life.zombie_ns is None:
        return "the child ended"
    if life.zombie_ns <= join.ended_ns:  # its pipe was still open, in a child of its own
        return "the child had ended before"
    return f"the child ended {context.words.duration(life.zombie_ns - join.ended_ns)} later"


def _timeout(context: DiagnosisContext, preposition: str, join: Join) -> str:
    if join.timeout_s is None:
        return ""
    return f"{preposition} {context.words.duration(round(join.timeout_s * NS_PER_S))}"


def _idle_init(context: DiagnosisContext, tally: Tally) -> Finding:
    count = len(tally)
    if tally.still:
        did = f"left {count_of(count, 'adopted zombie')} unreaped"
    else:
        did = f"reaped {count_of(count, 'adopted child', 'adopted children')} late"
    init = context.actor(context.observation.life(tally.first.n).reparents[-1].to)
    return Finding(
        kind="init does not wait",
        severity=ERROR if tally.still else WARNING,
        title=f"{init}, the init of its PID namespace, {did}",
        evidence=_evidence(context, tally),
        fix="Run an init that waits as PID 1: `docker run --init`, tini, dumb-init or systemd;"
        " or let PID 1 call waitpid(-1, WNOHANG) in a loop on SIGCHLD",
        site=None,
        processes=tally.numbers,
        zombies=tally,
    )


def _children(context: DiagnosisContext, site: Optional[Frame], tally: Tally) -> str:
    """Return `2 of 120 children forked at app.py:42`."""
    count = len(tally)
    total = context.forked_at(site) if site is not None else 0
    some = f"{count} of {total} children" if total > count else children_of(count)
    return some + context.origin_of(site, tally.parents)


def _evidence(context: DiagnosisContext, tally: Tally) -> list[str]:
    """Return what happened to the zombies that lasted longest."""
    longest = context.lives(tally.examples)
    return first_few((_sentence(context, life) for life in longest), len(tally))


def _sentence(context: DiagnosisContext, life: Life) -> str:
    """Return what happened to one zombie."""
    words = context.words
    duration = words.duration(context.zombie_ns(life))
    bound = "" if life.zombie_exact and life.reap_exact else "about "
    if life.already_zombie:
        bound = "at least "
    if life.state is State.ZOMBIE:
        text = f"PID {life.pid} is a zombie for {bound}{duration}, still"
        if life.already_zombie:
            age = words.duration(context.age_ns(life))
            text += f" (since before we looked; started {age} ago)"
    else:
        site = words.site(life.reap_call.site) if life.reap_call is not None else ""
        text = f"PID {life.pid} was a zombie for {bound}{duration}, then reaped by"
        text += f" {context.actor(life.reaper)} ({life.reap_kind}){site}"
    return text + (f"; {doing}" if (doing := words.meanwhile(life)) else "")
