# SPDX-License-Identifier: Apache-2.0
"""Open a trace file for reading, after checking that it is valid.

Nothing in the file is trusted: its tables must be defined word by word as in schema.py,
and SQLite checks the structure of the file before a row is read.
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

from zombiebpf.errors import UsageError, ZombiebpfError
from zombiebpf.trace import file
from zombiebpf.trace.decode import DamagedTraceError
from zombiebpf.trace.part import Part
from zombiebpf.trace.schema import APPLICATION_ID, SCHEMA_VERSION, TABLES

TEMP_CACHE_KIB = 16_384  # of SQLite's temporary database, before it is written to its file


def open_part(name: str) -> Part:
    """Open one trace file.

    Raise UsageError if it cannot be read, is not a trace or has a newer schema, and
    DamagedTraceError if it is damaged.
    """
    being_written = _require_trace(name)
    with damage_of(name):
        try:
            return part_of(_connect(name), name, being_written)
        except sqlite3.OperationalError:
            # reading a WAL file needs shared memory, which not every directory allows
            if not os.path.exists(name + "-wal") or file.written_here(os.stat(name)) is not None:
                raise
            return part_of(_copied(name), name, being_written)


def open_memory(uri: str) -> Part:
    """Open a trace that this process keeps in memory."""
    name = "the observation"
    with damage_of(name):
        db = sqlite3.connect(uri, uri=True, isolation_level=None)
        return part_of(db, name, being_written=True)


@contextmanager
def damage_of(name: str) -> Iterator[None]:
    """Turn errors of reading the file `name` into DamagedTraceError that names it, on one line."""
    try:
        yield
    except DamagedTraceError as error:
        raise error.of(name) from None
    except sqlite3.OperationalError as error:
        if "disk is full" in str(error):
            raise ZombiebpfError(
                "no room for temporary files", "set SQLITE_TMPDIR to a directory that has some"
            ) from None
        raise DamagedTraceError(_one_line(error)).of(name) from None
    except (sqlite3.Error, ValueError, OverflowError) as error:
        raise DamagedTraceError(_one_line(error)).of(name) from None


def _one_line(said: object) -> str:
    """Return a message of SQLite, which may quote the file, as one short printable line."""
    words = " ".join(str(said).split())
    line = "".join(each if each.isprintable() else "?" for each in words)
    return line if len(line) <= 200 else line[:197] + "..."


def _require_trace(name: str) -> bool:
    """Return whether the file is being written. Raise UsageError if it is not a trace."""
    if "\0" in name:
        raise UsageError("a file's name has no null byte")
    try:
        descriptor = file.written_here(os.stat(name))
        if descriptor is not None:
            _require_header(name, os.pread(descriptor, file.HEADER_BYTES, 0))
            return True
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        fix = "is it root's? then use sudo" if error.errno == errno.EACCES else None
        raise UsageError(f"{name}: {error.strerror}", fix) from None
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
        raise DamagedTraceError(f"{name}: ends within its first {file.HEADER_BYTES} bytes")
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
        raise DamagedTraceError(f"{name}: has trace schema {version}")


def _connect(name: str) -> sqlite3.Connection:
    path = quote(os.fsencode(os.path.abspath(name)))
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0, isolation_level=None)


def _copied(name: str) -> sqlite3.Connection:
    """Connect to a copy of the file, which is deleted with the connection."""
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


def part_of(db: sqlite3.Connection, name: str, being_written: bool) -> Part:
    """Return the part that a connection is open for, which is closed with it.

    Raise DamagedTraceError if it is damaged.
    """
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        db.execute("PRAGMA mmap_size = 0")
        db.execute("PRAGMA temp_store = FILE")
        db.execute("PRAGMA temp.journal_mode = OFF")  # nothing in it is ever rolled back
        db.execute(f"PRAGMA temp.cache_size = -{TEMP_CACHE_KIB}")
        db.execute("BEGIN")  # one consistent state, even if the file is being written
        _require_tables(db)
        verdict = db.execute("PRAGMA main.quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise DamagedTraceError(_one_line(verdict))
        return Part(db, name, being_written)
    except BaseException:
        db.close()
        raise


def _require_tables(db: sqlite3.Connection) -> None:
    found = db.execute("SELECT name, type, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    for table, sql in TABLES.items():
        if [row for row in found if row[0] == table] != [(table, "table", sql)]:
            raise DamagedTraceError(f"its table {table!r} is not as it was made")
