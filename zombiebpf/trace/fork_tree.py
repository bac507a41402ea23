# SPDX-License-Identifier: Apache-2.0
"""The fork tree by queries: which processes have a place of their own, and groups of all others.

An actor is named by its PID alone: the forker of a process is the one that had this PID last
before the fork, and had not been reaped by then.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional

from zombiebpf.model.analysis import Meta
from zombiebpf.model.life import Life
from zombiebpf.model.observation import TREE_LEVELS, Branch, Density, Group
from zombiebpf.model.stack import Frame
from zombiebpf.trace import index as ix
from zombiebpf.trace.decode import actor
from zombiebpf.trace.part import REPARENTS
from zombiebpf.trace.spreads import Figures, collect

_ROUNDS = 64  # levels of processes without a place between a process and the one it is shown under
_LEAST_GROUPS = 20  # groups that are not merged, at least

_BEGIN = "ifnull(p.fork_ns, -1)"  # siblings are in this order, then by start and number

_Order = tuple[int, Any, int]


class _Place(NamedTuple):
    """A process with a place of its own, or a group."""

    order: _Order
    n: Optional[int]
    group: Optional[Group]


class ForkTree:
    """The fork tree of the processes in the table `process`."""

    def __init__(
        self,
        db: sqlite3.Connection,
        count: int,
        meta: Meta,
        life: Callable[[int], Life],
        frame: Callable[[Optional[int]], Optional[Frame]],
    ) -> None:
        self._db = db
        self._count = count
        self._meta = meta
        self._groups: dict[int, int] = {}  # key in the table `member` -> number of its group
        self._life = life
        self._frame = frame
        for table in ("forker", "tree", "kept", "member"):
            db.execute(f"DROP TABLE IF EXISTS temp.{table}")
        db.execute(
            "CREATE TEMP TABLE forker (pid INTEGER, begin INTEGER, start_ns INTEGER, n INTEGER,"
            " reap_ns INTEGER, PRIMARY KEY (pid, begin, start_ns, n)) WITHOUT ROWID"
        )
        db.execute(
            f"INSERT INTO temp.forker SELECT pid, {_BEGIN}, start_ns, n, reap_ns"
            " FROM temp.process AS p WHERE pid IN (SELECT DISTINCT above_pid FROM temp.process)"
        )
        db.execute("CREATE TEMP TABLE tree (n INTEGER PRIMARY KEY, parent INTEGER)")
        db.execute(
            "INSERT INTO temp.tree SELECT n, (SELECT CASE WHEN q.reap_ns < p.fork_ns THEN NULL"
            " ELSE q.n END FROM temp.forker AS q WHERE q.pid = p.above_pid"
            f" AND (q.begin, q.start_ns, q.n) < ({_BEGIN}, p.start_ns, p.n)"
            " ORDER BY q.begin DESC, q.start_ns DESC, q.n DESC LIMIT 1) FROM temp.process AS p"
        )

    def preorder(self) -> Iterator[int]:
        """Yield all processes, forkers before their children."""
        self._db.execute("CREATE INDEX temp.by_parent ON tree (parent)")
        rows = self._db.execute(
            "WITH RECURSIVE place (n, depth, begin, start_ns) AS ("
            f" SELECT n, 0, {_BEGIN}, p.start_ns FROM temp.tree AS t JOIN temp.process AS p"
            " USING (n) WHERE t.parent IS NULL UNION ALL"
            f" SELECT t.n, place.depth + 1, {_BEGIN}, p.start_ns FROM place JOIN temp.tree AS t"
            " ON t.parent = place.n JOIN temp.process AS p ON p.n = t.n"
            " ORDER BY 2 DESC, 3, 4, 1) SELECT n FROM place"
        )
        return (row[0] for row in rows)

    def branches(self, most: int, outliers: int, percentiles: bool) -> Sequence[Branch]:
        """See Observation.tree()."""
        places: dict[Optional[int], list[_Place]] = {}
        if self._count <= most:
            self._db.execute("CREATE TEMP TABLE kept (n INTEGER PRIMARY KEY)")
            self._db.execute("INSERT INTO temp.kept SELECT n FROM temp.tree")
        else:
            self._keep(outliers)
            self._make_groups(places, max(outliers // 50, _LEAST_GROUPS), percentiles)
        for n, parent, *order in self._db.execute(
            f"SELECT n, t.parent, {_BEGIN}, p.start_ns FROM temp.kept JOIN temp.tree AS t USING (n)"
            " JOIN temp.process AS p USING (n)"
        ):
            places.setdefault(parent, []).append(_Place((order[0], order[1], n), n, None))
        for siblings in places.values():
            siblings.sort(
                key=lambda each: (each.order[0], _comparable(each.order[1]), each.order[2])
            )
        return self._depth_first(places)

    def _depth_first(self, places: Mapping[Optional[int], Sequence[_Place]]) -> list[Branch]:
        found: list[Branch] = []
        todo: list[tuple[_Place, int, int, tuple[bool, ...]]] = [
            (each, 0, -1, ()) for each in reversed(places.get(None, ()))
        ]
        while todo:
            place, depth, parent, siblings = todo.pop()
            below = places.get(place.n, ()) if place.n is not None else ()
            life = self._life(place.n) if place.n is not None else None
            number = len(found)
            found.append(Branch(place.n, life, place.group, depth, parent, siblings, bool(below)))
            for child in reversed(below):
                follows = siblings
                if depth < TREE_LEVELS:
                    follows = (*siblings, child is not below[-1])
                todo.append((child, depth + 1, number, follows))
        return found

    def _keep(self, outliers: int) -> None:
        """Choose the processes with a place of their own."""
        db = self._db
        db.execute("CREATE TEMP TABLE kept (n INTEGER PRIMARY KEY)")
        db.execute(
            f"INSERT INTO temp.kept SELECT n FROM temp.process ORDER BY facts >> {ix.STATE_SHIFT}"
            f" & 3 = {ix.ZOMBIE} OR facts & {ix.ALREADY} <> 0 DESC, facts & {REPARENTS} <> 0 DESC,"
            " ifnull(interval_ns, 0) DESC, n LIMIT ?",
            (outliers,),
        )
        db.execute(
            "INSERT OR IGNORE INTO temp.kept SELECT parent FROM temp.tree WHERE parent IS NOT NULL"
            " GROUP BY parent ORDER BY count(*) DESC, parent LIMIT ?",
            (outliers,),
        )
        for _ in range(_ROUNDS):  # what has none is shown under the nearest one above that has
            hidden = db.execute(
                "SELECT 1 FROM temp.tree WHERE parent IS NOT NULL"
                " AND parent NOT IN (SELECT n FROM temp.kept) LIMIT 1"
            ).fetchone()
            if hidden is None:
                return
            db.execute(
                "UPDATE temp.tree SET parent = (SELECT t.parent FROM temp.tree AS t"
                " WHERE t.n = tree.parent) WHERE parent IS NOT NULL"
                " AND parent NOT IN (SELECT n FROM temp.kept)"
            )
        db.execute(
            "UPDATE temp.tree SET parent = NULL WHERE parent NOT IN (SELECT n FROM temp.kept)"
        )

    def _make_groups(
        self, places: dict[Optional[int], list[_Place]], most: int, percentiles: bool
    ) -> None:
        """Group the others by the place above them and their line; the smallest are one group."""
        db = self._db
        sites = db.execute("SELECT ifnull(max(fork_site), 0) + 2 FROM temp.process").fetchone()[0]
        started_ns, ended_ns = self._meta.started_ns, self._meta.ended_ns
        already = f"facts & {ix.ALREADY}"
        dead = "coalesce(nullif(exit_ns, 0), nullif(zombie_ns, 0), nullif(reap_ns, 0)"
        db.execute(
            "CREATE TEMP TABLE member (n INTEGER PRIMARY KEY, key INTEGER, facts INTEGER,"
            " fork_ns INTEGER, interval_ns INTEGER, run_ns INTEGER, dead_ns INTEGER,"
            " zombie_ns INTEGER, gone_ns INTEGER)"
        )
        db.execute(
            f"INSERT INTO temp.member SELECT n, ifnull(parent, 0) * {sites}"
            f" + ifnull(fork_site + 1, 0), facts, fork_ns, interval_ns,"
            f" CASE WHEN NOT {already} THEN fork_ns END, {dead}, {ended_ns}),"
            f" CASE WHEN {already} THEN {started_ns} ELSE zombie_ns END,"
            f" ifnull(reap_ns, {ended_ns}) FROM temp.tree JOIN temp.process USING (n)"
            " WHERE n NOT IN (SELECT n FROM temp.kept)"
        )
        state = f"facts >> {ix.STATE_SHIFT} & 3"
        rows = db.execute(
            f"SELECT key, count(*), count(interval_ns), sum({state} = {ix.RUNNING}),"
            f" sum({state} = {ix.ZOMBIE}), min(fork_ns), min(n), max(gone_ns), max(interval_ns)"
            " FROM temp.member GROUP BY key"
        ).fetchall()
        rows.sort(key=lambda row: (-row[1], row[0]))
        self._groups = {row[0]: min(number, most) for number, row in enumerate(rows)}
        figures = self._group_figures(rows) if percentiles else {}
        for number in range(min(len(rows), most + 1)):
            those = rows[number : number + 1] if number < most else rows[most:]
            parent, site = divmod(those[0][0], sites)
            place = None if number == most or not parent else parent
            known = figures.get(number)
            first = min(row[6] for row in those)
            begin, start_ns, *above = db.execute(
                f"SELECT {_BEGIN}, start_ns, above_pid, above_tid, above_comm"
                " FROM temp.process AS p WHERE n = ?",
                (first,),
            ).fetchone()
            forks = [row[5] for row in those if row[5] is not None]
            group = Group(
                number=number,
                site=self._frame(site - 1) if site and number < most else None,
                mixed=number == most,
                forker=actor(*above) if number < most else None,
                count=sum(row[1] for row in those),
                running=sum(row[3] for row in those),
                zombies=sum(row[4] for row in those),
                first_ns=min(forks, default=None),
                last_ns=max(row[7] for row in those),
                longest_ns=max((row[8] for row in those if row[8] is not None), default=None),
                intervals=known.distribution() if known else None,
            )
            places.setdefault(place, []).append(_Place((begin, start_ns, first), None, group))

    def _group_figures(self, rows: Sequence[tuple[Any, ...]]) -> Mapping[int, Figures]:
        """Return the figures of zombie intervals, by the number of the group.

        `rows` begin with key, number of processes and number of zombie intervals.
        """
        intervals: Counter[int] = Counter()
        for row in rows:
            intervals[self._groups[row[0]]] += row[2]
        figures = {number: Figures(count) for number, count in intervals.items() if count}
        collect(
            self._db.execute(
                "SELECT interval_ns, key FROM temp.member WHERE interval_ns IS NOT NULL"
                " ORDER BY interval_ns"
            ),
            {
                (key,): (figures[number],)
                for key, number in self._groups.items()
                if number in figures
            },
        )
        return figures

    def zombies(self, least_ns: int) -> Iterator[tuple[int, int, int]]:
        """See Observation.grouped_zombies()."""
        if self._groups:
            for key, begin, end in self._db.execute(
                "SELECT key, zombie_ns, gone_ns FROM temp.member WHERE gone_ns - zombie_ns >= ?",
                (least_ns,),
            ):
                yield self._groups[key], begin, end

    def densities(self, bins: int, span: tuple[int, int]) -> Mapping[int, Density]:
        """See Observation.densities()."""
        if not self._groups:
            return {}
        numbers = set(self._groups.values())
        running, zombie = ({each: [0.0] * bins for each in numbers} for _ in range(2))
        of_key = {key: (running[each], zombie[each]) for key, each in self._groups.items()}
        first, last = span[0], max(span[1], span[0] + 1)
        scale = bins / (last - first)
        for key, run_ns, dead_ns, zombie_ns, gone_ns in self._db.execute(
            "SELECT key, run_ns, dead_ns, zombie_ns, gone_ns FROM temp.member"
        ):
            times = of_key[key]
            if run_ns is not None and run_ns < dead_ns:
                bin_ = int((run_ns - first) * scale)
                if first <= run_ns and dead_ns < last and bin_ == int((dead_ns - first) * scale):
                    times[0][bin_] += dead_ns - run_ns  # so are nearly all, if there are many
                else:
                    _spread(times[0], max(run_ns, first) - first, min(dead_ns, last) - first, scale)
            if zombie_ns is not None and zombie_ns < gone_ns:
                bin_ = int((zombie_ns - first) * scale)
                if first <= zombie_ns and gone_ns < last and bin_ == int((gone_ns - first) * scale):
                    times[1][bin_] += gone_ns - zombie_ns
                else:
                    begin, end = max(zombie_ns, first), min(gone_ns, last)
                    _spread(times[1], begin - first, end - first, scale)
        return {
            number: Density(*(
                [round(each * scale, 3) for each in times[number]] for times in (running, zombie)
            ))
            for number in numbers
        }  # fmt: skip


def _spread(bin_times: list[float], begin: int, end: int, scale: float) -> None:
    """Add what lies in each bin of a time within the span."""
    for bin_ in range(int(begin * scale), min(int(end * scale), len(bin_times) - 1) + 1):
        part = min(end, (bin_ + 1) / scale) - max(begin, bin_ / scale)
        bin_times[bin_] += max(part, 0.0)


def _comparable(start_ns: Any) -> int:
    """Return a start instant as a number: beyond 64 bits it is stored as its digits."""
    return int(start_ns)
