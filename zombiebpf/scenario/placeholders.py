# SPDX-License-Identifier: Apache-2.0
"""Sentences with measured values: `the child stayed a zombie for {child.zombie}`.

{ROLE.WHAT}      of each process of the role: zombie, latency, lived, blocked, ended,
                 reaper, call, adopter, pid; count and overlap of all of them
{join.WHAT}      of each join, {join[0].WHAT} of the first: returned, lasted, after
                 (how long after the child had become a zombie), call
{A - B}          between two instants, such as {parent.exit - child.reap}
{fact.NAME}      what the workload reported, {knob.NAME} a knob; {fact.NAME:s} as a duration
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Callable, Optional

from zombiebpf.model.life import Life, ReapedBy, State, signal_name
from zombiebpf.scenario.expect_run import overlap
from zombiebpf.scenario.expression import near
from zombiebpf.scenario.joins import ChildJoin
from zombiebpf.scenario.nodes import Node
from zombiebpf.scenario.observed_run import ObservedRun, is_instant, is_reference
from zombiebpf.scenario.sentences import WORDS, call_words, plain, seconds

NOT_SEEN = "(not seen)"

_HOLE = re.compile(r"\{([^{}]*)\}")
_JOIN = re.compile(r"join(?:\[(\d+)\])?\.(\w+)")
_VALUE = re.compile(r"(fact|knob)\.(\w+)(:s)?")


def _ended(life: Life, observed: ObservedRun) -> str:
    if life.signal is not None:
        return signal_name(life.signal)
    if life.exit_status is not None:
        return f"exit {life.exit_status}"
    return "running" if life.state is State.RUNNING else NOT_SEEN


def _reaper(life: Life, observed: ObservedRun) -> str:
    if life.reaped_by is ReapedBy.KERNEL:
        return "the kernel"
    if life.reaper is None or life.reap_ns is None:
        return NOT_SEEN
    return observed.actor(life.reaper, life.reap_ns)


def _adopter(life: Life, observed: ObservedRun) -> str:
    if not life.reparents:
        return NOT_SEEN if "reparents" in life.unseen else "nobody"
    last = life.reparents[-1]
    return observed.actor(last.to, last.ns)


_LIFE_TIMES: Mapping[str, Callable[[Life], Optional[int]]] = {
    "zombie": lambda life: (
        0
        if life.reaped_by is ReapedBy.KERNEL and life.zombie_ns is None
        else life.zombie_interval_ns
    ),
    "latency": lambda life: life.reap_latency_ns,
    "lived": lambda life: (
        None if life.exit_ns is None or life.fork_ns is None else life.exit_ns - life.fork_ns
    ),
    "blocked": lambda life: life.reap_call.blocked_ns if life.reap_call else None,
}
_LIFE_WORDS: Mapping[str, Callable[[Life, ObservedRun], str]] = {
    "ended": _ended,
    "reaper": _reaper,
    "adopter": _adopter,
    "call": lambda life, observed: call_words(life.reap_call) or NOT_SEEN,
    "pid": lambda life, observed: str(life.pid),
}
_OF_ALL = ("count", "overlap")
_JOIN_WORDS: Mapping[str, Callable[[ChildJoin], str]] = {
    "returned": lambda each: each.join.returned or NOT_SEEN,
    "call": lambda each: each.call,
}
_JOIN_TIMES: Mapping[str, Callable[[ChildJoin], Optional[int]]] = {
    "lasted": lambda each: each.lasted_ns,
    "after": lambda each: each.after_zombie_ns,
}


def checked(text: str, node: Node, knobs: Mapping[str, object]) -> str:
    """Return `text`. Raise ScenarioError if no run can fill one of its placeholders."""
    for hole in _HOLE.findall(text):
        wrong = _wrong(hole, knobs)
        if wrong:
            raise node.error(f"the placeholder {{{hole}}} cannot be filled", wrong)
    if "{" in _HOLE.sub("", text) or "}" in _HOLE.sub("", text):
        raise node.error("a brace stands alone", "{child.zombie}")
    return text


def filled(text: str, observed: ObservedRun) -> str:
    """Return the sentence with the values of this run; what was not observed is NOT_SEEN."""
    return _HOLE.sub(lambda match: _filled(match[1], observed), text)


def _wrong(hole: str, knobs: Mapping[str, object]) -> str:
    if " - " in hole:
        bad = [part for part in hole.split(" - ", 1) if not is_instant(part.strip())]
        return f"{bad[0]!r} is no instant, such as child.reap" if bad else ""
    value = _VALUE.fullmatch(hole)
    if value:
        known = value[1] == "fact" or value[2] in knobs
        return "" if known else near(value[2], knobs)
    join = _JOIN.fullmatch(hole)
    if join:
        names = (*_JOIN_WORDS, *_JOIN_TIMES)
        return "" if join[2] in names else near(join[2], names)
    subject, dot, what = hole.rpartition(".")
    names = (*_LIFE_TIMES, *_LIFE_WORDS, *_OF_ALL)
    if not dot or not is_reference(subject):
        return "{ROLE.WHAT}, {join.WHAT}, {fact.NAME}, {knob.NAME}, {INSTANT - INSTANT}"
    return "" if what in names else near(what, names)


def _filled(hole: str, observed: ObservedRun) -> str:
    if " - " in hole:
        later, earlier = (observed.instants(part.strip()) for part in hole.split(" - ", 1))
        ends = [ns for _, ns in later if ns is not None]
        begins = [ns for _, ns in earlier if ns is not None]
        # from the last of the earlier ones to the first of the later ones
        return WORDS.duration(min(ends) - max(begins)) if ends and begins else NOT_SEEN
    value = _VALUE.fullmatch(hole)
    if value:
        return _value(value[1], value[2], bool(value[3]), observed)
    join = _JOIN.fullmatch(hole)
    if join:
        chosen = observed.joins
        if join[1] is not None:
            chosen = chosen[int(join[1]) : int(join[1]) + 1]
        if join[2] in _JOIN_WORDS:
            return _distinct(_JOIN_WORDS[join[2]](each) for each in chosen)
        return _range([_JOIN_TIMES[join[2]](each) for each in chosen])
    subject, _, what = hole.rpartition(".")
    lives = observed.lives(subject)
    if what == "count":
        return str(len(lives))
    if what == "overlap":
        share = overlap(lives)
        return NOT_SEEN if share is None else f"{share:.2f}"
    if what in _LIFE_TIMES:
        return _range([_LIFE_TIMES[what](life) for life in lives])
    return _distinct(_LIFE_WORDS[what](life, observed) for life in lives)


def _value(kind: str, name: str, as_time: bool, observed: ObservedRun) -> str:
    if kind == "knob":
        found = observed.knobs.get(name)
    else:
        fact = observed.fact(name)
        if fact is None:
            return NOT_SEEN
        found = fact.value
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        if as_time:
            return seconds(found)
        return str(found) if isinstance(found, int) else plain(found)
    return str(found)


def _range(times: Sequence[Optional[int]]) -> str:
    """Return `598 ms`, or `598 ms to 612 ms` for several."""
    seen = [each for each in times if each is not None]
    if not seen:
        return NOT_SEEN
    low, high = (WORDS.duration(max(each, 0)) for each in (min(seen), max(seen)))
    return low if low == high else f"{low} to {high}"


def _distinct(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts)) or NOT_SEEN
