# SPDX-License-Identifier: Apache-2.0
"""A finding, and the analysis and words that the checks behind all findings use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from zombiebpf.attribution.frames import origin
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Join
from zombiebpf.model.life import Actor, Life, State
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.wording.wording import Wording

MAX_NAMED = 5  # processes or joins that the evidence of a finding names one by one

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True)
class Finding:
    """A conclusion from an observation, with its evidence and the fix."""

    kind: str  # leak | slow reap | stolen wait | lost status | wrong process | ...
    severity: str
    title: str
    evidence: Sequence[str]  # sentences
    fix: str  # one sentence
    site: Optional[Frame]  # the line of the user's code to change
    lives: Sequence[Life] = ()
    joins: Sequence[Join] = ()
    incomplete: bool = False  # records were lost: a lost one might contradict it


class DiagnosisContext:
    """An analysis, with the questions that all checks ask. `words` formats its facts.

    A zombie is late from `threshold_ns` on.
    """

    def __init__(self, analysis: Analysis, threshold_ns: int, words: Wording) -> None:
        self.words = words
        self.threshold_ns = threshold_ns
        self.meta, self.ended_ns = analysis.meta, analysis.meta.ended_ns
        self.joins = tuple(analysis.joins or ())
        self._by_pid: dict[int, list[Life]] = {}
        for life in analysis.lives:
            self._by_pid.setdefault(life.pid, []).append(life)
        self.children = [life for life in analysis.lives if not self._is_root(life, analysis)]
        self._forked_at = Counter(life.fork_site for life in self.children)

    def _is_root(self, life: Life, analysis: Analysis) -> bool:
        """Return whether zombiebpf started it as a command. A scenario can have several."""
        if not analysis.meta.command or life.parent is not None:
            return False  # it existed before the observation, so it is another process's child
        if life.forker is None:
            return life is analysis.lives[0]
        first, pid = analysis.lives[0].forker, life.forker.pid
        return first is not None and pid == first.pid and pid not in self._by_pid

    def is_late(self, life: Life) -> bool:
        """Return whether it was a zombie for `threshold_ns` or longer, or still is."""
        waited = self.zombie_ns(life)
        if life.already_zombie and life.state is State.ZOMBIE:
            waited = max(waited, self.age_ns(life))  # nobody has waited for it since its start
        return waited >= max(self.threshold_ns, 1)

    def age_ns(self, life: Life) -> int:
        """Return the time from the start of a process to the end of the observation."""
        return max(self.ended_ns + self.meta.boottime_offset_ns - life.start_ns, 0)

    def zombie_ns(self, life: Life) -> int:
        """Return Life.zombie_duration_ns() in this observation; 0 if no zombie was observed."""
        return life.zombie_duration_ns(self.meta.started_ns, self.ended_ns) or 0

    def forked_at(self, site: Optional[Frame]) -> int:
        """Return how many children a line has forked."""
        return self._forked_at[site]

    def actor(self, actor: Optional[Actor]) -> str:
        """Return `python3 41230`, as a part of a sentence."""
        return self.words.actor(actor, "somebody not seen")

    def origin_of(self, site: Optional[Frame], lives: Sequence[Life]) -> str:
        """Return ` forked at app.py:42`, or ` of python3 41230` if no line is known."""
        if site is not None:
            return f" forked{self.words.at_line(site)}"
        parent = common_parent(lives)
        return f" of {self.actor(parent)}" if parent is not None else ""

    def life_at(self, pid: int, ns: int) -> Optional[Life]:
        """Return the process that had a PID at a time."""
        found = None
        for life in self._by_pid.get(pid, ()):
            if life.fork_ns is None or life.fork_ns <= ns:
                found = life
        return found

    def child_of(self, join: Join) -> Optional[Life]:
        """Return the child of a join; None: unknown, or several."""
        if len(join.children) != 1:
            return None
        pid, start_ns = join.children[0]
        for life in self._by_pid.get(pid, ()):
            if life.start_ns == start_ns or start_ns is None:
                return life
        return None


def first_few(texts: Iterable[str]) -> list[str]:
    """Return the first MAX_NAMED texts, and how many more there are."""
    every = list(texts)
    if len(every) <= MAX_NAMED:
        return every
    return [*every[:MAX_NAMED], f"and {len(every) - MAX_NAMED} more"]


def common_parent(lives: Sequence[Life]) -> Optional[Actor]:
    """Return the process that forked all of them, with its thread if that is common, too."""
    parents = dict.fromkeys(life.forker or life.parent for life in lives)
    first = next(iter(parents), None)
    if first is None or any(each is None or each.pid != first.pid for each in parents):
        return None
    return first if len(parents) == 1 else first._replace(tid=None)


def by_fork_site(lives: Iterable[Life]) -> list[tuple[Optional[Frame], list[Life]]]:
    """Group processes by the line that forked them; without one, by the forker."""
    groups: dict[tuple[Optional[Frame], Optional[int]], list[Life]] = {}
    for life in lives:
        site = life.fork_site
        parent = life.forker or life.parent
        pid = parent.pid if site is None and parent is not None else None
        groups.setdefault((site, pid), []).append(life)
    return [(site, group) for (site, _), group in groups.items()]


def forking_library(stack: Optional[Stack]) -> str:
    """Return the library that forked: multiprocessing, asyncio..., `os`, or `other` than Python."""
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
