# SPDX-License-Identifier: Apache-2.0
"""The answer in one sentence: how many zombies, for how long, where forked, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zombiebpf.analysis import Analysis
from zombiebpf.attribution.finding import Case, Finding, actor, duration, forked_by
from zombiebpf.attribution.sites import (
    LONG_NS,
    UNSEEN,
    found_dead,
    kind_of,
    least_ns,
    line_of,
    short,
)
from zombiebpf.life import Life, State

LEAK, SLOW, ABANDONED, INIT = "leak", "slow reap", "abandoned join", "init does not wait"
ZOMBIES = (LEAK, SLOW, ABANDONED, INIT)  # the findings on zombies: one sentence tells them all

REASONS = 3  # that are told


def headline(analysis: Analysis, found: Sequence[Finding]) -> str:
    """`3 of 120 children stayed zombies for more than 1 s; all forked at app.py:42; nobody
    joined them`; of another kind of finding, where that is the gravest, its title."""
    lost = analysis.meta.lost_events
    prefix = f"Incomplete, {lost} records were lost: " if lost else ""
    case = Case(analysis, LONG_NS)
    if not found:
        return prefix + _nothing(case)
    if found[0].kind not in ZOMBIES:
        return prefix + found[0].title + _more(len(found) - 1)
    told = [each for each in found if each.kind in ZOMBIES]
    return prefix + _zombies(case, told) + _more(len(found) - len(told))


def _more(count: int) -> str:
    return f"; and {count} more finding{'s' * (count > 1)}" if count else ""


def _nothing(case: Case) -> str:
    children = len(case.children)
    if not children:
        return "no child process was seen"
    waited = [ns for each in case.children if (ns := least_ns(each, case.meta)) is not None]
    many = f"{children} child{'ren' * (children > 1)}"
    if not waited:
        return f"nothing to find: {many}, no zombie"
    return f"nothing to find: {many}, none a zombie for more than {duration(max(waited))}"


def _zombies(case: Case, told: Sequence[Finding]) -> str:
    lives = [life for each in told for life in each.lives]
    every = max(len(case.children), len(lives))
    count = f"{len(lives)} of {every} children" if every > 1 else "the only child"
    what = "a zombie" if len(lives) == 1 else "zombies"
    parts = [f"{count} stayed {what} {_for(case, lives)}", _where(lives), _why(told)]
    return "; ".join(part for part in parts if part)


def _for(case: Case, lives: Sequence[Life]) -> str:
    """A bound that all of them keep, with two digits; of one alone, its time."""
    waited = [case.waited_ns(life) or 0 for life in lives]
    if len(lives) == 1:
        still = ", still" if lives[0].state is State.ZOMBIE else ""
        bound = "at least " if found_dead(lives[0]) else ""
        return f"for {bound}{duration(waited[0])}{still}"
    least = min(waited)
    digit = 10 ** max(len(str(least)) - 2, 0)
    bound_ns = least // digit * digit
    text = f"for {'more than ' * (bound_ns < least)}{duration(bound_ns)}"
    if bound_ns == least and max(waited) > least:
        text += " or more"
    there = sum(life.state is State.ZOMBIE for life in lives)
    return text + (", still" if there == len(lives) else f", {there} still" if there else "")


def _where(lives: Sequence[Life]) -> str:
    """The line that forked them, where there is one for all, or for most."""
    lines = Counter(line_of(life.fork_site) for life in lives)
    line, count = lines.most_common(1)[0]
    every = "all " if len(lives) > 1 else ""
    if len(lines) == 1 and line is not None:
        return f"{every}forked at {short(line)}"
    if line is not None and count * 2 >= len(lives):
        return f"{count} forked at {short(line)}"
    if len(lines) > 1:
        return f"forked at {len(lines)} different lines"
    above = {life.forker or life.parent for life in lives}
    if len({who.pid for who in above if who is not None}) == 1 and None not in above:
        return f"{every}of {actor(above.pop())}"
    return ""


def _why(told: Sequence[Finding]) -> str:
    """Each reason with its count, where there is more than one."""
    reasons: Counter[str] = Counter()
    for finding in told:
        for life in finding.lives:
            reasons[_reason(finding, life)] += 1
    total = sum(reasons.values())
    if len(reasons) == 1:
        text = next(iter(reasons))
        return text.removeprefix("{them} ").format(them="it" if total == 1 else "them")
    parts = [text.format(them=str(count)) for text, count in reasons.most_common(REASONS)]
    return ", ".join(parts) + (" and others" if len(reasons) > REASONS else "")


def _reason(finding: Finding, life: Life) -> str:
    if finding.kind == LEAK:
        by = forked_by(life.fork_stack)
        done = "joined" if by in ("multiprocessing", "billiard") else "waited for"
        if life.state is State.ZOMBIE:
            return f"nobody {done} {{them}}"
        return f"nobody {done} {{them}} until the parent's end"
    if finding.kind == ABANDONED:
        return "a join ran out of time for {them}"
    if finding.kind == INIT:
        return "init waits late for {them}" if kind_of(life) else "init does not wait for {them}"
    kind = kind_of(life)
    if kind in (None, UNSEEN):
        return "{them} reaped late"
    return f"{_braced(kind or '')} reaped {{them}} late"


def _braced(text: str) -> str:
    """Not a place for anything."""
    return text.replace("{", "{{").replace("}", "}}")
