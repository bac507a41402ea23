# SPDX-License-Identifier: Apache-2.0
"""A trace while it is written: in batches, so that a cut loses the last second at the most.

SQLite's WAL mode keeps what was committed through a SIGKILL of ours. What is
alive is written too, once it has lived through a batch, and again when it has
changed: a cut trace tells of it as of the last batch.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Callable, Optional

from zombiebpf.analysis import Join, Meta
from zombiebpf.errors import UsageError
from zombiebpf.life import Life
from zombiebpf.trace import file
from zombiebpf.trace.metadata import boot_id, meta_rows
from zombiebpf.trace.rotation import Rotation, part_name, parts_beside
from zombiebpf.trace.rows import DELETES, Rows, storable
from zombiebpf.trace.schema import APPLICATION_ID, SCHEMA_VERSION, TABLES, VIEWS

FLUSH_NS = 500_000_000
BATCH = 10_000  # rows that wait, at the most, until they are due
KEPT = 200_000  # rows that wait while somebody else has locked the file
FINAL_TRIES = 10  # of a second each, to get the lock at the end

Key = tuple[int, int]


class TraceWriter:
    """Writes one observation to `path`; with `rotate`, the earlier parts beside it.

    Opening raises UsageError if the file cannot be made, or is there and is not
    to be replaced. From then on nothing is raised: when it cannot be written any
    more (disk full), `warn` gets one line, what was written stays, `problem` says
    why, and all calls do nothing.

        with TraceWriter(path, meta) as trace:
            ...
            trace.add(lifecycle.feed(events))
            if trace.due:
                trace.flush(lifecycle.unfinished)
            ...
            trace.add(lifecycle.finish(), joins)
            trace.close(meta)
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
        """`meta`: what is known at the start; its `ended_ns` does not count."""
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
        self._ended_ns: Optional[int] = None  # known from close() on
        self._joins = False  # whether anything told of joins
        self._meta = meta
        self.problem: Optional[str] = None
        self._db: Optional[sqlite3.Connection] = None
        self._clear_earlier_parts(force)
        file.make_room(self._path, self._name, force)
        self._begin_part()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Without close() before, the trace stays marked as cut."""
        if self._db is not None:
            self._commit(())
            self._fold()

    @property
    def due(self) -> bool:
        """Whether it is time for flush(): half a second, or much to write."""
        return self._db is not None and (
            len(self._rows) >= BATCH or time.monotonic_ns() - self._flushed_ns >= FLUSH_NS
        )

    def add(self, lives: Iterable[Life], joins: Optional[Iterable[Join]] = None) -> None:
        """Lives that have ended, or will not be heard of again, and joins that have.

        Not None, `joins` says that joins were looked for.
        """
        if self._db is None:
            return
        provisional = self._provisional
        for life in lives:
            if provisional:
                known = provisional.pop((life.pid, life.start_ns), None)
                if known is not None:
                    self._stale.append(known[0])
            self._rows.add_life(life)
        if joins is not None:
            self._joins = True
            for join in joins:
                self._rows.add_join(join)

    def flush(self, running: Iterable[Life] = (), meta: Optional[Meta] = None) -> None:
        """Write what was added, and what has changed of the lives that go on.

        `running`: Lifecycle.unfinished; it is looked through at once. `meta`, if
        given, brings the number of lost records up to date.
        """
        if self._db is None:
            return
        if meta is not None:
            self._meta = meta
        self._commit(running)
        if self._db is not None and self._rotate is not None and self._is_full(self._rotate):
            self._next_part()

    def close(self, meta: Meta) -> None:
        """Write the rest, mark the trace as whole and make one file of it."""
        self._meta, self._ended_ns = meta, meta.ended_ns
        for _ in range(FINAL_TRIES):
            if self._db is None:
                return
            if self._commit((), closed=True):
                break
        else:
            self._fail("another program keeps it locked")
            return
        self._fold()

    # parts

    def _clear_earlier_parts(self, force: bool) -> None:
        if self._rotate is None:
            return
        name_of = os.path.dirname(self._name)
        for part in parts_beside(self._path):
            file.make_room(part, os.path.join(name_of, os.path.basename(part)), force)

    def _begin_part(self) -> None:
        descriptor, db = file.create(self._path, self._name, self._environ)
        self._descriptor, self._db = descriptor, db
        self._part += 1
        self._rows = Rows()
        self._provisional: dict[Key, tuple[int, tuple[Any, ...]]] = {}
        self._stale: list[int] = []  # rows of lives that have changed or ended
        self._began_ns = self._flushed_ns = time.monotonic_ns()
        try:
            db.execute("PRAGMA synchronous = NORMAL")  # a crash of the machine cuts, too
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            db.execute("BEGIN")
            for statement in (*TABLES.values(), *VIEWS.values()):
                db.execute(statement)
            self._write_meta(closed=False)
            db.execute("COMMIT")
            _use_wal(db)
        except sqlite3.Error as error:
            self._let_go()
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
        """Lives that go on are of the next: they go to the file in which they end."""
        self._stale += [number for number, _ in self._provisional.values()]
        if not self._commit((), closed=True):
            return  # at the next flush
        self._fold()
        try:
            number = self._part
            while not _rename(self._path, part_name(self._path, number)):
                number += 1
            self._begin_part()
        except (UsageError, OSError) as error:
            self._fail(str(error.strerror if isinstance(error, OSError) else error.what))

    # writing

    def _commit(self, running: Iterable[Life], closed: bool = False) -> bool:
        """One transaction. False if it was not written: somebody else has the lock, or never."""
        assert self._db is not None
        previous_ns, self._flushed_ns = self._flushed_ns, time.monotonic_ns()
        self._add_changed(running, previous_ns)
        try:
            try:
                self._transaction(closed)
            except (UnicodeEncodeError, OverflowError):
                self._db.execute("ROLLBACK")
                self._transaction(closed, odd=True)
        except (sqlite3.Error, OSError) as error:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            if "locked" not in str(error):
                self._fail(str(error))
            elif len(self._rows) >= KEPT:
                self._fail("another program keeps it locked")
            return False
        self._rows.clear()
        self._stale.clear()
        return True

    def _transaction(self, closed: bool, odd: bool = False) -> None:
        """`odd`: there is something in the rows that SQLite does not take as it is."""
        assert self._db is not None
        self._db.execute("BEGIN IMMEDIATE")
        for statement, rows in self._rows.statements():
            self._db.executemany(statement, map(storable, rows) if odd else rows)
        if self._stale:
            for statement in DELETES:
                self._db.executemany(statement, [(number,) for number in self._stale])
        self._write_meta(closed)
        self._db.execute("COMMIT")

    def _add_changed(self, running: Iterable[Life], before_ns: int) -> None:
        """What was born since the last batch has time: most of it will have ended by the next."""
        provisional = self._provisional
        for life in running:
            if (life.fork_ns or 0) > before_ns:
                continue
            key = (life.pid, life.start_ns)
            now = (
                life.comm, life.argv, life.execs, life.exit_ns, life.zombie_ns, life.reparents,
                life.unseen, life.meanwhile, life.fork_stack, life.fork_site, life.cgroup,
            )  # fmt: skip
            known = provisional.get(key)
            if known is not None:
                if known[1] == now:
                    continue
                self._stale.append(known[0])
            provisional[key] = (self._rows.add_life(life), now)

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
            marks = ", ".join("?" * len(values[0])) if values else ""
            self._db.execute(f"DELETE FROM {table}")
            if values:
                self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", map(storable, values))

    # the end

    def _fold(self) -> None:
        """Into one file, as far as nobody reads it and there is room: else it stays beside."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._db.execute("PRAGMA journal_mode = DELETE")
        self._let_go()

    def _fail(self, why: str) -> None:
        """No more of this trace."""
        self.problem = f"{self._name}: {why}; the trace ends here, the observation goes on"
        if self._db is not None:
            with suppress(sqlite3.Error):  # there may be room for that
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('problem', ?)", (why[:200],))
        self._let_go()
        self._rows, self._provisional = Rows(), {}
        self._warn(self.problem)

    def _let_go(self) -> None:
        if self._db is None:
            return
        db, self._db = self._db, None
        with suppress(sqlite3.Error):
            db.close()
        file.release(self._descriptor)


def _use_wal(db: sqlite3.Connection) -> None:
    """Where no memory can be shared (9p, vboxsf), WAL without readers beside us."""
    with suppress(sqlite3.OperationalError):
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA journal_size_limit = 16777216")


def _rename(path: str, new: str) -> bool:
    """False if there is something already."""
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
