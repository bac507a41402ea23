# SPDX-License-Identifier: Apache-2.0
"""What a finding is, and the words that all of them use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from zombiebpf.analysis import Analysis, Join
from zombiebpf.attribution.frames import origin
from zombiebpf.attribution.sites import Line, found_dead, least_ns, line_of, short
from zombiebpf.life import Actor, Life, State
from zombiebpf.stack import Frame, Stack

NAMED = 5  # processes or joins that a finding's evidence tells one by one

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True)
class Finding:
    """A conclusion from what was seen, with the evidence, and what to change."""

    kind: str  # leak | slow reap | stolen wait | lost status | wrong process | ...
    severity: str
    title: str
    evidence: Sequence[str]  # sentences
    cure: str  # one sentence
    site: Optional[Line]  # of the user's: where to change something
    lives: Sequence[Life] = ()
    joins: Sequence[Join] = ()
    incomplete: bool = False  # records were lost: something may contradict it


class Case:
    """An analysis, and what all verdicts ask of it."""

    def __init__(self, analysis: Analysis, threshold_ns: int) -> None:
        self.threshold_ns = threshold_ns
        self.meta, self.ended_ns = analysis.meta, analysis.meta.ended_ns
        self.joins = tuple(analysis.joins or ())
        self._by_pid: dict[int, list[Life]] = {}
        for life in analysis.lives:
            self._by_pid.setdefault(life.pid, []).append(life)
        self.children = [life for life in analysis.lives if not self._is_root(life, analysis)]
        self._siblings: dict[Optional[Line], int] = {}
        for life in self.children:
            where = line_of(life.fork_site)
            self._siblings[where] = self._siblings.get(where, 0) + 1

    def _is_root(self, life: Life, analysis: Analysis) -> bool:
        """A command that zombiebpf itself started; many scenarios have one each."""
        if not analysis.meta.command or life.parent is not None:
            return False  # taken over: it is somebody's child, as any other
        if life.forker is None:
            return life is analysis.lives[0]
        first = analysis.lives[0].forker
        same = first is not None and life.forker.pid == first.pid
        return life.forker.pid not in self._by_pid and (same or life is analysis.lives[0])

    def late(self, life: Life) -> bool:
        """Was it, or is it, a zombie for longer than anybody who waits would need?"""
        waited = self.waited_ns(life) or 0
        if found_dead(life) and life.state is State.ZOMBIE:
            waited = max(waited, self.age_ns(life))  # nobody has waited for it yet
        return waited >= max(self.threshold_ns, 1)

    def age_ns(self, life: Life) -> int:
        """From its start to the end of the observation."""
        return max(self.ended_ns + self.meta.boottime_offset_ns - life.start_ns, 0)

    def waited_ns(self, life: Life) -> Optional[int]:
        """How long it was a zombie, at the least; None: it was none, or none was seen."""
        return least_ns(life, self.meta)

    def forked_at(self, where: Optional[Line]) -> int:
        """How many children a line has forked."""
        return self._siblings.get(where, 0)

    def life_at(self, pid: Optional[int], ns: Optional[int]) -> Optional[Life]:
        """Whose PID it was at that time."""
        found = None
        for life in self._by_pid.get(pid or 0, ()):
            if ns is None or life.fork_ns is None or life.fork_ns <= ns:
                found = life
        return found

    def child_of(self, join: Join) -> Optional[Life]:
        """The one child of a join."""
        if len(join.children) != 1:
            return None
        pid, start_ns = join.children[0]
        for life in self._by_pid.get(pid, ()):
            if life.start_ns == start_ns or start_ns is None:
                return life
        return None


def duration(ns: int) -> str:
    """`87 us`, `3.2 s`: two digits at least, ASCII."""
    for unit_ns, unit in ((1, "ns"), (1_000, "us"), (1_000_000, "ms")):
        if ns < unit_ns * 999.5:
            return f"{ns / unit_ns:.3g} {unit}"
    seconds = ns / 1e9
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds / 60:.0f} min"


def actor(who: Optional[Actor]) -> str:
    """`python3 41230 (thread 41236)`."""
    if who is None:
        return "somebody not seen"
    name = f"{who.comm} {who.pid}" if who.comm else f"PID {who.pid}"
    return name if who.tid in (None, who.pid) else f"{name} (thread {who.tid})"


def at(frame: Optional[Frame]) -> str:
    """` at app.py:42 in main`; empty if there is no line."""
    return "" if frame is None else f" at {short(line_of_frame(frame))} in {frame.function}"


def line_of_frame(frame: Frame) -> Line:
    return Line(frame.file, frame.line, frame.function)


def forked(where: Optional[Line], lives: Sequence[Life]) -> str:
    """` forked at app.py:42`, or by whom."""
    if where is not None:
        return f" forked at {short(where)}"
    who = lives[0].forker or lives[0].parent if lives else None
    return f" of {actor(who)}" if who is not None else ""


def some(texts: Iterable[str]) -> list[str]:
    """The first few, and how many more there are."""
    every = list(texts)
    if len(every) <= NAMED:
        return every
    return [*every[:NAMED], f"and {len(every) - NAMED} more"]


def by_line(lives: Iterable[Life]) -> dict[tuple[Optional[Line], Optional[int]], list[Life]]:
    """Lives by the line that forked them; without one, by the forker."""
    groups: dict[tuple[Optional[Line], Optional[int]], list[Life]] = {}
    for life in lives:
        where = line_of(life.fork_site)
        above = life.forker or life.parent
        forker = above.pid if where is None and above is not None else None
        groups.setdefault((where, forker), []).append(life)
    return groups


def forked_by(stack: Optional[Stack]) -> str:
    """Which library made the child: multiprocessing, subprocess, asyncio... or os."""
    if stack is None:
        return "other"
    modules = []
    for frame in stack.frames:
        where = origin(frame.file)
        if where.user:
            break
        modules.append(where.module)
    for name in ("asyncio", "concurrent.futures", "loky", "billiard", "multiprocessing.pool"):
        if any(module.startswith(name) or f".{name}." in module for module in modules):
            return name
    for name in ("multiprocessing", "subprocess"):
        if any(module.split(".")[0] == name for module in modules):
            return name
    return "os"
