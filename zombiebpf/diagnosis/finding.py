# SPDX-License-Identifier: Apache-2.0
"""A finding, and the observation and words that the checks behind all findings use.

Candidates of a finding are grouped as they stream by: a group keeps counts, a few examples
and the numbers of its processes, eight bytes each.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from zombiebpf.attribution.frames import origin
from zombiebpf.model.life import Actor, Life, State
from zombiebpf.model.observation import Candidate, Observation
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.wording.wording import Wording

MAX_NAMED = 5  # processes or joins that the evidence of a finding names one by one

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)

Numbers = Sequence[int]  # of processes or joins, see model/observation.py


class Tally:
    """What is counted of the processes of a finding on zombies."""

    def __init__(self, library: Callable[[Optional[int]], str]) -> None:
        """`library` returns the library that forked, by the number of the forker's stack."""
        self._library = library
        self.numbers = array("q")
        self.first: Candidate
        self.longest: Candidate  # the first one of them
        self.still = self.already = 0
        self.shortest_ns = 0
        self.sites: Counter[Optional[Frame]] = Counter()
        # by reaping call, forking library and whether it is a zombie still
        self.causes: Counter[tuple[Optional[str], str, bool]] = Counter()
        self.parents = Parents()
        self._examples: list[tuple[int, int]] = []  # (-duration, number), ascending

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, each: Candidate) -> None:
        """Count a process; they come in fork order."""
        if not self.numbers:
            self.first = self.longest = each
            self.shortest_ns = each.duration_ns
        elif each.duration_ns > self.longest.duration_ns:
            self.longest = each
        self.numbers.append(each.n)
        still = each.state is State.ZOMBIE
        self.still += still
        self.already += each.already_zombie
        self.shortest_ns = min(self.shortest_ns, each.duration_ns)
        self.sites[each.site] += 1
        self.causes[each.kind, self._library(each.stack), still] += 1
        self.parents.add(each.above)
        key = (-each.duration_ns, each.n)
        if len(self._examples) < MAX_NAMED or key < self._examples[-1]:
            insort(self._examples, key)
            del self._examples[MAX_NAMED:]

    @property
    def examples(self) -> list[int]:
        """Return the numbers of those that were zombies for longest, up to MAX_NAMED."""
        return [number for _, number in self._examples]


class Parents:
    """Whether processes have one parent in common."""

    def __init__(self) -> None:
        self._first: Optional[Actor] = None
        self._none = self._several = self._threads = False

    def add(self, parent: Optional[Actor]) -> None:
        """Take the forker or parent of a process."""
        if parent is None:
            self._none = True
        elif self._first is None:
            self._first = parent
        elif parent != self._first:
            self._threads = True
            self._several = self._several or parent.pid != self._first.pid

    def merge(self, other: Parents) -> None:
        """Take all that another one took."""
        if other._none:
            self.add(None)
        if other._first is not None:
            self.add(other._first)
        self._threads = self._threads or other._threads
        self._several = self._several or other._several

    @property
    def common(self) -> Optional[Actor]:
        """Return the process that forked all of them, with its thread if that is common, too."""
        first = self._first
        if first is None or self._none or self._several:
            return None
        return first._replace(tid=None) if self._threads else first


@dataclass(frozen=True)
class Finding:
    """A conclusion from an observation, with its evidence and the fix."""

    kind: str  # leak | slow reap | stolen wait | lost status | wrong process | ...
    severity: str
    title: str
    evidence: Sequence[str]  # sentences
    fix: str  # one sentence
    site: Optional[Frame]  # the line of the user's code to change
    processes: Numbers = ()
    joins: Numbers = ()
    zombies: Optional[Tally] = None  # of a finding on zombies
    incomplete: bool = False  # records were lost: a lost one might contradict it


class DiagnosisContext:
    """An observation, with the questions that all checks ask. `words` formats its facts.

    A zombie is late from `threshold_ns` on.
    """

    def __init__(self, observation: Observation, threshold_ns: int, words: Wording) -> None:
        self.words = words
        self.threshold_ns = threshold_ns
        self.observation = observation
        self.meta, self.ended_ns = observation.meta, observation.meta.ended_ns
        self._libraries: dict[Optional[int], str] = {}

    def tally(self) -> Tally:
        """Return an empty tally."""
        return Tally(self.library)

    def library(self, stack: Optional[int]) -> str:
        """Return the library that forked, by the number of the forker's stack."""
        found = self._libraries.get(stack)
        if found is None:
            found = self._libraries[stack] = forking_library(self.observation.stack(stack))
        return found

    def age_ns(self, life: Life) -> int:
        """Return the time from the start of a process to the end of the observation."""
        return max(self.ended_ns + self.meta.boottime_offset_ns - life.start_ns, 0)

    def zombie_ns(self, life: Life) -> int:
        """Return Life.zombie_duration_ns() in this observation; 0 if no zombie was observed."""
        return life.zombie_duration_ns(self.meta.started_ns, self.ended_ns) or 0

    def forked_at(self, site: Optional[Frame]) -> int:
        """Return how many children a line has forked."""
        return self.observation.forked_at(site)

    def actor(self, actor: Optional[Actor]) -> str:
        """Return `python3 41230`, as a part of a sentence."""
        return self.words.actor(actor, "somebody not seen")

    def origin_of(self, site: Optional[Frame], parents: Parents) -> str:
        """Return ` forked at app.py:42`, or ` of python3 41230` if no line is known."""
        if site is not None:
            return f" forked{self.words.at_line(site)}"
        parent = parents.common
        return f" of {self.actor(parent)}" if parent is not None else ""

    def lives(self, numbers: Iterable[int]) -> Iterable[Life]:
        """Yield the records of the first MAX_NAMED numbers."""
        return self.observation.some(list(numbers)[:MAX_NAMED])


def first_few(texts: Iterable[str], count: int) -> list[str]:
    """Return the first MAX_NAMED of `count` texts, and how many more there are.

    `texts` may leave out what is not returned.
    """
    found = list(texts)[:MAX_NAMED]
    return found if count <= MAX_NAMED else [*found, f"and {count - MAX_NAMED} more"]


def site_key(each: Candidate) -> tuple[Optional[Frame], Optional[int]]:
    """Return what processes are grouped by: the line that forked; without one, the forker."""
    pid = each.above.pid if each.site is None and each.above is not None else None
    return each.site, pid


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
