# SPDX-License-Identifier: Apache-2.0
"""Opening a trace file to read it: is it one, is it whole, can this version read it.

Nothing in the file is trusted: its tables must be ours word by word, and SQLite
checks its structure before a row is read.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import quote

from zombiebpf.errors import UsageError
from zombiebpf.trace import file
from zombiebpf.trace.part import Part
from zombiebpf.trace.schema import APPLICATION_ID, SCHEMA_VERSION, TABLES
from zombiebpf.trace.values import Damaged


def open_part(name: str) -> Part:
    """UsageError if it cannot be read, is no trace or a newer one; Damaged."""
    being_written = _require_trace(name)
    with damage(name):
        try:
            return _part(_connect(name), being_written)
        except sqlite3.OperationalError:
            # its WAL file needs shared memory, which not every directory lets us have
            if not os.path.exists(name + "-wal") or file.written_here(os.stat(name)) is not None:
                raise
            return _part(_copied(name), being_written)


@contextmanager
def damage(name: str) -> Iterator[None]:
    """What reading a file can meet, as one line that names it."""
    try:
        yield
    except Damaged as error:
        if not error.what.startswith(name):
            error.what = f"{name}: {error.what}"
        raise
    except sqlite3.Error as error:
        raise Damaged(f"{name}: {_one_line(error)}") from None
    except (ValueError, OverflowError) as error:
        raise Damaged(f"{name}: {_one_line(error)}") from None


def _one_line(said: object) -> str:
    """SQLite quotes the file itself."""
    words = " ".join(str(said).split())
    line = "".join(each if each.isprintable() else "?" for each in words)
    return line if len(line) <= 200 else line[:197] + "..."


def _require_trace(name: str) -> bool:
    """Whether it is being written now. UsageError if it is no trace of ours."""
    if "\0" in name:
        raise UsageError("a file's name has no null byte")
    try:
        own = file.written_here(os.stat(name))
        if own is not None:
            _require_header(name, os.pread(own, file.HEADER_BYTES, 0))
            return True
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        cure = "is it root's? then use sudo" if error.errno == errno.EACCES else None
        raise UsageError(f"{name}: {error.strerror}", cure) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{name}: is a directory", "name a trace in it")
        if not stat.S_ISREG(mode):
            raise UsageError(f"{name}: is no regular file", "copy it into one")
        try:
            header = os.pread(descriptor, file.HEADER_BYTES, 0)
        except OSError as error:
            raise UsageError(f"{name}: {error.strerror}") from None
        _require_header(name, header)
        return file.is_being_written(descriptor)
    finally:
        os.close(descriptor)


def _require_header(name: str, header: bytes) -> None:
    if not header:
        raise UsageError(f"{name}: is empty", "the observer has not begun to write it")
    if header.startswith(file.MAGIC) and len(header) < file.HEADER_BYTES:
        raise Damaged(f"{name}: ends within its first {file.HEADER_BYTES} bytes")
    if file.application_id(header) != APPLICATION_ID:
        raise UsageError(f"{name}: is no trace of zombiebpf", "`-o FILE` writes one")
    version = file.schema_version(header)
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"{name}: was written by a newer zombiebpf (trace schema {version},"
            f" this one reads up to {SCHEMA_VERSION})",
            "report it with that version",
        )
    if version < 1:
        raise Damaged(f"{name}: has trace schema {version}")


def _connect(name: str) -> sqlite3.Connection:
    path = quote(os.fsencode(os.path.abspath(name)))
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0, isolation_level=None)


def _copied(name: str) -> sqlite3.Connection:
    """Of a copy, which is gone when the connection is."""
    directory = tempfile.mkdtemp(prefix="zombiebpf-")
    try:
        copy = os.path.join(directory, "trace.db")
        shutil.copyfile(name, copy)
        shutil.copyfile(name + "-wal", copy + "-wal")
        db = sqlite3.connect(copy, isolation_level=None)
        with suppress(sqlite3.Error):
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the WAL file
        return db
    except OSError as error:
        raise UsageError(f"{name}: cannot be copied to be read: {error.strerror}") from None
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _part(db: sqlite3.Connection, being_written: bool) -> Part:
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        db.execute("PRAGMA mmap_size = 0")
        db.execute("BEGIN")  # one state of it, though it may be written on
        _require_tables(db)
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise Damaged(_one_line(verdict))
        return Part(db, being_written)
    except BaseException:
        db.close()
        raise


def _require_tables(db: sqlite3.Connection) -> None:
    found = db.execute("SELECT name, type, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    for table, sql in TABLES.items():
        if [row for row in found if row[0] == table] != [(table, "table", sql)]:
            raise Damaged(f"its table {table!r} is not as it was made")
