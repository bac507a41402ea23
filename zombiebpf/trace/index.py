# SPDX-License-Identifier: Apache-2.0
"""Index the processes and joins of one or several trace files in temporary tables.

Reports are made by queries over these tables: a row a process or join with what is counted,
compared and grouped. They lie in SQLite's temporary database, which is a file that is deleted
with the connection, so that memory stays flat. Values are checked here once: SQLite stores a
value of any type in any column, and an aggregate would take it for a number.

A process's `row` is its id in its file plus the sum of the highest ids of the files before, and
so are the numbers of frames (`fork_site`, `reap_site`), stacks and joins.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from zombiebpf.model.analysis import Meta
from zombiebpf.model.life import KIND_KERNEL, KIND_UNSEEN, ReapedBy
from zombiebpf.trace.decode import DamagedTraceError
from zombiebpf.trace.filters import Filters
from zombiebpf.trace.part import MORE, REPARENTS, Part

# Bits of the column `facts`; REPARENTS is another one.
STATE_SHIFT = 4  # two bits
RUNNING, ZOMBIE, REAPED = range(3)
ALREADY = 1 << 6  # Life.already_zombie
ORPHANED = 1 << 7
GIVEN = 1 << 8  # reparented while it was a zombie
KILLED = 1 << 9
HAS_INTERVAL, INTERVAL_BOUND = 1 << 10, 1 << 11
HAS_LATENCY, LATENCY_BOUND = 1 << 12, 1 << 13
LATE = 1 << 14  # not in the table: a zombie for LATE_NS or longer
FORKED = 1 << 15  # `above` is its forker, else its parent
HAS_PARENT = 1 << 16  # it existed before the observation, as another process's child
ROOT = 1 << 17  # a command that zombiebpf started
MISSING_SHIFT = 20  # six bits: facts that reports show as unknown

_MAX = 2**63 - 1
_MOST_ROWS = 1 << 48  # ids of a file are below it

_TABLES = """
CREATE TEMP TABLE {name} (n INTEGER PRIMARY KEY, row INTEGER, pid INTEGER, start_ns INTEGER,
 fork_ns INTEGER, exit_ns INTEGER, zombie_ns INTEGER, reap_ns INTEGER, interval_ns INTEGER,
 latency_ns INTEGER, duration_ns INTEGER, facts INTEGER, fork_site INTEGER, reap_site INTEGER,
 fork_stack INTEGER, above_pid INTEGER, above_tid INTEGER, above_comm TEXT, wait_status INTEGER,
 reaped_by TEXT, kind TEXT, reaper_pid INTEGER, init_pid INTEGER)
"""
_PROCESS_COLUMNS = 23
_WAITS = """
CREATE TEMP TABLE {name} (n INTEGER PRIMARY KEY, row INTEGER, pid INTEGER, child_pid INTEGER,
 began_ns INTEGER, ended_ns INTEGER, returned TEXT, kind TEXT, site INTEGER, by_pid INTEGER,
 by_tid INTEGER, by_comm TEXT, children INTEGER, one_pid INTEGER, one_start_ns INTEGER,
 child INTEGER)
"""
_WAIT_COLUMNS = 16

_STATE = (
    f"CASE WHEN reap_ns IS NOT NULL THEN {REAPED}"
    f" WHEN zombie_ns IS NOT NULL OR was_zombie THEN {ZOMBIE} ELSE {RUNNING} END"
)
_ALREADY = "(was_zombie AND zombie_ns IS NULL AND exit_ns IS NULL)"
_DURATION = (
    f"max(ifnull(reap_ns, :ended_ns) - CASE WHEN {_ALREADY} THEN :started_ns ELSE zombie_ns END, 0)"
)
_KIND = (
    f"CASE WHEN reap_ns IS NULL THEN NULL WHEN reaped_by = 'kernel' THEN '{KIND_KERNEL}'"
    f" WHEN reaper_pid IS NULL OR NOT ifnull(reap_call, 0) THEN '{KIND_UNSEEN}'"
    f" ELSE coalesce(nullif(reap_kind, ''), nullif(reap_syscall, ''), '{KIND_UNSEEN}') END"
)
_ENDED = "(wait_status IS NOT NULL AND wait_status & 127 <> 127)"  # WIFEXITED or WIFSIGNALED
_BY_KERNEL = "ifnull(reaped_by = 'kernel', 0)"
_REAPED_BY = ", ".join(f"'{each.value}'" for each in ReapedBy)


def _whole(column: str) -> str:
    """Return the condition that a value is NULL or an integer that is not negative."""
    return f"({column} & {_MAX}) IS {column}"


_VALID_LIFE = " AND ".join([
    "pid IS NOT NULL",
    *map(_whole, ("pid", "fork_ns", "exit_ns", "zombie_ns", "reap_ns", "forker_pid", "parent_pid",
                  "reaper_pid", "fork_site", "reap_site", "fork_stack", "wait_status")),
    "ifnull(wait_status, 0) <= 65535",
    *(f"{each} IN (0, 1)" for each in ("was_zombie", "zombie_exact", "reap_exact")),
    "ifnull(reap_call, 0) IN (0, 1)",
    f"(reaped_by IS NULL OR reaped_by IN ({_REAPED_BY}))",
    "ifnull(fork_site, 0) <= :last_frame", "ifnull(reap_site, 0) <= :last_frame",
    "(reap_ns IS NULL OR exit_ns IS NULL OR reap_ns >= exit_ns)",
    "(reap_ns IS NULL OR zombie_ns IS NULL OR reap_ns >= zombie_ns OR NOT zombie_exact)",
])  # fmt: skip
_VALID_REPARENT = " AND ".join([
    *map(_whole, ("ns", "from_pid", "to_pid", "to_tid")),
    "ns + from_pid + to_pid IS NOT NULL", "kind IN ('subreaper', 'init', 'thread')",
    "while_zombie IN (0, 1)",
])  # fmt: skip
_VALID_WAIT = " AND ".join([
    *map(_whole, ("pid", "child_pid", "began_ns", "ended_ns", "by_pid", "by_tid", "site")),
    "ifnull(site, 0) <= :last_frame",
])  # fmt: skip


class Index:
    """Temporary tables over parts, in the connection of the first.

    `process`: a row a process that the filters keep, `n` in fork order. `gap`: which facts of a
    process are not observed. `adoption`: reparentings. `waiting`: joins, `n` in the order in which
    they began. The connection is `db`.
    """

    def __init__(self, parts: Sequence[Part], meta: Meta, filters: Filters, unique: bool) -> None:
        """Build the tables; with `unique`, of a process that two observers recorded one row.

        Raise DamagedTraceError if a value is not of its type.
        """
        self._parts = parts
        self._meta = meta
        self.db = parts[0].db
        tables = self.db.execute("SELECT name FROM temp.sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            self.db.execute(f"DROP TABLE temp.{table}")
        self._rows = _offsets(parts, "life")
        self._waits = _offsets(parts, "wait")
        self._frames = _offsets(parts, "frame")
        self._stacks = _offsets(parts, "stack")
        self._twins = self._find_twins()
        self._index_lives(filters, unique)
        self._index_joins(filters)
        self._mark_roots()

    @property
    def more(self) -> str:
        """An expression on `row`: which tables may have more on a process, for Part.life()."""
        if len(self._parts) > 1:
            return str(sum(bit for bit in MORE.values() if self._any_has(bit)))
        return " | ".join([
            "0",
            *(
                f"EXISTS (SELECT 1 FROM main.{table} WHERE life = row) * {bit}"
                for table, bit in MORE.items()
                if self._any_has(bit)
            ),
        ])  # fmt: skip

    def _any_has(self, bit: int) -> bool:
        return any(
            part.has_rows(table) for part in self._parts for table in MORE if MORE[table] == bit
        )

    def life_at(self, row: int) -> tuple[Part, int]:
        """Return the file of a process, and its id there."""
        return self._place(self._rows, row)

    def join_at(self, row: int) -> tuple[Part, int]:
        """Return the file of a join, and its id there."""
        return self._place(self._waits, row)

    def frame_at(self, number: int) -> tuple[Part, int]:
        """Return the file of a frame, and its id there."""
        return self._place(self._frames, number)

    def stack_at(self, number: int) -> tuple[Part, int]:
        """Return the file of a stack, and its id there."""
        return self._place(self._stacks, number)

    def _place(self, offsets: Sequence[int], number: int) -> tuple[Part, int]:
        if len(self._parts) == 1:
            return self._parts[0], number
        part = max(bisect_left(offsets, number) - 1, 0)
        return self._parts[part], number - offsets[part]

    def _copy(self, part: Part, table: str, columns: int, select: str, **values: Any) -> None:
        """Insert what a query finds in a part."""
        if part is self._parts[0]:
            self.db.execute(f"INSERT INTO temp.{table} {select}", values)
        else:
            marks = ", ".join("?" * columns)
            rows = part.db.execute(select, values)
            self.db.executemany(f"INSERT INTO temp.{table} VALUES ({marks})", rows)

    def _find_twins(self) -> bool:
        """Find frames that were stored several times. Return whether there are any."""
        self.db.execute(
            "CREATE TEMP TABLE frames (u INTEGER PRIMARY KEY, function TEXT, file TEXT,"
            " line INTEGER)"
        )
        for part, offset in zip(self._parts, self._frames):
            select = f"SELECT id + {offset}, function, file, line FROM frame"
            self._copy(part, "frames", 4, select)
        self.db.execute("CREATE TEMP TABLE twin (u INTEGER PRIMARY KEY, same INTEGER)")
        self.db.execute(
            "INSERT INTO temp.twin SELECT u, same FROM (SELECT u, min(u) OVER"
            " (PARTITION BY function, file, line) AS same FROM temp.frames) WHERE u <> same"
        )
        self.db.execute("DROP TABLE temp.frames")
        return bool(self.db.execute("SELECT EXISTS (SELECT 1 FROM temp.twin)").fetchone()[0])

    def _site(self, column: str) -> str:
        if not self._twins:
            return column
        return f"ifnull((SELECT same FROM temp.twin WHERE u = {column}), {column})"

    def _index_lives(self, filters: Filters, unique: bool) -> None:
        db = self.db
        db.execute(_TABLES.format(name="process"))
        db.execute(
            "CREATE TEMP TABLE adoption (row INTEGER, k INTEGER, ns INTEGER, from_pid INTEGER,"
            " to_pid INTEGER, to_tid INTEGER, to_comm TEXT, kind TEXT, while_zombie INTEGER,"
            " PRIMARY KEY (row, k)) WITHOUT ROWID"
        )
        db.execute("CREATE TEMP TABLE gap (row INTEGER PRIMARY KEY, signature TEXT)")
        several = len(self._parts) > 1
        if several:
            db.execute(_TABLES.format(name="new_process"))
        for number, (part, offset) in enumerate(zip(self._parts, self._rows)):
            self._check(part, "life", "id", _VALID_LIFE)
            self._check(part, "reparent", "life", _VALID_REPARENT)
            self._copy(
                part, "adoption", 9,
                f"SELECT life + {offset}, n, ns, from_pid, to_pid, to_tid, to_comm, kind,"
                " while_zombie FROM reparent",
            )  # fmt: skip
            self._copy(
                part, "gap", 2,
                f"SELECT life + {offset}, '{number} ' || group_concat(hex(field) || ' ' || reason)"
                " FROM unseen GROUP BY life",
            )  # fmt: skip
            select, values = self._select(part, number, filters)
            if several:
                self._copy(part, "new_process", _PROCESS_COLUMNS, select, **values)
            else:
                self._number_lives(f"({select})", values)
        if several:
            if unique:
                db.execute(
                    "DELETE FROM temp.new_process WHERE row IN (SELECT row FROM (SELECT row,"
                    " row_number() OVER (PARTITION BY pid, start_ns ORDER BY reap_ns IS NULL, row)"
                    " AS nth FROM temp.new_process) WHERE nth > 1)"
                )
            self._number_lives("temp.new_process", {})
            db.execute("DROP TABLE temp.new_process")

    def _number_lives(self, source: str, values: dict[str, Any]) -> None:
        self.db.execute(
            "INSERT INTO temp.process SELECT NULL, row, pid, start_ns, fork_ns, exit_ns, zombie_ns,"
            f" reap_ns, interval_ns, latency_ns, duration_ns, facts, {self._site('fork_site')},"
            f" {self._site('reap_site')}, fork_stack, above_pid, above_tid, above_comm,"
            f" wait_status, reaped_by, kind, reaper_pid, init_pid FROM {source}"
            " ORDER BY ifnull(fork_ns, 0), start_ns, row",
            values,
        )

    def _select(self, part: Part, number: int, filters: Filters) -> tuple[str, dict[str, Any]]:
        """Return the query for the processes of a part, and its parameters."""
        offset, frames = self._rows[number], self._frames[number]
        where, values = filters.where(self._meta, part.frames_of(filters))
        facts = [
            f"(({_STATE}) << {STATE_SHIFT})",
            f"{_ALREADY} * {ALREADY}",
            f"ifnull(wait_status & 127 NOT IN (0, 127), 0) * {KILLED}",
            f"(reap_ns + zombie_ns IS NOT NULL) * {HAS_INTERVAL}",
            f"(reap_ns + zombie_ns IS NOT NULL AND NOT (zombie_exact AND reap_exact))"
            f" * {INTERVAL_BOUND}",
            f"(reap_ns + exit_ns IS NOT NULL) * {HAS_LATENCY}",
            f"(reap_ns + exit_ns IS NOT NULL AND NOT reap_exact) * {LATENCY_BOUND}",
            f"(forker_pid IS NOT NULL) * {FORKED}",
            f"(parent_pid IS NOT NULL) * {HAS_PARENT}",
        ]
        init_pid = "NULL"
        if part.has_rows("reparent"):
            of = "EXISTS (SELECT 1 FROM reparent AS r WHERE r.life = life.id"
            facts.append(f"{of}) * {REPARENTS}")
            facts.append(f"{of} AND r.kind <> 'thread') * {ORPHANED}")
            facts.append(f"{of} AND r.while_zombie) * {GIVEN}")
            init_pid = (
                "(SELECT CASE WHEN r.kind = 'init' AND (NOT r.while_zombie OR r.ns <= zombie_ns)"
                " THEN r.to_pid END FROM reparent AS r WHERE r.life = life.id"
                " ORDER BY r.n DESC LIMIT 1)"
            )
        by_forker = "CASE WHEN forker_pid IS NULL THEN parent_{0} ELSE forker_{0} END"
        select = (
            f"SELECT NULL AS n, id + {offset} AS row, pid, start_ns, fork_ns, exit_ns, zombie_ns,"
            " reap_ns, max(reap_ns - zombie_ns, 0) AS interval_ns,"
            f" max(reap_ns - exit_ns, 0) AS latency_ns, {_DURATION} AS duration_ns,"
            f" {self._facts(part, facts)} AS facts, fork_site + {frames} AS fork_site,"
            f" CASE WHEN reap_call THEN reap_site + {frames} END AS reap_site,"
            f" fork_stack + {self._stacks[number]} AS fork_stack,"
            f" ifnull(forker_pid, parent_pid) AS above_pid, {by_forker.format('tid')} AS above_tid,"
            f" {by_forker.format('comm')} AS above_comm, wait_status, reaped_by, {_KIND} AS kind,"
            f" reaper_pid, {init_pid} AS init_pid FROM life WHERE {where}"
        )
        values["ended_ns"] = fitting(self._meta.ended_ns)
        values["started_ns"] = fitting(self._meta.started_ns)
        return select, values

    @staticmethod
    def _facts(part: Part, facts: Sequence[str]) -> str:
        """Return the expression of all facts.

        Most processes are alike: nothing of them is missing or inexact, and they exited with
        0. For those it is a constant, which takes half of the time.
        """
        empty, dash = (
            ", ".join(
                str(row[0]) for row in part.db.execute("SELECT id FROM text WHERE value = ?", (v,))
            )
            for v in ("[]", '["-"]')
        )
        every = " | ".join([
            *facts,
            *(
                f"(({missing}) << {MISSING_SHIFT + bit})"
                for bit, missing in enumerate(_missing(empty, dash))
            ),
        ])  # fmt: skip
        if part.has_rows("reparent"):
            return every
        usual = REAPED << STATE_SHIFT | HAS_INTERVAL | HAS_LATENCY | FORKED
        return (
            "CASE WHEN reap_ns + zombie_ns + exit_ns + forker_pid + reaper_pid IS NOT NULL"
            " AND parent_pid IS NULL AND wait_status = 0 AND zombie_exact AND reap_exact"
            f" AND NOT was_zombie AND reaped_by <> 'kernel' AND argv NOT IN ({empty})"
            f" AND argv NOT IN ({dash}) THEN {usual} ELSE {every} END"
        )

    def _check(self, part: Part, table: str, id_: str, valid: str) -> None:
        found = part.db.execute(
            f"SELECT {id_} FROM {table} WHERE NOT ifnull({valid}, 0) LIMIT 1",
            {"last_frame": part.last_id("frame")},
        ).fetchone()
        if found is None:
            return
        if table in ("wait", "wait_child"):  # the decoder names the value that is wrong
            part.join(found[0])
        else:
            part.life(found[0])
        raise DamagedTraceError(f"{part.name}: {table} {found[0]} has a value that it cannot have")

    def _index_joins(self, filters: Filters) -> None:
        db = self.db
        db.execute(_WAITS.format(name="waiting"))
        direct = len(self._parts) == 1 and not filters
        if not direct:
            db.execute(_WAITS.format(name="new_waiting"))
            db.execute("CREATE TEMP TABLE waited (row INTEGER, pid INTEGER, start_ns INTEGER)")
        for part, offset, frames in zip(self._parts, self._waits, self._frames):
            if not part.has_rows("wait"):
                continue
            self.need_pids()
            self._check(part, "wait", "id", _VALID_WAIT)
            self._check(part, "wait_child", "wait", f"{_whole('pid')} AND pid IS NOT NULL")
            one = "(SELECT {} FROM wait_child WHERE wait = w.id ORDER BY n LIMIT 1)"
            where, values = _join_filter(filters, self._meta)
            select = (
                f"SELECT NULL AS n, id + {offset} AS row, pid, child_pid, began_ns, ended_ns,"
                f" returned, kind, site + {frames} AS site, by_pid, by_tid, by_comm,"
                " (SELECT count(*) FROM wait_child WHERE wait = w.id) AS children,"
                f" {one.format('pid')} AS one_pid, {one.format('start_ns')} AS one_start_ns,"
                f" NULL AS child FROM wait AS w WHERE {where}"
            )
            if direct:
                self._number_joins(f"({select})", values)
                continue
            self._copy(part, "new_waiting", _WAIT_COLUMNS, select, **values)
            if filters:
                self._copy(
                    part, "waited", 3, f"SELECT wait + {offset}, pid, start_ns FROM wait_child"
                )
        if not direct:
            if filters:
                self._drop_joins(filters)
            self._number_joins("temp.new_waiting", {})
            db.execute("DROP TABLE temp.new_waiting")
            db.execute("DROP TABLE temp.waited")
        db.execute("CREATE INDEX temp.by_child ON waiting (child)")
        db.execute("CREATE INDEX temp.by_exit ON waiting (pid, began_ns) WHERE kind = 'atexit'")

    def need_pids(self) -> None:
        """Make the index by PID, unless it is there."""
        self.db.execute("CREATE INDEX IF NOT EXISTS temp.by_pid ON process (pid, fork_ns)")

    def _drop_joins(self, filters: Filters) -> None:
        """Drop joins that are neither for a process that is kept nor at one of the lines."""
        lines = "0"
        if filters.sites:
            numbers = [
                str(frame + offset)
                for part, offset in zip(self._parts, self._frames)
                for frame in part.frames_of(filters)
            ]
            lines = f"ifnull(w.site IN ({', '.join(numbers)}), 0)"
        self.db.execute("CREATE INDEX temp.by_row ON waited (row)")
        self.db.execute(
            f"DELETE FROM temp.new_waiting AS w WHERE NOT ({lines} OR (w.children = 0"
            " AND EXISTS (SELECT 1 FROM temp.process WHERE pid = w.child_pid))"
            " OR EXISTS (SELECT 1 FROM temp.waited AS c JOIN temp.process AS p ON p.pid = c.pid"
            " AND (c.start_ns IS NULL OR p.start_ns = c.start_ns) WHERE c.row = w.row))"
        )

    def _number_joins(self, source: str, values: dict[str, Any]) -> None:
        child = (
            "CASE WHEN children = 1 THEN (SELECT min(p.n) FROM temp.process AS p WHERE"
            " p.pid = one_pid AND (one_start_ns IS NULL OR p.start_ns = one_start_ns)) END"
        )
        self.db.execute(
            "INSERT INTO temp.waiting SELECT NULL, row, pid, child_pid, began_ns, ended_ns,"
            f" returned, kind, {self._site('site')}, by_pid, by_tid, by_comm, children, one_pid,"
            f" one_start_ns, {child} FROM {source} ORDER BY ifnull(began_ns, 0), row",
            values,
        )

    def _mark_roots(self) -> None:
        """Mark the commands that zombiebpf started. A scenario can have several."""
        if not self._meta.command:
            return
        db = self.db
        first = db.execute(
            "SELECT n, above_pid, facts FROM temp.process"
            f" WHERE NOT facts & {HAS_PARENT} ORDER BY n LIMIT 1"
        ).fetchone()
        if first is None:
            return
        number, above, facts = first
        if not facts & FORKED:
            db.execute(f"UPDATE temp.process SET facts = facts | {ROOT} WHERE n = ?", (number,))
            return
        if db.execute("SELECT 1 FROM temp.process WHERE pid = ? LIMIT 1", (above,)).fetchone():
            return
        db.execute(
            f"UPDATE temp.process SET facts = facts | {ROOT} WHERE above_pid = ?"
            f" AND facts & {FORKED} AND facts & {HAS_PARENT} = 0",
            (above,),
        )


def _missing(empty: str, dash: str) -> list[str]:
    """Return the conditions of facts that a report shows as `-`; see summary.absences().

    `empty` are the ids of empty command lines, `dash` those of `-` alone.
    """
    no_argv = f"(argv IS NULL OR argv IN ({empty}))"
    running = "reap_ns IS NULL AND zombie_ns IS NULL AND NOT was_zombie"
    return [
        "forker_pid IS NULL",
        f"CASE WHEN {no_argv} THEN ifnull(comm IN ('', '-'), 1)"
        f" ELSE argv IN ({dash}) AND NOT argv_cut END",
        f"NOT {_ENDED} AND NOT ({running} AND exit_ns IS NULL)",
        f"zombie_ns IS NULL AND ((reap_ns IS NOT NULL AND NOT {_BY_KERNEL})"
        f" OR ({running} AND exit_ns IS NOT NULL))",
        "exit_ns IS NULL AND reap_ns IS NOT NULL",
        "reaper_pid IS NULL AND CASE WHEN reaped_by IS NULL THEN reap_ns IS NOT NULL"
        " ELSE reaped_by <> 'kernel' END OR (reaped_by IS NULL AND reap_ns IS NOT NULL)",
    ]


def _offsets(parts: Sequence[Part], table: str) -> list[int]:
    """Return what is added to the ids of each part, so that they are unique."""
    offsets, total = [], 0
    for part in parts:
        offsets.append(total)
        if not 0 <= part.first_id(table) <= part.last_id(table) < _MOST_ROWS:
            raise DamagedTraceError(f"{part.name}: ids of {table} are out of range")
        total += part.last_id(table)
    return offsets


def _join_filter(filters: Filters, meta: Meta) -> tuple[str, dict[str, Any]]:
    since, until = filters.window(meta)
    terms, values = ["1"], {}
    if since is not None:
        terms.append("(ended_ns IS NULL OR ended_ns >= :since)")
        values["since"] = fitting(since)
    if until is not None:
        terms.append("(began_ns IS NULL OR began_ns <= :until)")
        values["until"] = fitting(until)
    return " AND ".join(terms), values


def fitting(ns: int) -> int:
    """Return the nearest integer that fits into 64 bits."""
    return max(min(ns, _MAX), -_MAX)
