# SPDX-License-Identifier: Apache-2.0
"""Write a trace in batches, so that a cut trace lacks at most the last second.

SQLite's WAL mode keeps what was committed even if zombiebpf gets a SIGKILL. A running
process is written too, once a batch was written since its fork, and again when it has
changed: a cut trace shows it as of the last batch.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Callable, Optional

from zombiebpf.errors import UsageError
from zombiebpf.model.analysis import Meta
from zombiebpf.model.join import Join
from zombiebpf.model.life import Key, LifeRow
from zombiebpf.trace import file
from zombiebpf.trace.encode import DELETES, RowBuffer, insert, storable
from zombiebpf.trace.merge import Trace, open_traces
from zombiebpf.trace.metadata import boot_id, meta_rows
from zombiebpf.trace.rotation import Rotation, part_name, parts_beside
from zombiebpf.trace.schema import APPLICATION_ID, SCHEMA_VERSION, TABLES, VIEWS

FLUSH_NS = 500_000_000
BATCH = 10_000  # waiting rows that make a flush due
KEPT = 200_000  # rows that wait at most while another program has locked the file
FINAL_TRIES = 10  # of one second each, to get the lock at the end

_BEGIN, _COMMIT = "BEGIN IMMEDIATE", "COMMIT"
_LOCKED_CODES = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED; Python 3.11 and later name them


class _LockedError(Exception):
    """An error: another connection holds the lock of the file."""


class TraceWriter:
    """A writer of one observation to `path`; with `rotate`, the earlier parts beside it.

    The constructor raises UsageError if the file cannot be created, or exists and must
    not be replaced. The methods raise nothing: once the file cannot be written (disk full),
    `warn` gets one line, what was written stays, `problem` is that line, and all calls do
    nothing. Call add() with what has ended, flush() when `due`, and close() at the end.
    """

    def __init__(
        self,
        path: str,
        meta: Meta,
        *,
        force: bool = False,
        rotate: Optional[Rotation] = None,
        warn: Callable[[str], None] = lambda line: None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Create the file. `meta` is what is known at the start; its `ended_ns` is ignored."""
        if "\0" in path:
            raise UsageError("-o: a file's name has no null byte")
        self._name = path
        self._path = file.absolute(path)
        self._rotate = rotate
        self._warn = warn
        self._environ = environ
        self._observation = uuid.uuid4().hex
        self._boot = boot_id()
        self._part = 0
        self._ended_ns: Optional[int] = None  # set by close()
        self._joins = False  # whether joins were observed
        self._meta = meta
        self.problem: Optional[str] = None
        self._db: Optional[sqlite3.Connection] = None
        self._prepare_place(force)
        self._begin_part()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Write the rest; without close() before, the trace stays marked as cut."""
        if self._db is not None:
            self._commit()
            self._merge_wal()

    @property
    def flushed_ns(self) -> int:
        """When the last flush() was, CLOCK_MONOTONIC."""
        return self._flushed_ns

    @property
    def paths(self) -> list[str]:
        """The files that it has written, in their order."""
        return [*(parts_beside(self._path) if self._rotate is not None else ()), self._path]

    def open(self) -> Trace:
        """Open what was written for reading. Raise UsageError if that fails."""
        return open_traces(self.paths)

    @property
    def due(self) -> bool:
        """Whether it is time for flush(): after FLUSH_NS, or with BATCH rows."""
        return self._db is not None and (
            len(self._rows) >= BATCH or time.monotonic_ns() - self._flushed_ns >= FLUSH_NS
        )

    def delete(self) -> None:
        """Do nothing: a trace that was asked for stays."""

    def add(self, lives: Sequence[LifeRow], joins: Optional[Iterable[Join]] = None) -> None:
        """Add final process records and joins; None for `joins` means they are not observed."""
        if self._db is None:
            return
        provisional = self._provisional
        if provisional:
            for life in lives:
                known = provisional.pop((life[0], life[1]), None)
                if known is not None:
                    self._stale.append(known[0])
        self._rows.add(lives)
        if joins is not None:
            self._joins = True
            for join in joins:
                self._rows.add_join(join)

    def flush(self, changed: Iterable[LifeRow] = (), meta: Optional[Meta] = None) -> None:
        """Write what was added, and the unfinished records that have changed since the last call.

        `meta`, if given, updates the number of lost records.
        """
        if self._db is None:
            return
        if meta is not None:
            self._meta = meta
        self._add_unfinished(changed)
        self._commit()
        if self._db is not None and self._rotate is not None and self._is_full(self._rotate):
            self._next_part()

    def close(self, meta: Meta) -> None:
        """Write the rest, mark the trace as complete and merge the WAL file into it."""
        self._meta, self._ended_ns = meta, meta.ended_ns
        for _ in range(FINAL_TRIES):
            if self._db is None:
                return
            if self._commit(closed=True):
                break
        else:
            self._fail("another program keeps it locked")
            return
        self._merge_wal()

    def _prepare_place(self, force: bool) -> None:
        """Remove what lies where the trace is to be, or refuse to."""
        for part in parts_beside(self._path) if self._rotate is not None else ():
            named = os.path.join(os.path.dirname(self._name), os.path.basename(part))
            file.make_room(part, named, force)
        file.make_room(self._path, self._name, force)

    def _create(self) -> tuple[Optional[int], sqlite3.Connection]:
        """Create an empty database; without a descriptor if it is in memory."""
        descriptor, db = file.create(self._path, self._name, self._environ)
        db.execute("PRAGMA synchronous = NORMAL")  # a crash of the machine cuts it, too
        return descriptor, db

    def _begin_part(self) -> None:
        self._descriptor, db = self._create()
        self._db = db
        self._part += 1
        self._rows = RowBuffer()
        # unfinished records that were written, with their rows' ids
        self._provisional: dict[Key, tuple[int, LifeRow]] = {}
        self._stale: list[int] = []  # ids of rows whose processes have changed or ended
        self._began_ns = self._flushed_ns = time.monotonic_ns()
        try:
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            db.execute("BEGIN")
            for statement in (*TABLES.values(), *VIEWS.values()):
                db.execute(statement)
            self._write_meta(closed=False)
            db.execute("COMMIT")
            if self._descriptor is not None:
                _use_wal(db)
        except sqlite3.Error as error:
            self._close_file()
            with suppress(OSError):
                os.unlink(self._path)
            raise UsageError(
                f"{self._name}: cannot be written: {error}", "choose another file for -o"
            ) from None

    def _is_full(self, rotate: Rotation) -> bool:
        assert self._db is not None
        if rotate.age_ns is not None:
            return self._flushed_ns - self._began_ns >= rotate.age_ns
        assert rotate.size_bytes is not None
        pages = self._db.execute("PRAGMA page_count").fetchone()[0]
        size = self._db.execute("PRAGMA page_size").fetchone()[0]
        return bool(pages * size >= rotate.size_bytes)

    def _next_part(self) -> None:
        """Start the next part; unfinished records move to it."""
        self._stale += [number for number, _ in self._provisional.values()]
        if not self._commit(closed=True):
            return  # tried again at the next flush
        self._merge_wal()
        unfinished = [life for _, life in self._provisional.values()]
        try:
            self._leave_part()
            self._begin_part()
            self._add_unfinished(unfinished)
        except (UsageError, OSError) as error:
            self._fail(str(error.strerror if isinstance(error, OSError) else error.what))

    def _leave_part(self) -> None:
        """Give the part its own name."""
        number = self._part
        while not _rename(self._path, part_name(self._path, number)):
            number += 1

    def _commit(self, closed: bool = False) -> bool:
        """Write everything in one transaction. Return False if that failed, for now or for good."""
        assert self._db is not None
        self._flushed_ns = time.monotonic_ns()
        try:
            try:
                self._transaction(closed)
            except (UnicodeEncodeError, OverflowError):
                self._db.execute("ROLLBACK")
                self._transaction(closed, odd=True)
        except (sqlite3.Error, OSError, _LockedError) as error:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            if not isinstance(error, _LockedError):
                self._fail(str(error))
            elif len(self._rows) >= KEPT:
                self._fail("another program keeps it locked")
            return False
        self._rows.clear()
        self._stale.clear()
        return True

    def _transaction(self, closed: bool, odd: bool = False) -> None:
        """Write everything; `odd` if a row has a value that SQLite refuses."""
        assert self._db is not None
        _execute_locking(self._db, _BEGIN)
        for statement, rows in self._rows.statements():
            self._db.executemany(statement, map(storable, rows) if odd else rows)
        if self._stale:
            for statement in DELETES:
                self._db.executemany(statement, [(number,) for number in self._stale])
        self._write_meta(closed)
        _execute_locking(self._db, _COMMIT)

    def _add_unfinished(self, lives: Iterable[LifeRow]) -> None:
        provisional = self._provisional
        for life in lives:
            key = (life.pid, life.start_ns)
            known = provisional.get(key)
            if known is not None:
                self._stale.append(known[0])
            provisional[key] = (self._rows.add((life,)), life)

    def _write_meta(self, closed: bool) -> None:
        assert self._db is not None
        ended_ns = self._flushed_ns if self._ended_ns is None else self._ended_ns
        own = {
            "observation": self._observation,
            "boot": self._boot,
            "part": self._part,
            "closed": closed,
            "last": self._ended_ns is not None,
            "joins": self._joins,
        }
        rows = meta_rows(replace(self._meta, ended_ns=ended_ns), own)
        for table, values in rows.items():
            self._db.execute(f"DELETE FROM {table}")
            self._db.executemany(insert(table), map(storable, values))

    def _merge_wal(self) -> None:
        """Merge the WAL file into the trace and close it; with a reader or a full disk it stays."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._db.execute("PRAGMA journal_mode = DELETE")
        self._close_file()

    def _fail(self, why: str) -> None:
        self.problem = f"{self._name}: {why}; the trace ends here, the observation goes on"
        if self._db is not None:
            with suppress(sqlite3.Error):  # there may be room for this row
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('problem', ?)", (why[:200],))
        self._close_file()
        self._rows, self._provisional = RowBuffer(), {}
        self._warn(self.problem)

    def _close_file(self) -> None:
        if self._db is None:
            return
        db, self._db = self._db, None
        with suppress(sqlite3.Error):
            db.close()
        if self._descriptor is not None:
            file.release(self._descriptor)


def _execute_locking(db: sqlite3.Connection, statement: str) -> None:
    """Execute _BEGIN or _COMMIT. Raise _LockedError if another connection holds the lock."""
    try:
        db.execute(statement)
    except sqlite3.OperationalError as error:
        # Python before 3.11 has no code. There a failed COMMIT leaves the transaction open only
        # if the file is locked (vdbe.c, sqlite3VdbeHalt()), and BEGIN hardly fails otherwise.
        code = getattr(error, "sqlite_errorcode", None)
        is_locked = statement == _BEGIN or db.in_transaction
        if code is not None:
            is_locked = code & 0xFF in _LOCKED_CODES
        if is_locked:
            raise _LockedError from error
        raise


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL; where memory cannot be shared (9p, vboxsf), without concurrent readers."""
    with suppress(sqlite3.OperationalError):
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA journal_size_limit = 16777216")


def _rename(path: str, new: str) -> bool:
    """Rename a file. Return False if `new` exists."""
    if os.path.lexists(new):
        return False
    try:
        os.link(path, new, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError:
        os.rename(path, new)  # a file system without links
    else:
        os.unlink(path)
    return True
