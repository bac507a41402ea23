# SPDX-License-Identifier: Apache-2.0
"""The answer in one sentence: how many zombies, for how long, where forked, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Optional

from zombiebpf.diagnosis.finding import DiagnosisContext, Finding, Parents, Tally
from zombiebpf.model.life import KIND_UNSEEN, LATE_NS, State
from zombiebpf.model.observation import Observation
from zombiebpf.model.stack import Frame
from zombiebpf.wording.wording import UNICODE_WORDS, Wording, children_of, count_of, zombies_noun

LEAK, SLOW, ABANDONED, INIT = "leak", "slow reap", "abandoned join", "init does not wait"
ZOMBIES = (LEAK, SLOW, ABANDONED, INIT)  # the findings on zombies, which share one sentence

MAX_REASONS = 3


def headline(
    observation: Observation, found: Sequence[Finding], words: Wording = UNICODE_WORDS
) -> str:
    """Return the answer: on zombies, or the title if the most severe finding is another.

    Example: `3 of 120 children stayed zombies for more than 1 s; all forked at app.py:42;
    nobody joined them`.
    """
    lost = observation.meta.lost_events
    prefix = f"Incomplete, {lost} records were lost: " if lost else ""
    context = DiagnosisContext(observation, LATE_NS, words)
    if not found:
        return prefix + _no_findings(context)
    if found[0].kind not in ZOMBIES:
        return prefix + found[0].title + _more(len(found) - 1)
    on_zombies = [each for each in found if each.kind in ZOMBIES]
    return prefix + _zombies(context, on_zombies) + _more(len(found) - len(on_zombies))


def _more(count: int) -> str:
    return f"; and {count_of(count, 'more finding')}" if count else ""


def _no_findings(context: DiagnosisContext) -> str:
    children = context.observation.children()
    if not children:
        return "no child process was seen"
    longest = context.observation.longest_zombie_ns()
    most = "no zombie"
    if longest is not None:
        most = f"none a zombie for more than {context.words.duration(longest)}"
    return f"nothing to find: {children_of(children)}, {most}"


def _zombies(context: DiagnosisContext, found: Sequence[Finding]) -> str:
    tallies = [each.zombies for each in found if each.zombies is not None]
    zombies = sum(map(len, tallies))
    total = max(context.observation.children(), zombies)
    count = f"{zombies} of {total} children" if total > 1 else "the only child"
    parts = [
        f"{count} stayed {zombies_noun(zombies)} {_duration(context, tallies)}",
        _fork_site(context, tallies),
        _reasons(found),
    ]
    return "; ".join(part for part in parts if part)


def _duration(context: DiagnosisContext, tallies: Sequence[Tally]) -> str:
    """Return a lower bound for all of them, with two digits; the duration if there is one."""
    count = sum(map(len, tallies))
    longest = max(each.longest.duration_ns for each in tallies)
    if count == 1:
        only = tallies[0].first
        still = ", still" if only.state is State.ZOMBIE else ""
        bound = "at least " if only.already_zombie else ""
        return f"for {bound}{context.words.duration(longest)}{still}"
    shortest = min(each.shortest_ns for each in tallies)
    digit = 10 ** max(len(str(shortest)) - 2, 0)
    bound_ns = shortest // digit * digit
    text = f"for {'more than ' * (bound_ns < shortest)}{context.words.duration(bound_ns)}"
    if bound_ns == shortest and longest > shortest:
        text += " or more"
    still_count = sum(each.still for each in tallies)
    return text + (
        ", still" if still_count == count else f", {still_count} still" if still_count else ""
    )


def _fork_site(context: DiagnosisContext, tallies: Sequence[Tally]) -> str:
    """Return the line that forked all or most of them, else how many lines did."""
    sites: Counter[Optional[Frame]] = Counter()
    parents = Parents()
    for each in tallies:
        sites.update(each.sites)
        parents.merge(each.parents)
    total = sum(sites.values())
    site, count = sites.most_common(1)[0]
    every = "all " if total > 1 else ""
    if len(sites) == 1 and site is not None:
        return f"{every}forked{context.words.at_line(site)}"
    if site is not None and count * 2 >= total:
        return f"{count} forked{context.words.at_line(site)}"
    known = len(sites) - (None in sites)
    if known > 1:
        return f"forked at {known} different lines"
    parent = parents.common if not known else None
    return f"{every}of {context.actor(parent)}" if parent is not None else ""


def _reasons(found: Sequence[Finding]) -> str:
    """Return the most frequent reasons, with their counts if there are several."""
    reasons: Counter[str] = Counter()
    for finding in found:
        if finding.zombies is not None:
            for (kind, library, still), count in finding.zombies.causes.items():
                reasons[_reason(finding, kind, library, still)] += count
    if len(reasons) == 1:
        ((text, count),) = reasons.items()
        return text.removeprefix("{them} ").format(them="it" if count == 1 else "them")
    parts = [text.format(them=str(count)) for text, count in reasons.most_common(MAX_REASONS)]
    return ", ".join(parts) + (" and others" if len(reasons) > MAX_REASONS else "")


def _reason(finding: Finding, kind: Optional[str], library: str, still: bool) -> str:
    """Return a template for str.format(): `{them}` is `it`, `them` or a count."""
    if finding.kind == LEAK:
        done = "joined" if library in ("multiprocessing", "billiard") else "waited for"
        until = "" if still else " until the parent's end"
        return f"nobody {done} {{them}}{until}"
    if finding.kind == ABANDONED:
        return "a join ran out of time for {them}"
    if finding.kind == INIT:
        return "init waits late for {them}" if kind else "init does not wait for {them}"
    if kind is None or kind == KIND_UNSEEN:
        return "{them} reaped late"
    escaped = kind.replace("{", "{{").replace("}", "}}")
    return f"{escaped} reaped {{them}} late"
