# SPDX-License-Identifier: Apache-2.0
"""The answer in one sentence: how many zombies, for how long, where forked, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zombiebpf.diagnosis.finding import DiagnosisContext, Finding, common_parent, forking_library
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.life import KIND_UNSEEN, LATE_NS, Life, State
from zombiebpf.wording.wording import UNICODE_WORDS, Wording, children_of, count_of, zombies_noun

LEAK, SLOW, ABANDONED, INIT = "leak", "slow reap", "abandoned join", "init does not wait"
ZOMBIES = (LEAK, SLOW, ABANDONED, INIT)  # the findings on zombies, which share one sentence

MAX_REASONS = 3


def headline(analysis: Analysis, found: Sequence[Finding], words: Wording = UNICODE_WORDS) -> str:
    """Return the answer: on zombies, or the title if the most severe finding is another.

    Example: `3 of 120 children stayed zombies for more than 1 s; all forked at app.py:42;
    nobody joined them`.
    """
    lost = analysis.meta.lost_events
    prefix = f"Incomplete, {lost} records were lost: " if lost else ""
    context = DiagnosisContext(analysis, LATE_NS, words)
    if not found:
        return prefix + _no_findings(context)
    if found[0].kind not in ZOMBIES:
        return prefix + found[0].title + _more(len(found) - 1)
    on_zombies = [each for each in found if each.kind in ZOMBIES]
    return prefix + _zombies(context, on_zombies) + _more(len(found) - len(on_zombies))


def _more(count: int) -> str:
    return f"; and {count_of(count, 'more finding')}" if count else ""


def _no_findings(context: DiagnosisContext) -> str:
    if not context.children:
        return "no child process was seen"
    span = (context.meta.started_ns, context.ended_ns)
    durations = [each.zombie_duration_ns(*span) for each in context.children]
    longest = max((each for each in durations if each is not None), default=None)
    most = "no zombie"
    if longest is not None:
        most = f"none a zombie for more than {context.words.duration(longest)}"
    return f"nothing to find: {children_of(len(context.children))}, {most}"


def _zombies(context: DiagnosisContext, found: Sequence[Finding]) -> str:
    lives = [life for each in found for life in each.lives]
    total = max(len(context.children), len(lives))
    count = f"{len(lives)} of {total} children" if total > 1 else "the only child"
    parts = [
        f"{count} stayed {zombies_noun(len(lives))} {_duration(context, lives)}",
        _fork_site(context, lives),
        _reasons(found),
    ]
    return "; ".join(part for part in parts if part)


def _duration(context: DiagnosisContext, lives: Sequence[Life]) -> str:
    """Return a lower bound for all of them, with two digits; the duration if there is one."""
    durations = [context.zombie_ns(life) for life in lives]
    if len(lives) == 1:
        still = ", still" if lives[0].state is State.ZOMBIE else ""
        bound = "at least " if lives[0].already_zombie else ""
        return f"for {bound}{context.words.duration(durations[0])}{still}"
    shortest = min(durations)
    digit = 10 ** max(len(str(shortest)) - 2, 0)
    bound_ns = shortest // digit * digit
    text = f"for {'more than ' * (bound_ns < shortest)}{context.words.duration(bound_ns)}"
    if bound_ns == shortest and max(durations) > shortest:
        text += " or more"
    count = sum(life.state is State.ZOMBIE for life in lives)
    return text + (", still" if count == len(lives) else f", {count} still" if count else "")


def _fork_site(context: DiagnosisContext, lives: Sequence[Life]) -> str:
    """Return the line that forked all or most of them, else how many lines did."""
    sites = Counter(life.fork_site for life in lives)
    site, count = sites.most_common(1)[0]
    every = "all " if len(lives) > 1 else ""
    if len(sites) == 1 and site is not None:
        return f"{every}forked{context.words.at_line(site)}"
    if site is not None and count * 2 >= len(lives):
        return f"{count} forked{context.words.at_line(site)}"
    known = len(sites) - (None in sites)
    if known > 1:
        return f"forked at {known} different lines"
    parent = common_parent(lives) if not known else None
    return f"{every}of {context.actor(parent)}" if parent is not None else ""


def _reasons(found: Sequence[Finding]) -> str:
    """Return the most frequent reasons, with their counts if there are several."""
    reasons = Counter(_reason(finding, life) for finding in found for life in finding.lives)
    if len(reasons) == 1:
        ((text, count),) = reasons.items()
        return text.removeprefix("{them} ").format(them="it" if count == 1 else "them")
    parts = [text.format(them=str(count)) for text, count in reasons.most_common(MAX_REASONS)]
    return ", ".join(parts) + (" and others" if len(reasons) > MAX_REASONS else "")


def _reason(finding: Finding, life: Life) -> str:
    """Return a template for str.format(): `{them}` is `it`, `them` or a count."""
    kind = life.reap_kind
    if finding.kind == LEAK:
        library = forking_library(life.fork_stack)
        done = "joined" if library in ("multiprocessing", "billiard") else "waited for"
        until = "" if life.state is State.ZOMBIE else " until the parent's end"
        return f"nobody {done} {{them}}{until}"
    if finding.kind == ABANDONED:
        return "a join ran out of time for {them}"
    if finding.kind == INIT:
        return "init waits late for {them}" if kind else "init does not wait for {them}"
    if kind is None or kind == KIND_UNSEEN:
        return "{them} reaped late"
    escaped = kind.replace("{", "{{").replace("}", "}}")
    return f"{escaped} reaped {{them}} late"
