# SPDX-License-Identifier: Apache-2.0
"""Find zombies that were not waited for: leak, slow reap, abandoned join, idle init."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from zombiebpf.diagnosis import fixes
from zombiebpf.diagnosis.finding import (
    ERROR,
    NOTE,
    WARNING,
    DiagnosisContext,
    Finding,
    by_fork_site,
    first_few,
)
from zombiebpf.model.join import Join
from zombiebpf.model.life import KIND_UNSEEN, AdopterKind, Key, Life, State
from zombiebpf.model.stack import Frame
from zombiebpf.model.units import NS_PER_S
from zombiebpf.wording.wording import children_of, count_of, zombies_noun


def late_zombies(context: DiagnosisContext) -> Iterator[Finding]:
    """Find late zombies. Each one is in one finding, that of its nearest cause."""
    late = [life for life in context.children if context.is_late(life)]
    yield from _idle_init(context, [life for life in late if _is_inits(life)])
    late = [life for life in late if not _is_inits(life)]
    abandoned = _abandoned(context, late)
    for site, lives in by_fork_site(life for life in late if life.key in abandoned):
        yield _abandoned_join(context, site, lives, [abandoned[life.key] for life in lives])
    late = [life for life in late if life.key not in abandoned]
    exits = _exit_joins(context)
    for site, lives in by_fork_site(life for life in late if _is_leak(life, exits)):
        yield _leak(context, site, lives)
    for site, lives in by_fork_site(life for life in late if not _is_leak(life, exits)):
        yield _slow_reap(context, site, lives)


def _is_inits(life: Life) -> bool:
    """Return whether the init of its PID namespace adopted it and should have waited for it."""
    if not life.reparents or life.reparents[-1].kind is not AdopterKind.INIT:
        return False
    last = life.reparents[-1]
    return not last.while_zombie or (life.zombie_ns is not None and last.ns <= life.zombie_ns)


def _exit_joins(context: DiagnosisContext) -> dict[Optional[int], int]:
    """Return when the exit handler of each process, by PID, began to join."""
    began: dict[Optional[int], int] = {}
    for join in context.joins:
        if join.kind == "atexit" and join.began_ns is not None:
            began[join.pid] = min(join.began_ns, began.get(join.pid, join.began_ns))
    return began


def _is_leak(life: Life, exits: dict[Optional[int], int]) -> bool:
    """Return whether nobody waited for it until its parent's program ended."""
    if life.state is State.ZOMBIE or any(each.while_zombie for each in life.reparents):
        return True
    if life.reap_kind != "atexit" or life.reaper is None:
        return False
    if life.zombie_ns is None:
        return life.already_zombie
    began = exits.get(life.reaper.pid)
    return began is None or life.zombie_ns < began


def _leak(context: DiagnosisContext, site: Optional[Frame], lives: Sequence[Life]) -> Finding:
    still = [life for life in lives if life.state is State.ZOMBIE]
    zombies = zombies_noun(len(lives))
    until = "until the end"
    if len(still) == len(lives):
        until += " of the observation"
    elif not still:
        until = f"until {'its' if len(lives) == 1 else 'their'} parent's end"
    stayed = f"stayed {zombies} {until}"
    if all(life.already_zombie for life in lives):
        least = context.words.duration(min(map(context.zombie_ns, lives)))
        stayed = f"{'was' if len(lives) == 1 else 'were'} {zombies} since before we looked,"
        stayed += f" for at least {least}{', still' if len(still) == len(lives) else ''}"
    return Finding(
        kind="leak",
        severity=ERROR if still else WARNING,
        title=f"{_children(context, site, lives)} {stayed}",
        evidence=_evidence(context, lives),
        fix=fixes.nobody_waits(lives[0], site, context.words),
        site=site,
        lives=lives,
    )


def _slow_reap(context: DiagnosisContext, site: Optional[Frame], lives: Sequence[Life]) -> Finding:
    longest = max(lives, key=context.zombie_ns)
    by = "" if longest.reap_kind == KIND_UNSEEN else f" by {longest.reap_kind}"
    bound = " up to" if len(lives) > 1 else ""
    if any(life.already_zombie for life in lives):
        bound = " at least" if len(lives) == 1 else " sometimes at least"
    return Finding(
        kind="slow reap",
        severity=NOTE if longest.reap_kind in fixes.NOT_YOURS else WARNING,
        title=f"{_children(context, site, lives)} waited as {zombies_noun(len(lives))}"
        f" for{bound} {context.words.duration(context.zombie_ns(longest))} to be reaped{by}",
        evidence=_evidence(context, lives),
        fix=fixes.late(longest, site, context.words),
        site=site,
        lives=lives,
    )


def _abandoned(context: DiagnosisContext, lives: Sequence[Life]) -> dict[Key, Join]:
    """Return the last join of each process for which it timed out and was not repeated."""
    last: dict[Key, Join] = {}
    for join in context.joins:
        child = context.child_of(join)
        if child is not None and join.kind != "atexit":
            last[child.key] = join  # joins are in the order in which they began
    return {
        life.key: last[life.key]
        for life in lives
        if life.key in last and last[life.key].returned == "timeout"
    }


def _abandoned_join(
    context: DiagnosisContext, site: Optional[Frame], lives: Sequence[Life], joins: Sequence[Join]
) -> Finding:
    first, words = joins[0], context.words
    name = (first.kind or "join").replace("(timeout)", "")
    evidence = []
    for life, join in zip(lives, joins):
        evidence.append(
            f"PID {life.pid}: {name}{words.site(join.site)} gave up"
            f"{_timeout(context, ' after', join)}, {_ended(context, life, join)};"
            f" {_sentence(context, life)}"
        )
    return Finding(
        kind="abandoned join",
        severity=WARNING,
        title=f"{name} ran out of its time{_timeout(context, ' of', first)} for"
        f" {_children(context, site, lives)}, and was not repeated",
        evidence=first_few(evidence),
        fix=f"after the {name} with a timeout{words.at_line(first.site)}"
        " look whether the child has ended, and wait again, without a timeout,"
        " when it is due or has been told to end (terminate())",
        site=first.site or site,
        lives=lives,
        joins=joins,
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


def _idle_init(context: DiagnosisContext, lives: Sequence[Life]) -> Iterator[Finding]:
    groups: dict[int, list[Life]] = {}
    for life in lives:
        groups.setdefault(life.reparents[-1].to.pid, []).append(life)
    for group in groups.values():
        if still := any(life.state is State.ZOMBIE for life in group):
            did = f"left {count_of(len(group), 'adopted zombie')} unreaped"
        else:
            did = f"reaped {count_of(len(group), 'adopted child', 'adopted children')} late"
        init = context.actor(group[0].reparents[-1].to)
        yield Finding(
            kind="init does not wait",
            severity=ERROR if still else WARNING,
            title=f"{init}, the init of its PID namespace, {did}",
            evidence=_evidence(context, group),
            fix="Run an init that waits as PID 1: `docker run --init`, tini, dumb-init or systemd;"
            " or let PID 1 call waitpid(-1, WNOHANG) in a loop on SIGCHLD",
            site=None,
            lives=group,
        )


def _children(context: DiagnosisContext, site: Optional[Frame], lives: Sequence[Life]) -> str:
    """Return `2 of 120 children forked at app.py:42`."""
    total = context.forked_at(site) if site is not None else 0
    some = f"{len(lives)} of {total} children" if total > len(lives) else children_of(len(lives))
    return some + context.origin_of(site, lives)


def _evidence(context: DiagnosisContext, lives: Sequence[Life]) -> list[str]:
    """Return what happened to the zombies that lasted longest."""
    longest = sorted(lives, key=lambda life: -context.zombie_ns(life))
    return first_few(_sentence(context, life) for life in longest)


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
