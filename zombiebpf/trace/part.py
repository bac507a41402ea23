# SPDX-License-Identifier: Apache-2.0
"""Read one trace file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from zombiebpf.model.analysis import Meta
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import (
    Activity,
    AdopterKind,
    Execution,
    Life,
    PidNamespace,
    ReapCall,
    ReapedBy,
    Reparenting,
)
from zombiebpf.trace.decode import (
    DamagedTraceError,
    InternedValues,
    actor,
    boolean,
    enum_member,
    integer,
    real,
    required,
    text,
)
from zombiebpf.trace.filters import Filters
from zombiebpf.trace.metadata import PartInfo, read_meta
from zombiebpf.trace.schema import COLUMNS

Row = tuple[Any, ...]

_REAPED_BY = {each.value: each for each in ReapedBy}
_ADOPTER_KIND = {each.value: each for each in AdopterKind}
_STATUS = 0xFFFF  # the highest wait status word


class _ChildRows:
    """The rows of a table that belong to processes or joins, read in step with those."""

    def __init__(self, db: sqlite3.Connection, table: str) -> None:
        self._rows = db.execute(f"SELECT {', '.join(COLUMNS[table])} FROM {table} ORDER BY 1, 2")
        self._next: Optional[Row] = self._rows.fetchone()

    def of(self, number: int) -> list[Row]:
        """Return the rows of one process or join; `number` rises from call to call."""
        found = []
        while self._next is not None and required(integer(self._next[0])) <= number:
            if self._next[0] == number:
                found.append(self._next)
            self._next = self._rows.fetchone()
        return found


class Part:
    """A trace file that is open for reading, within one transaction.

    Every method raises DamagedTraceError if what it reads is invalid.
    """

    def __init__(self, db: sqlite3.Connection, being_written: bool) -> None:
        self._db = db
        self._interned = InternedValues(db)
        self.meta: Meta
        self.info: PartInfo
        self.meta, self.info = read_meta(db, being_written)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def count(self) -> int:
        """The number of processes."""
        return int(self._db.execute("SELECT count(*) FROM life").fetchone()[0])

    def lives(self, filters: Filters, whole: Meta, ended: Optional[bool] = None) -> Iterator[Life]:
        """Yield the processes that pass `filters`, in the order in which they were written.

        `whole` is the meta of all parts. `ended` True selects the reaped ones, False the others.
        """
        where, values = filters.where(whole, self._frames_of(filters))
        if ended is not None:
            where += f" AND reap_ns IS {'NOT ' if ended else ''}NULL"
        db = self._db
        execs, reparents = _ChildRows(db, "exec"), _ChildRows(db, "reparent")
        unseen, meanwhile = _ChildRows(db, "unseen"), _ChildRows(db, "meanwhile")
        last = -1
        for row in db.execute(
            f"SELECT {', '.join(COLUMNS['life'])} FROM life WHERE {where} ORDER BY id", values
        ):
            id_ = required(integer(row[0]))
            if id_ <= last:
                raise DamagedTraceError("lives are in disorder")
            last = id_
            activity = list(map(self._activity, meanwhile.of(id_)))
            yield self._life(row)._replace(
                execs=tuple(
                    Execution(required(integer(ns)), text(filename))
                    for _, _, ns, filename in execs.of(id_)
                ),
                reparents=tuple(map(self._reparenting, reparents.of(id_))),
                unseen={
                    required(text(field)): required(self._interned.string(reason))
                    for _, _, field, reason in unseen.of(id_)
                },
                meanwhile=activity[-1] if activity else None,
            )

    def joins(self) -> Iterator[Join]:
        """Yield all joins, in the order in which they were written."""
        children = _ChildRows(self._db, "wait_child")
        for row in self._db.execute(f"SELECT {', '.join(COLUMNS['wait'])} FROM wait ORDER BY id"):
            yield Join(
                pid=integer(row[1]),
                tid=integer(row[2]),
                child_pid=integer(row[3]),
                timeout_s=real(row[4]),
                began_ns=integer(row[5]),
                ended_ns=integer(row[6]),
                returned=text(row[7]),
                kind=text(row[8]),
                children=tuple(
                    Child(required(integer(pid)), integer(start_ns))
                    for _, _, pid, start_ns in children.of(required(integer(row[0])))
                ),
                blocked_ns=integer(row[9]),
                by=actor(*row[10:13]),
                stack=self._interned.stack(row[13]),
                site=self._interned.frame(row[14]),
            )

    def _frames_of(self, filters: Filters) -> list[int]:
        if not filters.sites:
            return []
        numbers = [row[0] for row in self._db.execute("SELECT id FROM frame")]
        return [each for each in numbers if filters.matches_site(self._interned.frame(each))]

    def _life(self, row: Row) -> Life:
        (
            _, pid, start_ns, comm, argv, argv_cut, pidns, pidns_pid, cgroup,
            forker_pid, forker_tid, forker_comm, fork_ns, fork_stack, fork_site,
            parent_pid, parent_tid, parent_comm, was_zombie,
            exit_ns, zombie_ns, zombie_exact, reap_ns, reap_exact, wait_status,
            reaper_pid, reaper_tid, reaper_comm, reaped_by,
            call, *call_columns,
        ) = row  # fmt: skip
        interned = self._interned
        life = Life(
            pid=required(integer(pid)),
            start_ns=required(integer(start_ns)),
            comm=text(comm),
            argv=interned.argv(argv),
            argv_cut=boolean(argv_cut),
            pidns=None
            if pidns is None
            else PidNamespace(required(integer(pidns)), required(integer(pidns_pid))),
            cgroup=interned.string(cgroup),
            forker=actor(forker_pid, forker_tid, forker_comm),
            fork_ns=integer(fork_ns),
            fork_stack=interned.stack(fork_stack),
            fork_site=interned.frame(fork_site),
            parent=actor(parent_pid, parent_tid, parent_comm),
            was_zombie=boolean(was_zombie),
            exit_ns=integer(exit_ns),
            zombie_ns=integer(zombie_ns),
            zombie_exact=boolean(zombie_exact),
            reap_ns=integer(reap_ns),
            reap_exact=boolean(reap_exact),
            wait_status=integer(wait_status, 0, _STATUS),
            reaper=actor(reaper_pid, reaper_tid, reaper_comm),
            reaped_by=None if reaped_by is None else enum_member(_REAPED_BY, reaped_by),
            reap_call=None if call is None or not boolean(call) else self._reap_call(call_columns),
        )
        interval_ns = life.zombie_interval_ns if life.zombie_exact else None
        if (interval_ns or 0) < 0 or (life.reap_latency_ns or 0) < 0:
            raise DamagedTraceError(f"PID {life.pid} was reaped before it died")
        return life

    def _reap_call(self, row: Sequence[Any]) -> ReapCall:
        return ReapCall(
            text(row[0]),
            integer(row[1], -(2**31)),
            integer(row[2]),
            integer(row[3]),
            text(row[4]),
            self._interned.stack(row[5]),
            self._interned.frame(row[6]),
        )

    def _reparenting(self, row: Row) -> Reparenting:
        return Reparenting(
            required(integer(row[2])),
            required(actor(*row[3:6])),
            required(actor(*row[6:9])),
            enum_member(_ADOPTER_KIND, row[9]),
            boolean(row[10]),
            boolean(row[11]),
        )

    def _activity(self, row: Row) -> Activity:
        return Activity(
            required(integer(row[1])),
            required(actor(*row[2:5])),
            integer(row[5]),
            text(row[6]),
            self._interned.stack(row[7]),
            self._interned.frame(row[8]),
        )
