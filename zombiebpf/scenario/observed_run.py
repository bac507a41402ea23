# SPDX-License-Identifier: Apache-2.0
"""One observed run by its roles: which process played which, and when each event happened."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Optional

from zombiebpf.model.life import Actor, AdopterKind, Life
from zombiebpf.scenario.joins import ChildJoin, correlate, life_at
from zombiebpf.scenario.sentences import WORDS
from zombiebpf.scenario.workload_log import Fact, WorkloadLog

INSTANTS = ("fork", "exec", "exit", "zombie", "reap", "reparent")
JOIN_INSTANTS = ("began", "ended")

# Servers that Python itself starts with `python -c`, by the module that this text imports:
# Lib/multiprocessing/forkserver.py, Lib/multiprocessing/resource_tracker.py.
SERVERS = {
    "forkserver": ("multiprocessing.forkserver",),
    "tracker": ("multiprocessing.resource_tracker", "multiprocessing.semaphore_tracker"),
}
REAPER, PARENT, INIT = "keeper", "parent", "init"  # roles that every run has

Instant = tuple[str, Optional[int]]  # its name; CLOCK_MONOTONIC ns, None: not observed

_REFERENCE = re.compile(r"([a-z][a-z0-9_]*)(?:\[(\d+)\])?")


def is_reference(text: str) -> bool:
    """Return whether `text` names a role (`child`) or one process of it (`child[0]`: the first)."""
    return _REFERENCE.fullmatch(text) is not None


class ObservedRun:
    """The processes of a run by their roles, its joins and the facts it reported."""

    def __init__(
        self, lives: Sequence[Life], log: WorkloadLog, knobs: Mapping[str, object], ended_ns: int
    ) -> None:
        """Find the process of each role that the workload logged."""
        self.knobs = knobs
        self.ended_ns = ended_ns  # of the observation
        self.facts: Sequence[Fact] = log.facts
        self.joins: Sequence[ChildJoin] = correlate(log.joins, lives)
        self.missing: list[str] = []  # roles whose process was not observed
        self.roles: dict[str, list[Life]] = {}
        for start in log.started:
            life = life_at(lives, start.pid, start.ns)
            if life is None:
                self.missing.append(f"{start.role} (PID {start.pid})")
            elif life not in self.roles.setdefault(start.role, []):
                self.roles[start.role].append(life)
        reaper = [life for life in lives if life.pid == log.reaper_pid]
        self.roles.update({REAPER: reaper[:1]} if reaper else {})
        for role, modules in SERVERS.items():
            found = [life for life in lives if _runs(life, modules)]
            if found:
                self.roles[role] = found

    def lives(self, reference: str) -> list[Life]:
        """Return the processes that a reference names, in the order of their starts."""
        match = _REFERENCE.fullmatch(reference)
        assert match is not None, reference
        found = self.roles.get(match[1], [])
        if match[2] is None:
            return list(found)
        return found[int(match[2]) : int(match[2]) + 1]

    def joins_of(self, reference: str) -> list[ChildJoin]:
        """Return the joins for a child of that role, in the order of their begins."""
        children = {(life.pid, life.start_ns) for life in self.lives(reference)}
        return [
            each
            for each in self.joins
            if each.child is not None and (each.child.pid, each.child.start_ns) in children
        ]

    def fact(self, name: str) -> Optional[Fact]:
        """Return the last fact of that name."""
        return next((each for each in reversed(self.facts) if each.name == name), None)

    def name(self, life: Life) -> str:
        """Return `child`, or `child[1]` for one of several."""
        for role, lives in self.roles.items():
            for index, each in enumerate(lives):
                if (each.pid, each.start_ns) == (life.pid, life.start_ns):
                    return role if len(lives) == 1 else f"{role}[{index}]"
        return f"PID {life.pid}"

    def child_name(self, each: ChildJoin) -> str:
        """Return the name of the child that a join is for."""
        return f"PID {each.join.child_pid}" if each.child is None else self.name(each.child)

    def actor(self, actor: Actor, ns: int) -> str:
        """Return the role of the process that acted at `ns`, else its name and PID."""
        for lives in self.roles.values():
            life = life_at(lives, actor.pid, ns)
            if life is not None:
                return self.name(life)
        if actor.pid == 1:
            return INIT
        comm = f"{WORDS.printable(actor.comm)} " if actor.comm else ""
        return f"{comm}(PID {actor.pid})" if actor.pid else f"{comm}outside"

    def plays(self, reference: str, actor: Actor, ns: int, child: Life) -> bool:
        """Return whether `actor`, which adopted or reaped `child` at `ns`, has that role."""
        if reference == INIT:
            inits = {each.to.pid for each in child.reparents if each.kind is AdopterKind.INIT}
            return actor.pid == 1 or actor.pid in inits
        life = life_at((life for lives in self.roles.values() for life in lives), actor.pid, ns)
        return life is not None and life in self.lives(reference)

    def instants(self, reference: str) -> list[Instant]:
        """Return the instants that are meant by `child.reap`, `fact.NAME` or `join.ended`."""
        subject, _, instant = reference.rpartition(".")
        if subject == "fact":
            fact = self.fact(instant)
            return [] if fact is None else [(f"fact {instant}", fact.ns)]
        if subject == "join":
            return [
                (f"{each.call} {instant}", getattr(each, f"{instant}_ns")) for each in self.joins
            ]
        return [
            (f"{self.name(life)}'s {instant}", instant_of(life, instant))
            for life in self.lives(subject)
        ]


def is_instant(text: str) -> bool:
    """Return whether `ObservedRun.instants` accepts the text."""
    subject, _, instant = text.rpartition(".")
    if subject == "fact":
        return bool(instant)
    if subject == "join":
        return instant in JOIN_INSTANTS
    return is_reference(subject) and instant in INSTANTS


def instant_of(life: Life, instant: str) -> Optional[int]:
    """Return an instant of INSTANTS; if there were several, that of the last one."""
    if instant == "exec":
        return life.execs[-1].ns if life.execs else None
    if instant == "reparent":
        return life.reparents[-1].ns if life.reparents else None
    found: Optional[int] = getattr(life, f"{instant}_ns")
    return found


def _runs(life: Life, modules: Sequence[str]) -> bool:
    """Return whether it executed `python -c 'from MODULE import main; ...'` itself."""
    if not life.execs or not life.argv:
        return False
    return any(f"from {module} import" in text for text in life.argv for module in modules)
