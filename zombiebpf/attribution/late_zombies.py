# SPDX-License-Identifier: Apache-2.0
"""Verdicts on zombies that were not waited for: leak, slow reap, abandoned join, idle init."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from zombiebpf.analysis import Join
from zombiebpf.attribution import cures
from zombiebpf.attribution.finding import (
    ERROR,
    NOTE,
    WARNING,
    Case,
    Finding,
    actor,
    at,
    by_line,
    duration,
    forked,
    some,
)
from zombiebpf.attribution.sites import UNSEEN, Line, found_dead, kind_of, line_of, short
from zombiebpf.life import AdopterKind, Life, State

Key = tuple[int, int]


def late_zombies(case: Case) -> Iterator[Finding]:
    """Each late zombie is in one finding, that of its nearest cause."""
    late = [life for life in case.children if case.late(life)]
    adopted = [life for life in late if _waited_for_init(life)]
    left = [life for life in late if not _waited_for_init(life)]
    yield from _idle_init(case, adopted)
    abandoned = _abandoned(case, left)
    for (where, _), lives in by_line(life for life in left if _key(life) in abandoned).items():
        yield _abandoned_join(case, where, lives, [abandoned[_key(life)] for life in lives])
    left = [life for life in left if _key(life) not in abandoned]
    began = _ends_of_programs(case)
    leaked = [life for life in left if _is_leak(life, began)]
    for (where, _), lives in by_line(leaked).items():
        yield _leak(case, where, lives)
    slow = [life for life in left if not _is_leak(life, began)]
    for (where, _), lives in by_line(slow).items():
        yield _slow_reap(case, where, lives)


def _key(life: Life) -> Key:
    return life.pid, life.start_ns


def _waited_for_init(life: Life) -> bool:
    """Its last parent was the init of its PID namespace, and that is who should have waited."""
    return (
        bool(life.reparents)
        and life.reparents[-1].kind is AdopterKind.INIT
        and (
            not life.reparents[-1].while_zombie
            or (life.zombie_ns is not None and life.reparents[-1].ns <= life.zombie_ns)
        )
    )


def _ends_of_programs(case: Case) -> dict[Optional[int], int]:
    """When each process's exit function began to join, by PID."""
    began: dict[Optional[int], int] = {}
    for join in case.joins:
        if join.kind == "atexit" and join.began_ns is not None:
            began[join.pid] = min(join.began_ns, began.get(join.pid, join.began_ns))
    return began


def _is_leak(life: Life, began: dict[Optional[int], int]) -> bool:
    """Nobody waited for it as long as its parent's program ran."""
    if life.state is State.ZOMBIE or any(each.while_zombie for each in life.reparents):
        return True
    if kind_of(life) != "atexit" or life.reaper is None or life.zombie_ns is None:
        return False
    return life.zombie_ns < began.get(life.reaper.pid, life.zombie_ns + 1)


def _leak(case: Case, where: Optional[Line], lives: Sequence[Life]) -> Finding:
    still = [life for life in lives if life.state is State.ZOMBIE]
    before = all(map(found_dead, lives))
    whose = "its" if len(lives) == 1 else "their"
    until = "until the end"
    if len(still) == len(lives):
        until += " of the observation"
    elif not still:
        until = f"until {whose} parent's end"
    stayed = f"stayed {_zombies(lives)} {until}"
    if before:
        least = duration(min(case.waited_ns(life) or 0 for life in lives))
        stayed = f"{'was' if len(lives) == 1 else 'were'} {_zombies(lives)} since before we looked,"
        stayed += f" for at least {least}{', still' if len(still) == len(lives) else ''}"
    return Finding(
        kind="leak",
        severity=ERROR if still else WARNING,
        title=f"{_count(case, where, lives)}{forked(where, lives)} {stayed}",
        evidence=some(_sentence(case, life) for life in _longest(case, lives)),
        cure=_sentence_case(cures.nobody_waits(lives[0], where)),
        site=where,
        lives=lives,
    )


def _slow_reap(case: Case, where: Optional[Line], lives: Sequence[Life]) -> Finding:
    longest = _longest(case, lives)
    most = case.waited_ns(longest[0]) or 0
    kind = kind_of(longest[0])
    by = "" if kind == UNSEEN else f" by {kind}"
    bound = " up to" if len(lives) > 1 else ""
    if any(map(found_dead, lives)):
        bound = " at least" if len(lives) == 1 else " sometimes at least"
    return Finding(
        kind="slow reap",
        severity=NOTE if kind in cures.NOT_YOURS else WARNING,
        title=f"{_count(case, where, lives)}{forked(where, lives)} waited as {_zombies(lives)} for"
        f"{bound} {duration(most)} to be reaped{by}",
        evidence=some(_sentence(case, life) for life in longest),
        cure=_sentence_case(cures.late(longest[0], kind, where)),
        site=where,
        lives=lives,
    )


def _abandoned(case: Case, lives: Sequence[Life]) -> dict[Key, Join]:
    """The last join of each, where that ran out of time and was never repeated."""
    last: dict[Key, Join] = {}
    for join in case.joins:
        child = case.child_of(join)
        if child is not None and join.kind != "atexit":
            known = last.get(_key(child))
            if known is None or (known.began_ns or 0) <= (join.began_ns or 0):
                last[_key(child)] = join
    return {
        _key(life): last[_key(life)]
        for life in lives
        if _key(life) in last and last[_key(life)].returned == "timeout"
    }


def _abandoned_join(
    case: Case, where: Optional[Line], lives: Sequence[Life], joins: Sequence[Join]
) -> Finding:
    first = joins[0]
    name = (first.kind or "join").replace("(timeout)", "")
    line = line_of(first.site)
    given = "" if first.timeout_s is None else f" of {duration(round(first.timeout_s * 1e9))}"
    evidence = []
    for life, join in zip(lives, joins):
        evidence.append(
            f"PID {life.pid}: {name}{at(join.site)} gave up{_given(join)},"
            f" {_then(join, life)}; {_sentence(case, life)}"
        )
    return Finding(
        kind="abandoned join",
        severity=WARNING,
        title=f"{name} ran out of its time{given} for {_count(case, where, lives)}"
        f"{forked(where, lives)}, and was not repeated",
        evidence=some(evidence),
        cure=f"after the {name} with a timeout{'' if line is None else f' at {short(line)}'}"
        " look whether the child has ended, and wait again, without a timeout,"
        " when it is due or has been told to end (terminate())",
        site=line or where,
        lives=lives,
        joins=joins,
    )


def _given(join: Join) -> str:
    return "" if join.timeout_s is None else f" after {duration(round(join.timeout_s * 1e9))}"


def _then(join: Join, life: Life) -> str:
    if join.ended_ns is None or life.zombie_ns is None:
        return "the child ended later"
    return f"the child ended {duration(max(life.zombie_ns - join.ended_ns, 0))} later"


def _idle_init(case: Case, lives: Sequence[Life]) -> Iterator[Finding]:
    groups: dict[int, list[Life]] = {}
    for life in lives:
        groups.setdefault(life.reparents[-1].to.pid, []).append(life)
    for group in groups.values():
        init = actor(group[0].reparents[-1].to)
        still = any(life.state is State.ZOMBIE for life in group)
        title = f"{init}, the init of its PID namespace, "
        yield Finding(
            kind="init does not wait",
            severity=ERROR if still else WARNING,
            title=title
            + (
                f"left {len(group)} adopted zombie{'s' * (len(group) > 1)} unreaped"
                if still
                else f"reaped {len(group)} adopted child{'ren' * (len(group) > 1)} late"
            ),
            evidence=some(_sentence(case, life) for life in _longest(case, group)),
            cure="Run an init that waits as PID 1: `docker run --init`, tini, dumb-init or systemd;"
            " or let PID 1 call waitpid(-1, WNOHANG) in a loop on SIGCHLD",
            site=None,
            lives=group,
        )


def _count(case: Case, where: Optional[Line], lives: Sequence[Life]) -> str:
    every = case.forked_at(where) if where is not None else 0
    if every > len(lives):
        return f"{len(lives)} of {every} children"
    return "1 child" if len(lives) == 1 else f"{len(lives)} children"


def _zombies(lives: Sequence[Life]) -> str:
    return "a zombie" if len(lives) == 1 else "zombies"


def _longest(case: Case, lives: Sequence[Life]) -> list[Life]:
    return sorted(lives, key=lambda life: -(case.waited_ns(life) or 0))


def _sentence(case: Case, life: Life) -> str:
    """What happened to one zombie."""
    waited = duration(case.waited_ns(life) or 0)
    bound = "" if life.zombie_exact and life.reap_exact else "about "
    if found_dead(life):
        bound = "at least "
    if life.state is State.ZOMBIE:
        text = f"PID {life.pid} is a zombie for {bound}{waited}, still"
        if found_dead(life):
            text += f" (since before we looked; started {duration(case.age_ns(life))} ago)"
    else:
        kind = kind_of(life)
        site = at(life.reap_call.site) if life.reap_call is not None else ""
        text = f"PID {life.pid} was a zombie for {bound}{waited}, then reaped by"
        text += f" {actor(life.reaper)} ({kind}){site}"
    return text + _meanwhile(life)


def _meanwhile(life: Life) -> str:
    doing = life.meanwhile
    if doing is None:
        return ""
    who = actor(doing.thread)
    if doing.syscall is None:
        return f"; meanwhile {who} was running"
    frame = doing.site or (doing.stack.frames[0] if doing.stack and doing.stack.frames else None)
    return f"; meanwhile {who} was blocked in {doing.syscall}{at(frame)}"


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]
