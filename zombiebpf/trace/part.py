# SPDX-License-Identifier: Apache-2.0
"""Read one trace file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

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
from zombiebpf.model.stack import Frame, Stack
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


# The tables that have more on a process, as bits.
EXECS, REPARENTS, UNSEEN, MEANWHILE = (1 << bit for bit in range(4))
MORE = {"exec": EXECS, "reparent": REPARENTS, "unseen": UNSEEN, "meanwhile": MEANWHILE}
_ALL = sum(MORE.values())


def _select(table: str, where: str) -> str:
    return f"SELECT {', '.join(COLUMNS[table])} FROM {table} WHERE {where}"


_LIFE, _MEANWHILE = _select("life", "id = ?"), _select("meanwhile", "life = ?")
_EXECS = _select("exec", "life = ? ORDER BY n")
_REPARENTS = _select("reparent", "life = ? ORDER BY n")
_UNSEEN = _select("unseen", "life = ? ORDER BY n")
_JOIN, _CHILDREN = _select("wait", "id = ?"), _select("wait_child", "wait = ? ORDER BY n")


class Part:
    """A trace file that is open for reading, within one transaction.

    Every method raises DamagedTraceError if what it reads is invalid.
    """

    def __init__(self, db: sqlite3.Connection, name: str, being_written: bool) -> None:
        self.db = db
        self.name = name
        self._interned = InternedValues(db)
        self.meta: Meta
        self.info: PartInfo
        self.meta, self.info = read_meta(db, being_written)

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    @property
    def count(self) -> int:
        """The number of processes."""
        return int(self.db.execute("SELECT count(*) FROM life").fetchone()[0])

    def has_rows(self, table: str) -> bool:
        """Return whether a table has any rows."""
        return bool(self.db.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").fetchone()[0])

    def first_id(self, table: str) -> int:
        """Return the lowest id in a table; 0 if it is empty."""
        return int(self.db.execute(f"SELECT ifnull(min(id), 0) FROM {table}").fetchone()[0])

    def last_id(self, table: str) -> int:
        """Return the highest id in a table; 0 if it is empty."""
        return int(self.db.execute(f"SELECT ifnull(max(id), 0) FROM {table}").fetchone()[0])

    def life(self, id_: int, more: int = _ALL) -> Life:
        """Return a process; `more` says which tables have more on it."""
        with self._named():
            execute = self.db.execute
            row = execute(_LIFE, (id_,)).fetchone()
            if row is None:
                raise DamagedTraceError(f"life {id_} is missing")
            life = self._life(row)
            if not more:
                return life
            fields: dict[str, Any] = {}
            if more & EXECS:
                fields["execs"] = tuple(
                    Execution(required(integer(ns)), text(filename))
                    for _, _, ns, filename in execute(_EXECS, (id_,))
                )
            if more & REPARENTS:
                fields["reparents"] = tuple(map(self._reparenting, execute(_REPARENTS, (id_,))))
            if more & UNSEEN:
                fields["unseen"] = {
                    required(text(field)): required(self._interned.string(reason))
                    for _, _, field, reason in execute(_UNSEEN, (id_,))
                }
            if more & MEANWHILE:
                row = execute(_MEANWHILE, (id_,)).fetchone()
                fields["meanwhile"] = None if row is None else self._activity(row)
            return life._replace(**fields)

    def join(self, id_: int) -> Join:
        """Return a join."""
        with self._named():
            row = self.db.execute(_JOIN, (id_,)).fetchone()
            if row is None:
                raise DamagedTraceError(f"wait {id_} is missing")
            return Join(
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
                    for _, _, pid, start_ns in self.db.execute(_CHILDREN, (id_,))
                ),
                blocked_ns=integer(row[9]),
                by=actor(*row[10:13]),
                stack=self._interned.stack(row[13]),
                site=self._interned.frame(row[14]),
            )

    def frame(self, id_: int) -> Frame:
        """Return a frame."""
        with self._named():
            return required(self._interned.frame(id_))

    def stack(self, id_: int) -> Stack:
        """Return a call stack."""
        with self._named():
            return required(self._interned.stack(id_))

    def frames_of(self, filters: Filters) -> list[int]:
        """Return the ids of the frames that the filters' `sites` match."""
        if not filters.sites:
            return []
        numbers = [row[0] for row in self.db.execute("SELECT id FROM frame")]
        return [each for each in numbers if filters.matches_site(self._interned.frame(each))]

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the file in errors."""
        try:
            yield
        except DamagedTraceError as error:
            raise error.of(self.name) from None

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
        interval_ns = life.zombie_interval_ns or 0
        if (interval_ns < 0 and life.zombie_exact) or (life.reap_latency_ns or 0) < 0:
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
