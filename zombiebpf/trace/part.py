# SPDX-License-Identifier: Apache-2.0
"""One trace file, read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Optional

from zombiebpf.analysis import Child, Join, Meta
from zombiebpf.life import (
    Activity,
    AdopterKind,
    Execution,
    Life,
    PidNamespace,
    ReapCall,
    ReapedBy,
    Reparenting,
)
from zombiebpf.trace.filters import Filters
from zombiebpf.trace.metadata import Own, read_meta
from zombiebpf.trace.schema import LIFE_COLUMNS
from zombiebpf.trace.values import (
    Damaged,
    Stored,
    actor,
    integer,
    number,
    one_of,
    text,
    there,
    truth,
)

Row = tuple[Any, ...]

_REAPED_BY = {each.value: each for each in ReapedBy}
_ADOPTER_KIND = {each.value: each for each in AdopterKind}
_STATUS = 0xFFFF  # the highest wait status word


class _Details:
    """Rows of a table that belong to lives, taken in step with the lives themselves."""

    def __init__(self, db: sqlite3.Connection, columns: str, table: str, order: str) -> None:
        self._rows = db.execute(f"SELECT {columns} FROM {table} ORDER BY {order}")
        self._next: Optional[Row] = self._rows.fetchone()

    def of(self, number: int) -> list[Row]:
        found = []
        while self._next is not None and there(integer(self._next[0])) <= number:
            if self._next[0] == number:
                found.append(self._next)
            self._next = self._rows.fetchone()
        return found


class Part:
    """Read within one transaction. Raises Damaged wherever it is."""

    def __init__(self, db: sqlite3.Connection, being_written: bool) -> None:
        self._db = db
        self._stored = Stored(db)
        self.meta: Meta
        self.own: Own
        self.meta, self.own = read_meta(db, being_written)

    def close(self) -> None:
        self._db.close()

    @property
    def count(self) -> int:
        """Of lives."""
        return int(self._db.execute("SELECT count(*) FROM life").fetchone()[0])

    def lives(self, filters: Filters, whole: Meta, ended: Optional[bool] = None) -> Iterator[Life]:
        """In the order in which they were written: those that ended as they ended.

        `whole` is the meta of all parts; `ended` True: those reaped, False: the others.
        """
        where, values = filters.where(whole, self._frames_of(filters))
        if ended is not None:
            where += f" AND reap_ns IS {'NOT ' if ended else ''}NULL"
        db = self._db
        execs = _Details(db, "life, ns, filename", "exec", "life, n")
        reparents = _Details(
            db,
            "life, ns, from_pid, from_tid, from_comm, to_pid, to_tid, to_comm, kind,"
            " while_zombie, exact",
            "reparent",
            "life, n",
        )
        unseen = _Details(db, "life, field, reason", "unseen", "life, n")
        meanwhile = _Details(
            db,
            "life, ns, pid, tid, comm, blocked_since_ns, syscall, stack, site",
            "meanwhile",
            "life",
        )
        last = -1
        for row in db.execute(
            f"SELECT {', '.join(LIFE_COLUMNS)} FROM life WHERE {where} ORDER BY id", values
        ):
            id_ = there(integer(row[0]))
            if id_ <= last:
                raise Damaged("lives are in disorder")
            last = id_
            life = self._life(row)
            life.execs = tuple(
                Execution(there(integer(ns)), text(filename)) for _, ns, filename in execs.of(id_)
            )
            life.reparents = tuple(map(self._reparenting, reparents.of(id_)))
            for _, field, reason in unseen.of(id_):
                life.unseen[there(text(field))] = there(self._stored.word(reason))  # type: ignore[index]
            for each in meanwhile.of(id_):
                life.meanwhile = self._activity(each)
            yield life

    def joins(self) -> Iterator[Join]:
        """In the order in which they were written."""
        children = _Details(self._db, "wait, pid, start_ns", "wait_child", "wait, n")
        for row in self._db.execute(
            "SELECT id, pid, tid, child_pid, timeout_s, began_ns, ended_ns, returned, kind,"
            " blocked_ns, by_pid, by_tid, by_comm, stack, site FROM wait ORDER BY id"
        ):
            yield Join(
                pid=integer(row[1]),
                tid=integer(row[2]),
                child_pid=integer(row[3]),
                timeout_s=number(row[4]),
                began_ns=integer(row[5]),
                ended_ns=integer(row[6]),
                returned=text(row[7]),
                kind=text(row[8]),
                children=tuple(
                    Child(there(integer(pid)), integer(start_ns))
                    for _, pid, start_ns in children.of(there(integer(row[0])))
                ),
                blocked_ns=integer(row[9]),
                by=actor(*row[10:13]),
                stack=self._stored.stack(row[13]),
                site=self._stored.frame(row[14]),
            )

    def _frames_of(self, filters: Filters) -> list[int]:
        if not filters.sites:
            return []
        numbers = [row[0] for row in self._db.execute("SELECT id FROM frame")]
        return [each for each in numbers if filters.names(self._stored.frame(each))]

    def _life(self, row: Row) -> Life:
        (
            _, pid, start_ns, comm, argv, argv_cut, pidns, pidns_pid, cgroup,
            forker_pid, forker_tid, forker_comm, fork_ns, fork_stack, fork_site,
            parent_pid, parent_tid, parent_comm, was_zombie,
            exit_ns, zombie_ns, zombie_exact, reap_ns, reap_exact, wait_status,
            reaper_pid, reaper_tid, reaper_comm, reaped_by,
            call, *call_columns,
        ) = row  # fmt: skip
        stored = self._stored
        life = Life(
            pid=there(integer(pid)),
            start_ns=there(integer(start_ns)),
            comm=text(comm),
            argv=stored.argv(argv),
            argv_cut=truth(argv_cut),
            pidns=None
            if pidns is None
            else PidNamespace(there(integer(pidns)), there(integer(pidns_pid))),
            cgroup=stored.word(cgroup),
            forker=actor(forker_pid, forker_tid, forker_comm),
            fork_ns=integer(fork_ns),
            fork_stack=stored.stack(fork_stack),
            fork_site=stored.frame(fork_site),
            parent=actor(parent_pid, parent_tid, parent_comm),
            was_zombie=truth(was_zombie),
            exit_ns=integer(exit_ns),
            zombie_ns=integer(zombie_ns),
            zombie_exact=truth(zombie_exact),
            reap_ns=integer(reap_ns),
            reap_exact=truth(reap_exact),
            wait_status=integer(wait_status, 0, _STATUS),
            reaper=actor(reaper_pid, reaper_tid, reaper_comm),
            reaped_by=None if reaped_by is None else one_of(_REAPED_BY, reaped_by),
            reap_call=self._reap_call(*call_columns) if call is not None and truth(call) else None,
        )
        if (life.zombie_interval_ns or 0) < 0 or (life.reap_latency_ns or 0) < 0:
            raise Damaged(f"PID {life.pid} was reaped before it died")
        return life

    def _reap_call(
        self, syscall: Any, options: Any, began: Any, blocked: Any, kind: Any, stack: Any, site: Any
    ) -> ReapCall:
        return ReapCall(
            text(syscall),
            integer(options, -(2**31)),
            integer(began),
            integer(blocked),
            text(kind),
            self._stored.stack(stack),
            self._stored.frame(site),
        )

    def _reparenting(self, row: Row) -> Reparenting:
        return Reparenting(
            there(integer(row[1])),
            there(actor(*row[2:5])),
            there(actor(*row[5:8])),
            one_of(_ADOPTER_KIND, row[8]),
            truth(row[9]),
            truth(row[10]),
        )

    def _activity(self, row: Row) -> Activity:
        return Activity(
            there(integer(row[1])),
            there(actor(*row[2:5])),
            integer(row[5]),
            text(row[6]),
            self._stored.stack(row[7]),
            self._stored.frame(row[8]),
        )
