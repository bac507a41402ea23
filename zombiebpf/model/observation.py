# SPDX-License-Identifier: Apache-2.0
"""A whole observation as reports and findings ask for it, without all processes in memory.

A process is named by its number: 1, 2, 3... in fork order. A join is numbered in the order in
which joins began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Optional, Protocol

from zombiebpf.model.analysis import Analysis, Meta
from zombiebpf.model.join import Join
from zombiebpf.model.life import Actor, Key, Life, ReapedBy, State
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.model.statistics import Distribution, Spread, Totals

TREE_LEVELS = 12  # of the fork tree, of which `Branch.siblings` is known


class Candidate(NamedTuple):
    """What findings group a process by, without its record."""

    n: int
    site: Optional[Frame]  # the line that forked it
    above: Optional[Actor]  # its forker, else its parent
    stack: Optional[int]  # the forker's, for Observation.stack()
    state: State
    already_zombie: bool
    zombie_ns: Optional[int]
    duration_ns: int  # as a zombie, see Life.zombie_duration_ns(); 0: none was observed
    kind: Optional[str]  # Life.reap_kind
    reaper_pid: Optional[int]
    given_as_zombie: bool  # whether it was reparented while it was a zombie
    init_pid: Optional[int]  # the init that adopted it and should have waited for it
    join: Optional[int]  # the last join for it, other than that of an exit handler
    join_returned: Optional[str]  # what that join returned
    exit_join_ns: Optional[int]  # when the exit handler of its reaper began to join


class Orphan(NamedTuple):
    """A child whose parent was killed by a signal: its reparenting then."""

    n: int
    site: Optional[Frame]
    above: Optional[Actor]
    exit_ns: Optional[int]
    state: State
    ns: int  # of the reparenting
    adopter: Actor
    parent_pid: int
    parent_start_ns: int
    parent_signal: int


class JoinedChild(NamedTuple):
    """A join with the one child that it was for."""

    join: int
    kind: Optional[str]
    site: Optional[Frame]
    child: Optional[int]  # None: unknown, or several
    reaped_by: Optional[ReapedBy]  # the child
    reap_site: Optional[Frame]


@dataclass(frozen=True)
class SiteSummary:
    """The children that one line of the user's code forked, or reaped. Nanoseconds."""

    site: Optional[Frame]  # None: the line is unknown, or its process is not Python
    children: int
    reaped_by: Mapping[str, int]  # kind of the reaping call -> children, most frequent first
    medians: Mapping[str, int]  # kind of the reaping call -> median zombie interval, if known
    intervals: Optional[Distribution]  # zombie intervals
    latency_p50_ns: Optional[int]  # of reap sites only: the median reap latency
    longest_ns: Optional[int]  # the longest zombie, reaped or not
    already_zombies: int  # zombies since before the observation: `longest_ns` is a lower bound
    late: int  # zombies for LATE_NS or longer, reaped or not
    still_zombies: int
    running: int


@dataclass(frozen=True)
class JoinSummary:
    """Joins of one kind, at one line, with one result."""

    kind: Optional[str]
    site: Optional[Frame]
    returned: Optional[str]
    lasting: bool  # they had not returned at the end of the observation
    count: int
    median_ns: Optional[int]  # from begin to end
    longest_ns: Optional[int]
    child_pid: Optional[int]  # of one join alone
    by: Sequence[Actor]  # the reapers, without those that were the waiting thread itself; a few


@dataclass(frozen=True)
class Spreads:
    """The durations of all processes, and by the kind of the call that reaped them."""

    whole: Spread
    by_kind: Sequence[tuple[str, Spread]]  # the kind that reaped most processes first


class Branch(NamedTuple):
    """A place in the fork tree: a process, or several siblings that have no place of their own."""

    n: Optional[int]  # None: several
    life: Optional[Life]
    group: Optional[Group]
    depth: int  # 0: its forker was not observed
    parent: int  # index of its forker's place; -1: none
    siblings: tuple[bool, ...]  # on each of TREE_LEVELS levels: does a younger sibling follow?
    children: bool


@dataclass(frozen=True)
class Group:
    """Siblings that one line forked, or of several lines if `mixed`."""

    number: int
    site: Optional[Frame]
    mixed: bool
    forker: Optional[Actor]
    count: int
    running: int  # at the end of the observation
    zombies: int
    first_ns: Optional[int]  # the first fork
    last_ns: Optional[int]  # the last reap, or the end of the observation
    longest_ns: Optional[int]  # the longest zombie interval
    intervals: Optional[Distribution]  # zombie intervals, if they were asked for


class PlacedJoin(NamedTuple):
    """A join with the processes that it is about, as far as they were observed."""

    join: Join
    waiter: Optional[int]
    children: Sequence[int]


class Density(NamedTuple):
    """The mean numbers of running processes and zombies in equal parts of a span."""

    running: Sequence[float]
    zombie: Sequence[float]


class Observation(Protocol):
    """An observation that answers questions. Every sequence is in fork order, if not said else."""

    @property
    def meta(self) -> Meta:
        """The circumstances."""

    @property
    def count(self) -> int:
        """The number of processes."""

    @property
    def has_joins(self) -> bool:
        """Whether joins were observed, even if there are none."""

    def totals(self) -> Totals:
        """Count the processes by what became of them."""

    def zombie_intervals(self) -> Spreads:
        """Return the observed zombie intervals; one with a late bound after the reap is 0."""

    def reap_latencies(self) -> Spreads:
        """Return the observed reap latencies."""

    def reap_latency(self) -> Spread:
        """Return the observed reap latencies, not by what reaped: faster than reap_latencies()."""

    def longest_zombie_ns(self) -> Optional[int]:
        """Return the longest zombie duration, reaped or not, of a child; None: no zombie.

        Commands that zombiebpf started are not counted.
        """

    def children(self) -> int:
        """Count the processes that are not commands which zombiebpf started."""

    def forked_at(self, site: Optional[Frame]) -> int:
        """Count the children that a line forked."""

    def fork_sites(self) -> Sequence[SiteSummary]:
        """Summarize by the line that forked: most late zombies first, then most children."""

    def reap_sites(self, latencies: bool = False) -> Sequence[SiteSummary]:
        """Summarize the reaped processes by the line that reaped, in that order.

        Without `latencies` the median latencies are left out, which is faster.
        """

    def joins_by_line(self, most: int) -> tuple[Sequence[JoinSummary], int]:
        """Summarize the joins by kind, line and result; the most frequent first.

        Return the first `most` summaries, and how many more there are.
        """

    def absences(self) -> Iterator[tuple[Life, int]]:
        """Yield an example of each set of unknown facts, and how many processes have that."""

    def lives(self) -> Iterator[Life]:
        """Yield all processes."""

    def lives_by_end(self) -> Iterator[Life]:
        """Yield the reaped processes in the order of their reaps, then the others."""

    def life(self, number: int) -> Life:
        """Return a process by its number."""

    def some(self, numbers: Iterable[int]) -> Iterator[Life]:
        """Yield the processes with these numbers."""

    def stack(self, number: Optional[int]) -> Optional[Stack]:
        """Return a call stack by the number that a Candidate has."""

    def keys(self, numbers: Iterable[int]) -> Iterator[Key]:
        """Yield (pid, start_ns) of the processes with these numbers."""

    def still_zombies(self, most: int) -> Sequence[Life]:
        """Return up to `most` of the processes that are zombies at the end."""

    def joins(self) -> Iterator[Join]:
        """Yield all joins, in the order in which they began."""

    def analysis(self) -> Analysis:
        """Return everything as one value. Only for what is known to be small."""

    def some_joins(self, numbers: Iterable[int]) -> Iterator[Join]:
        """Yield the joins with these numbers."""

    def late_zombies(self, threshold_ns: int) -> Iterator[Candidate]:
        """Yield children that were zombies for `threshold_ns` or longer.

        A zombie since before the observation that nobody reaped counts from its start.
        """

    def discarded(self) -> Iterator[tuple[Candidate, Optional[int]]]:
        """Yield children that the kernel released itself, with the last join for each.

        Those that another process had adopted are left out.
        """

    def stolen(self) -> Iterator[JoinedChild]:
        """Yield the joins for a child that another call had reaped."""

    def refused(self) -> Iterator[JoinedChild]:
        """Yield the joins that failed, for a child that another process had forked."""

    def orphans(self) -> Iterator[Orphan]:
        """Yield children whose parent a signal killed, with their first reparenting by that."""

    def tree(self, most: int, outliers: int, percentiles: bool = True) -> Sequence[Branch]:
        """Return the fork tree, forkers before their children.

        If there are more than `most` processes, about `outliers` have a place of their own:
        zombies, reparented ones, the longest zombies, and those with most children. All others
        are in groups. Without `percentiles` their `intervals` are left out, which is faster.
        """

    def grouped_zombies(self, least_ns: int) -> Iterator[tuple[int, int, int]]:
        """Yield the zombies of `least_ns` or longer in groups of the last tree().

        Each is the number of its group, when it became a zombie and when it was reaped, or the end.
        """

    def densities(self, bins: int, span: tuple[int, int]) -> Mapping[int, Density]:
        """Return the density of each group of the last tree(), by its number.

        `span` is divided into `bins` parts.
        """

    def placed_joins(self, most: int) -> Iterator[PlacedJoin]:
        """Yield up to `most` joins with their processes; if there are more, the longest ones."""

    def in_tree(self) -> Iterator[int]:
        """Yield the numbers of all processes in the order of the fork tree."""

    def ordered(
        self, rows: Iterable[tuple[int, int, int, int, str]]
    ) -> Iterator[tuple[int, int, int, int, str]]:
        """Sort rows by their numbers, in a temporary file: there may be any number of them."""

    def had_pid(self, pid: int, before: Optional[int] = None) -> bool:
        """Return whether a process had a PID; with `before`, one with a lower number."""

    def span(self) -> tuple[int, int]:
        """Return the first and the last instant, of the observation or of a process."""

    def at(self, pid: Optional[int], ns: Optional[int]) -> Optional[int]:
        """Return the process that had a PID at `ns`; None: none that was observed.

        With `ns` None, the result is None too if several processes had the PID.
        """


Observe = Callable[[Analysis], AbstractContextManager[Observation]]  # of processes in memory
