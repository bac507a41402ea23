# SPDX-License-Identifier: Apache-2.0
"""Answer the questions of reports and findings by queries: model/observation.py says which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Callable, NamedTuple, Optional, TypeVar

from zombiebpf.model.analysis import Analysis, Meta
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import LATE_NS, Key, Life, ReapedBy, State
from zombiebpf.model.observation import (
    Branch,
    Candidate,
    Density,
    JoinedChild,
    JoinSummary,
    Orphan,
    PlacedJoin,
    SiteSummary,
    Spreads,
)
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.model.statistics import Spread, Totals
from zombiebpf.trace import index as ix
from zombiebpf.trace.decode import actor, integer, required, text
from zombiebpf.trace.fork_tree import ForkTree
from zombiebpf.trace.index import Index
from zombiebpf.trace.spreads import Figures, collect, spread_of

Value = TypeVar("Value")

_STATES = (State.RUNNING, State.ZOMBIE, State.REAPED)  # in the order of index.py
_REAPED_BY = {each.value: each for each in ReapedBy}
_COUNTED = (
    3 << ix.STATE_SHIFT | ix.ALREADY | ix.ORPHANED | ix.KILLED | ix.HAS_INTERVAL
    | ix.INTERVAL_BOUND | ix.HAS_LATENCY | ix.LATENCY_BOUND | ix.ROOT
)  # fmt: skip
_MISSING = 63 << ix.MISSING_SHIFT
_REAPERS_SHOWN = 9  # of joins: enough to see whether there are several


class _Kind(NamedTuple):
    """Processes that are counted together."""

    fork_site: Optional[int]
    reap_site: Optional[int]
    kind: Optional[str]
    reaped_by: Optional[str]
    facts: int

    @property
    def state(self) -> int:
        return self.facts >> ix.STATE_SHIFT & 3


class _Durations(NamedTuple):
    """The figures of all durations, and by what reaped or forked."""

    whole: Optional[Figures]
    kinds: Mapping[Optional[str], Figures]
    fork_sites: Mapping[Optional[int], Figures]
    fork_kinds: Mapping[tuple[Optional[int], Optional[str]], Figures]
    reap_sites: Mapping[Optional[int], Figures]


class TraceObservation:
    """The processes and joins in an index. See Observation for the methods."""

    def __init__(
        self,
        index: Index,
        meta: Meta,
        has_joins: bool,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """`progress` is called now and then with the number of processes read, and of all."""
        self._index = index
        self._db = index.db
        self._progress = progress
        self.meta = meta
        self.has_joins = has_joins
        self.frame_at = lru_cache(maxsize=20_000)(self._frame_at)
        self.stack_at = lru_cache(maxsize=20_000)(self._stack_at)
        self.users_of = lru_cache(maxsize=20_000)(self._users_of)
        self._tree: Optional[ForkTree] = None
        self._sorts = 0

    @cached_property
    def count(self) -> int:
        """See Observation."""
        return int(self._db.execute("SELECT count(*) FROM temp.process").fetchone()[0])

    # counts and durations

    @cached_property
    def _kinds(self) -> Mapping[_Kind, int]:
        """The number of processes of each kind, in the order of their first ones."""
        rows = self._db.execute(
            "SELECT fork_site, reap_site, kind, reaped_by,"
            f" facts & {_COUNTED} | ifnull(duration_ns >= {LATE_NS}, 0) * {ix.LATE}"
            " FROM temp.process"
        )
        return {_Kind(*key): count for key, count in Counter(rows).items()}

    def totals(self) -> Totals:
        """See Observation."""
        result = Totals()
        for kind, count in self._kinds.items():
            facts = kind.facts
            result.processes += count
            result.orphaned += count * bool(facts & ix.ORPHANED)
            result.killed += count * bool(facts & ix.KILLED)
            result.late += count * bool(facts & ix.LATE)
            result.already_zombies += count * bool(facts & ix.ALREADY)
            result.interval_bounds += count * bool(facts & ix.INTERVAL_BOUND)
            result.latency_bounds += count * bool(facts & ix.LATENCY_BOUND)
            if kind.state == ix.RUNNING:
                result.running += count
            elif kind.state == ix.ZOMBIE:
                result.zombie += count
            else:
                name = f"by_{kind.reaped_by or ReapedBy.UNSEEN.value}"
                setattr(result, name, getattr(result, name) + count)
        result.longest_zombie_ns = self._longest("1")
        return result

    def children(self) -> int:
        """See Observation."""
        return sum(count for kind, count in self._kinds.items() if not kind.facts & ix.ROOT)

    def longest_zombie_ns(self) -> Optional[int]:
        """See Observation."""
        return self._longest(f"NOT facts & {ix.ROOT}")

    def _longest(self, where: str) -> Optional[int]:
        query = f"SELECT max(duration_ns) FROM temp.process WHERE {where}"
        found: Optional[int] = self._db.execute(query).fetchone()[0]
        return found

    def _durations(self, column: str, bit: int) -> _Durations:
        """Collect the figures of all groups in one pass in ascending order."""
        counts: tuple[Counter[Any], ...] = (Counter(), Counter(), Counter(), Counter(), Counter())
        memberships: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        for each, count in self._kinds.items():
            if each.facts & bit:
                key = (each.fork_site, each.kind, each.reap_site)
                groups = (None, each.kind, each.fork_site, key[:2], each.reap_site)
                memberships[key] = groups
                for counter, group in zip(counts, groups):
                    counter[group] += count
        figures = [
            {group: Figures(number) for group, number in counter.items()} for counter in counts
        ]
        groups_of = {
            key: tuple(found[group] for found, group in zip(figures, groups))
            for key, groups in memberships.items()
        }
        collect(
            self._db.execute(
                f"SELECT {column}, fork_site, kind, reap_site FROM temp.process"
                f" WHERE {column} IS NOT NULL ORDER BY {column}"
            ),
            groups_of,
            [*figures[0].values(), *figures[1].values()],
        )
        whole, kinds, fork_sites, fork_kinds, reap_sites = figures
        return _Durations(whole.get(None), kinds, fork_sites, fork_kinds, reap_sites)

    @cached_property
    def _intervals(self) -> _Durations:
        return self._durations("interval_ns", ix.HAS_INTERVAL)

    @cached_property
    def _latencies(self) -> _Durations:
        return self._durations("latency_ns", ix.HAS_LATENCY)

    def zombie_intervals(self) -> Spreads:
        """See Observation."""
        return self._spreads(self._intervals)

    def reap_latencies(self) -> Spreads:
        """See Observation."""
        return self._spreads(self._latencies)

    def reap_latency(self) -> Spread:
        """See Observation."""
        rows = self._db.execute(
            "SELECT latency_ns FROM temp.process WHERE latency_ns IS NOT NULL ORDER BY latency_ns"
        )
        has = ix.HAS_LATENCY
        return spread_of(rows, sum(n for each, n in self._kinds.items() if each.facts & has))

    def _spreads(self, found: _Durations) -> Spreads:
        whole = Spread(None, ()) if found.whole is None else found.whole.spread()
        reaped: Counter[str] = Counter()
        for each, count in self._kinds.items():
            if each.kind is not None:
                reaped[each.kind] += count
        by_kind = [
            (required(text(kind)), found.kinds[kind].spread())
            for kind, _ in reaped.most_common()
            if kind in found.kinds
        ]
        return Spreads(whole, by_kind)

    # lines

    def forked_at(self, site: Optional[Frame]) -> int:
        """See Observation."""
        return self._forks[site]

    @cached_property
    def _forks(self) -> Counter[Optional[Frame]]:
        forks: Counter[Optional[Frame]] = Counter()
        for each, count in self._kinds.items():
            if not each.facts & ix.ROOT:
                forks[self.frame_at(each.fork_site)] += count
        return forks

    def fork_sites(self) -> Sequence[SiteSummary]:
        """See Observation."""
        longest = dict(
            self._db.execute(
                "SELECT fork_site, max(duration_ns) FROM temp.process WHERE duration_ns IS NOT NULL"
                " AND duration_ns IS NOT interval_ns GROUP BY fork_site"
            )
        )
        return self._sites(lambda kind: kind.fork_site, self._intervals.fork_sites, longest)

    def reap_sites(self, latencies: bool = False) -> Sequence[SiteSummary]:
        """See Observation."""
        longest = dict(
            self._db.execute(
                "SELECT reap_site, max(duration_ns) FROM temp.process WHERE duration_ns IS NOT NULL"
                " AND duration_ns IS NOT interval_ns AND reap_ns IS NOT NULL GROUP BY reap_site"
            )
        )
        known = self._latencies.reap_sites if latencies else {}
        return self._sites(lambda kind: kind.reap_site, self._intervals.reap_sites, longest, known)

    def _sites(
        self,
        site_of: Callable[[_Kind], Optional[int]],
        intervals: Mapping[Optional[int], Figures],
        longest: Mapping[Optional[int], int],
        latencies: Optional[Mapping[Optional[int], Figures]] = None,
    ) -> Sequence[SiteSummary]:
        """`latencies`, of reap sites, says that only what was reaped counts."""
        only_reaped = latencies is not None
        groups: dict[Optional[int], dict[_Kind, int]] = {}
        for kind, count in self._kinds.items():
            if kind.state == ix.REAPED or not only_reaped:
                groups.setdefault(site_of(kind), {})[kind] = count
        found = []
        for site, kinds in groups.items():
            figures = intervals.get(site)
            distribution = figures.distribution() if figures is not None else None
            most = [longest.get(site), distribution.max_ns if distribution else None]
            latency = latencies.get(site) if latencies is not None else None
            reaped = Counter[str]()
            for kind, count in kinds.items():
                if kind.kind is not None:
                    reaped[kind.kind] += count
            found.append(
                SiteSummary(
                    site=self.frame_at(site),
                    children=sum(kinds.values()),
                    reaped_by={required(text(kind)): n for kind, n in reaped.most_common()},
                    medians={} if only_reaped else self._medians(site, reaped),
                    intervals=distribution,
                    latency_p50_ns=latency.distribution().p50_ns if latency else None,
                    longest_ns=max((each for each in most if each is not None), default=None),
                    already_zombies=_sum(kinds, lambda kind: bool(kind.facts & ix.ALREADY)),
                    late=_sum(kinds, lambda kind: bool(kind.facts & ix.LATE)),
                    still_zombies=_sum(kinds, lambda kind: kind.state == ix.ZOMBIE),
                    running=_sum(kinds, lambda kind: kind.state == ix.RUNNING),
                )
            )
        found.sort(key=lambda each: (each.site is None, -each.late, -each.children))
        return found

    def _medians(self, site: Optional[int], kinds: Iterable[str]) -> dict[str, int]:
        figures = {kind: self._intervals.fork_kinds.get((site, kind)) for kind in kinds}
        return {
            required(text(kind)): each.distribution().p50_ns
            for kind, each in figures.items()
            if each is not None
        }

    def joins_by_line(self, most: int) -> tuple[Sequence[JoinSummary], int]:
        """See Observation."""
        keys = ("nullif(kind, '')", "site", "ended_ns IS NULL",
                "CASE WHEN ended_ns IS NOT NULL THEN nullif(returned, '') END")  # fmt: skip
        execute = self._db.execute
        counts = Counter(execute(f"SELECT {', '.join(keys)} FROM temp.waiting"))
        groups = counts.most_common(most)
        same = " AND ".join(f"{key} IS ?" for key in keys)
        found = []
        for group, count in groups:
            lasted = f"{same} AND ended_ns - began_ns IS NOT NULL"
            known, longest, child_pid = execute(
                f"SELECT count(ended_ns - began_ns), max(ended_ns - began_ns), min(child_pid)"
                f" FROM temp.waiting WHERE {same}",
                group,
            ).fetchone()
            median = execute(
                f"SELECT ended_ns - began_ns FROM temp.waiting WHERE {lasted} ORDER BY 1"
                " LIMIT 1 OFFSET ?",
                (*group, (known + 1) // 2 - 1),
            ).fetchone()
            by = execute(
                f"SELECT DISTINCT by_pid, by_tid, by_comm FROM temp.waiting WHERE {same}"
                f" AND by_pid IS NOT NULL LIMIT {_REAPERS_SHOWN}",
                group,
            )
            found.append(
                JoinSummary(
                    kind=text(group[0]),
                    site=self.frame_at(group[1]),
                    returned=text(group[3]),
                    lasting=bool(group[2]),
                    count=count,
                    median_ns=median[0] if known else None,
                    longest_ns=longest,
                    child_pid=child_pid if count == 1 else None,
                    by=[required(actor(*row)) for row in by],
                )
            )
        return found, len(counts) - len(found)

    # records

    def lives(self) -> Iterator[Life]:
        """See Observation."""
        return self._read("ORDER BY n")

    def lives_by_end(self) -> Iterator[Life]:
        """See Observation."""
        return self._read("ORDER BY reap_ns IS NULL, reap_ns, n")

    def _read(self, order: str) -> Iterator[Life]:
        life_at, total = self._index.life_at, self.count
        query = f"SELECT row, {self._index.more} FROM temp.process {order}"
        for done, (row, more) in enumerate(self._db.execute(query)):
            if done % 1000 == 0:
                self._progress(done, total)
            part, id_ = life_at(row)
            yield part.life(id_, more)
        self._progress(total, total)

    def some(self, numbers: Iterable[int]) -> Iterator[Life]:
        """See Observation."""
        return map(self.life, numbers)

    def life(self, number: int) -> Life:
        """See Observation."""
        (row,) = self._db.execute("SELECT row FROM temp.process WHERE n = ?", (number,)).fetchone()
        part, id_ = self._index.life_at(row)
        return part.life(id_)

    def keys(self, numbers: Iterable[int]) -> Iterator[Key]:
        """See Observation."""
        for number in numbers:
            pid, start_ns = self._db.execute(
                "SELECT pid, start_ns FROM temp.process WHERE n = ?", (number,)
            ).fetchone()
            yield pid, required(integer(start_ns))

    def still_zombies(self, most: int) -> Sequence[Life]:
        """See Observation."""
        rows = self._db.execute(
            f"SELECT n FROM temp.process WHERE facts >> {ix.STATE_SHIFT} & 3 = {ix.ZOMBIE}"
            " ORDER BY n LIMIT ?",
            (most,),
        )
        return [self.life(row[0]) for row in rows]

    def absences(self) -> Iterator[tuple[Life, int]]:
        """See Observation."""
        rows = self._db.execute(
            "SELECT min(p.n), count(*) FROM temp.process AS p LEFT JOIN temp.gap AS g"
            f" ON g.row = p.row WHERE p.facts & {_MISSING} OR g.row IS NOT NULL"
            f" GROUP BY p.facts & {_MISSING}, g.signature ORDER BY min(p.n)"
        )
        return ((self.life(number), count) for number, count in rows)

    def joins(self) -> Iterator[Join]:
        """See Observation."""
        for (row,) in self._db.execute("SELECT row FROM temp.waiting ORDER BY n"):
            part, id_ = self._index.join_at(row)
            yield part.join(id_)

    def some_joins(self, numbers: Iterable[int]) -> Iterator[Join]:
        """See Observation."""
        for number in numbers:
            row = self._db.execute(
                "SELECT row FROM temp.waiting WHERE n = ?", (number,)
            ).fetchone()[0]
            part, id_ = self._index.join_at(row)
            yield part.join(id_)

    def analysis(self) -> Analysis:
        """Return everything as one value. Only for what is known to be small."""
        joins = list(self.joins()) if self.has_joins else None
        return Analysis(self.meta, list(self.lives()), joins)

    def _frame_at(self, number: Optional[int]) -> Optional[Frame]:
        if number is None:
            return None
        part, id_ = self._index.frame_at(number)
        return part.frame(id_)

    def _stack_at(self, number: Optional[int]) -> Optional[Stack]:
        if number is None:
            return None
        part, id_ = self._index.stack_at(number)
        return part.stack(id_)

    def stack(self, number: Optional[int]) -> Optional[Stack]:
        """See Observation."""
        return self.stack_at(number)

    # what findings are made of

    _CANDIDATE = (
        "p.n, p.fork_site, p.above_pid, p.above_tid, p.above_comm, p.fork_stack, p.facts,"
        " p.zombie_ns, ifnull(p.duration_ns, 0), p.kind, p.reaper_pid, p.init_pid"
    )

    def late_zombies(self, threshold_ns: int) -> Iterator[Candidate]:
        """See Observation."""
        age = "ifnull(p.duration_ns, 0), :now - p.start_ns"
        rows = self._db.execute(
            f"SELECT {self._CANDIDATE}, (SELECT w.n FROM temp.waiting AS w WHERE w.child = p.n"
            " AND w.kind IS NOT 'atexit' ORDER BY w.n DESC LIMIT 1),"
            " CASE WHEN p.kind = 'atexit' THEN (SELECT min(w.began_ns) FROM temp.waiting AS w"
            " WHERE w.kind = 'atexit' AND w.pid = p.reaper_pid) END"
            f" FROM temp.process AS p WHERE NOT p.facts & {ix.ROOT} AND (p.duration_ns >= :least"
            f" OR (p.facts & {ix.ALREADY} AND p.reap_ns IS NULL AND max({age}) >= :least))"
            " ORDER BY p.n",
            {
                "least": ix.fitting(max(threshold_ns, 1)),
                "now": ix.fitting(self.meta.ended_ns + self.meta.boottime_offset_ns),
            },
        )
        for *row, join, exit_join_ns in rows:
            yield self._candidate(row, join, exit_join_ns)

    def _candidate(
        self, row: Sequence[Any], join: Optional[int], exit_join_ns: Optional[int]
    ) -> Candidate:
        facts = row[6]
        returned = None
        if join is not None:
            returned = self._db.execute(
                "SELECT returned FROM temp.waiting WHERE n = ?", (join,)
            ).fetchone()[0]
        return Candidate(
            row[0], self.frame_at(row[1]), actor(*row[2:5]), row[5],
            _STATES[facts >> ix.STATE_SHIFT & 3], bool(facts & ix.ALREADY), row[7], row[8],
            text(row[9]), row[10], bool(facts & ix.GIVEN), row[11], join, text(returned),
            exit_join_ns,
        )  # fmt: skip

    def discarded(self) -> Iterator[tuple[Candidate, Optional[int]]]:
        """See Observation."""
        rows = self._db.execute(
            f"SELECT {self._CANDIDATE}, (SELECT max(w.n) FROM temp.waiting AS w"
            " WHERE w.child = p.n) FROM temp.process AS p WHERE p.reaped_by = 'kernel'"
            f" AND NOT p.facts & {ix.ROOT | ix.ORPHANED} ORDER BY p.n"
        )
        for *row, join in rows:
            yield self._candidate(row, None, None), join

    def stolen(self) -> Iterator[JoinedChild]:
        """See Observation."""
        return self._joined("w.returned = 'stolen'")

    def refused(self) -> Iterator[JoinedChild]:
        """See Observation."""
        return self._joined(
            "w.returned IS NULL AND w.ended_ns IS NOT NULL"
            f" AND p.facts & {ix.FORKED} AND w.pid IS NOT p.above_pid AND NOT EXISTS"
            " (SELECT 1 FROM temp.adoption AS a WHERE a.row = p.row AND a.to_pid = w.pid)"
        )

    def _joined(self, where: str) -> Iterator[JoinedChild]:
        rows = self._db.execute(
            "SELECT w.n, w.kind, w.site, w.child, p.reaped_by, p.reap_site FROM temp.waiting AS w"
            f" LEFT JOIN temp.process AS p ON p.n = w.child WHERE {where} ORDER BY w.n"
        )
        for number, kind, site, child, reaped_by, reap_site in rows:
            by = None if reaped_by is None else _REAPED_BY[reaped_by]
            yield JoinedChild(
                number, text(kind), self.frame_at(site), child, by, self.frame_at(reap_site)
            )

    def orphans(self) -> Iterator[Orphan]:
        """See Observation."""
        if not self._db.execute("SELECT EXISTS (SELECT 1 FROM temp.adoption)").fetchone()[0]:
            return
        self._index.need_pids()
        last = None
        for row in self._db.execute(
            "SELECT p.n, p.fork_site, p.above_pid, p.above_tid, p.above_comm, p.exit_ns, p.facts,"
            " a.ns, a.to_pid, a.to_tid, a.to_comm, q.pid, q.start_ns, q.wait_status & 127"
            " FROM temp.process AS p JOIN temp.adoption AS a ON a.row = p.row"
            " JOIN temp.process AS q ON q.n = (SELECT max(r.n) FROM temp.process AS r"
            " WHERE r.pid = a.from_pid AND (r.fork_ns IS NULL OR r.fork_ns <= a.ns))"
            f" WHERE NOT p.facts & {ix.ROOT} AND p.facts & {ix.ORPHANED} AND a.kind <> 'thread'"
            f" AND NOT a.while_zombie AND q.facts & {ix.KILLED} ORDER BY p.n, a.k"
        ):
            if row[0] == last:
                continue
            last = row[0]
            yield Orphan(
                row[0], self.frame_at(row[1]), actor(*row[2:5]), row[5],
                _STATES[row[6] >> ix.STATE_SHIFT & 3], row[7], required(actor(*row[8:11])),
                row[11], required(integer(row[12])), row[13],
            )  # fmt: skip

    # places in the fork tree and in time

    def tree(self, most: int, outliers: int, percentiles: bool = True) -> Sequence[Branch]:
        """See Observation."""
        self._tree = self._fork_tree()
        return self._tree.branches(most, outliers, percentiles)

    def _fork_tree(self) -> ForkTree:
        return ForkTree(self._db, self.count, self.meta, self.life, self.frame_at)

    def in_tree(self) -> Iterator[int]:
        """See Observation."""
        for done, number in enumerate(self._fork_tree().preorder()):
            if done % 1000 == 0:
                self._progress(done, self.count)
            yield number

    def ordered(
        self, rows: Iterable[tuple[int, int, int, int, str]]
    ) -> Iterator[tuple[int, int, int, int, str]]:
        """See Observation."""
        self._sorts += 1
        table = f"temp.ordered{self._sorts}"
        columns = "a INTEGER, b INTEGER, c INTEGER, d INTEGER, e TEXT"
        self._db.execute(f"DROP TABLE IF EXISTS {table}")
        self._db.execute(f"CREATE TABLE {table} ({columns})")
        self._db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", rows)
        yield from self._db.execute(f"SELECT a, b, c, d, e FROM {table} ORDER BY a, b, c, d")

    def had_pid(self, pid: int, before: Optional[int] = None) -> bool:
        """See Observation."""
        self._index.need_pids()
        query = "SELECT 1 FROM temp.process WHERE pid = ? AND n < ? LIMIT 1"
        most = self.count + 1 if before is None else before
        return self._db.execute(query, (pid, most)).fetchone() is not None

    def grouped_zombies(self, least_ns: int) -> Iterator[tuple[int, int, int]]:
        """See Observation."""
        return self._tree.zombies(least_ns) if self._tree is not None else iter(())

    def densities(self, bins: int, span: tuple[int, int]) -> Mapping[int, Density]:
        """See Observation."""
        assert self._tree is not None
        return self._tree.densities(bins, span)

    def span(self) -> tuple[int, int]:
        """See Observation."""
        begin, end = self._db.execute(
            "SELECT min(fork_ns), max(reap_ns) FROM temp.process"
        ).fetchone()
        first = min(each for each in (self.meta.started_ns, begin) if each is not None)
        return first, max(each for each in (self.meta.ended_ns, end, first + 1) if each is not None)

    def at(self, pid: Optional[int], ns: Optional[int]) -> Optional[int]:
        """See Observation."""
        users = self.users_of(pid) if pid else ()
        if len(users) < 2:
            if not users:
                return None
            n, fork_ns, reap_ns = users[0]
            forked = ns is None or fork_ns is None or fork_ns <= ns
        elif ns is None:
            return None
        else:
            row = self._db.execute(
                "SELECT n, reap_ns FROM temp.process WHERE pid = ? AND (fork_ns IS NULL"
                " OR fork_ns <= ?) ORDER BY fork_ns DESC, n DESC LIMIT 1",
                (pid, ns),
            ).fetchone()
            forked = row is not None
            n, reap_ns = row or (0, None)
        reaped = ns is not None and reap_ns is not None and reap_ns < ns
        return n if forked and not reaped else None

    def _users_of(self, pid: int) -> Sequence[tuple[int, Optional[int], Optional[int]]]:
        """Return number, fork and reap of the processes with a PID, of several the first two."""
        self._index.need_pids()
        return self._db.execute(
            "SELECT n, fork_ns, reap_ns FROM temp.process WHERE pid = ? LIMIT 2", (pid,)
        ).fetchall()

    def placed_joins(self, most: int) -> Iterator[PlacedJoin]:
        """See Observation."""
        lasted = f"ifnull(ended_ns, {self.meta.ended_ns}) - ifnull(began_ns, ended_ns)"
        rows = self._db.execute(
            f"SELECT row FROM (SELECT n, row FROM temp.waiting ORDER BY {lasted} DESC, n LIMIT ?)"
            " ORDER BY n",
            (most,),
        ).fetchall()
        for (row,) in rows:
            part, id_ = self._index.join_at(row)
            join = part.join(id_)
            instant = join.began_ns if join.began_ns is not None else join.ended_ns
            children = join.children or [Child(join.child_pid or 0, None)]
            found = (self._child(each, instant) for each in children)
            yield PlacedJoin(
                join, self.at(join.pid, instant), [each for each in found if each is not None]
            )

    def _child(self, child: Child, instant: Optional[int]) -> Optional[int]:
        """Return the process with the child's start, else the one that had its PID then."""
        if child.start_ns is not None:
            self._index.need_pids()
            row = self._db.execute(
                "SELECT n FROM temp.process WHERE pid = ? AND start_ns = ? ORDER BY n DESC LIMIT 1",
                (child.pid, child.start_ns),
            ).fetchone()
            if row is not None:
                return int(row[0])
        return self.at(child.pid, instant)


def _sum(kinds: Mapping[_Kind, int], holds: Callable[[_Kind], bool]) -> int:
    return sum(count for kind, count in kinds.items() if holds(kind))
