# SPDX-License-Identifier: Apache-2.0
"""One run seen through its roles: who was who, and when what happened."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Optional

from zombiebpf.life import Actor, AdopterKind, Life
from zombiebpf.reports.wording import Wording
from zombiebpf.scenario.joins import ChildJoin, correlate, life_at
from zombiebpf.scenario.marks import Fact, Marks

INSTANTS = ("fork", "exec", "exit", "zombie", "reap", "reparent")
JOIN_INSTANTS = ("began", "ended")

# Servers that Python itself starts, by the module that their program text imports.
SERVERS = {
    "forkserver": ("multiprocessing.forkserver",),
    "tracker": ("multiprocessing.resource_tracker", "multiprocessing.semaphore_tracker"),
}
KEEPER, PARENT, INIT = "keeper", "parent", "init"

_REFERENCE = re.compile(r"([a-z][a-z0-9_]*)(?:\[(\d+)\])?")
_words = Wording(unicode=False)


def duration(ns: int) -> str:
    """`598 ms`, in ASCII."""
    return _words.duration(ns)


def seconds(value: float) -> str:
    return duration(round(value * 1e9))


def is_reference(text: str) -> bool:
    """`child` (all of that role) or `child[0]` (the first that was started)."""
    return _REFERENCE.fullmatch(text) is not None


class Scene:
    """The lives of a run by their roles, its joins and the facts it told."""

    def __init__(
        self, lives: Sequence[Life], marks: Marks, knobs: Mapping[str, object], ended_ns: int
    ) -> None:
        self.knobs = knobs
        self.ended_ns = ended_ns  # of the observation
        self.facts: Sequence[Fact] = marks.facts
        self.joins: Sequence[ChildJoin] = correlate(marks.joins, lives)
        self.missing: list[str] = []  # roles whose process the observer has not seen
        self.roles: dict[str, list[Life]] = {}
        for mark in marks.started:
            life = life_at(lives, mark.pid, mark.ns)
            if life is None:
                self.missing.append(f"{mark.role} (PID {mark.pid})")
            elif life not in self.roles.setdefault(mark.role, []):
                self.roles[mark.role].append(life)
        keeper = [life for life in lives if life.pid == marks.keeper]
        self.roles.update({KEEPER: keeper[:1]} if keeper else {})
        for role, modules in SERVERS.items():
            found = [life for life in lives if _runs(life, modules)]
            if found:
                self.roles[role] = found

    def lives(self, reference: str) -> list[Life]:
        """Of a role, or one of them; in the order in which they were started."""
        match = _REFERENCE.fullmatch(reference)
        assert match is not None, reference
        found = self.roles.get(match[1], [])
        if match[2] is None:
            return list(found)
        return found[int(match[2]) : int(match[2]) + 1]

    def joins_of(self, reference: str) -> list[ChildJoin]:
        """Joins for a child of that role, in the order of their begins."""
        children = {(life.pid, life.start_ns) for life in self.lives(reference)}
        return [
            each
            for each in self.joins
            if each.child is not None and (each.child.pid, each.child.start_ns) in children
        ]

    def fact(self, name: str) -> Optional[Fact]:
        """The last one told by that name."""
        return next((each for each in reversed(self.facts) if each.name == name), None)

    def name(self, life: Life) -> str:
        """`child`, or `child[1]` where it is one of several."""
        for role, lives in self.roles.items():
            for index, each in enumerate(lives):
                if (each.pid, each.start_ns) == (life.pid, life.start_ns):
                    return role if len(lives) == 1 else f"{role}[{index}]"
        return f"PID {life.pid}"

    def actor(self, actor: Actor, ns: int) -> str:
        """The role of whoever did something at that time."""
        for lives in self.roles.values():
            life = life_at(lives, actor.pid, ns)
            if life is not None:
                return self.name(life)
        if actor.pid == 1:
            return INIT
        comm = f"{_words.printable(actor.comm)} " if actor.comm else ""
        return f"{comm}(PID {actor.pid})" if actor.pid else f"{comm}outside"

    def plays(self, reference: str, actor: Actor, ns: int, child: Life) -> bool:
        """Whether `actor`, who had to do with `child` at that time, is of that role."""
        if reference == INIT:
            inits = {each.to.pid for each in child.reparents if each.kind is AdopterKind.INIT}
            return actor.pid == 1 or actor.pid in inits
        life = life_at((life for lives in self.roles.values() for life in lives), actor.pid, ns)
        return life is not None and life in self.lives(reference)

    def instants(self, reference: str) -> list[tuple[str, Optional[int]]]:
        """`child.reap`, `fact.NAME` or `join.ended` -> (name of what, CLOCK_MONOTONIC ns)."""
        subject, _, instant = reference.rpartition(".")
        if subject == "fact":
            fact = self.fact(instant)
            return [] if fact is None else [(f"fact {instant}", fact.ns)]
        if subject == "join":
            return [
                (f"{called(each)} {instant}", getattr(each, f"{instant}_ns")) for each in self.joins
            ]
        return [
            (f"{self.name(life)}'s {instant}", instant_of(life, instant))
            for life in self.lives(subject)
        ]


def is_instant(text: str) -> bool:
    """Whether `Scene.instants` understands it."""
    subject, _, instant = text.rpartition(".")
    if subject == "fact":
        return bool(instant)
    if subject == "join":
        return instant in JOIN_INSTANTS
    return is_reference(subject) and instant in INSTANTS


def instant_of(life: Life, instant: str) -> Optional[int]:
    """The last exec and the last reparenting, where there are several."""
    if instant == "exec":
        return life.execs[-1].ns if life.execs else None
    if instant == "reparent":
        return life.reparents[-1].ns if life.reparents else None
    found: Optional[int] = getattr(life, f"{instant}_ns")
    return found


def called(each: ChildJoin) -> str:
    """`join()` or `join(0.3)`."""
    timeout = each.join.timeout_s
    return "join()" if timeout is None else f"join({timeout:g})"


def _runs(life: Life, modules: Sequence[str]) -> bool:
    """Started by exec as `python -c 'from MODULE import main; ...'`; its forks do not count."""
    if not life.execs or not life.argv:
        return False
    return any(f"from {module} import" in text for text in life.argv for module in modules)
