# SPDX-License-Identifier: Apache-2.0
"""The file a trace is written to: made new, by us, and nothing else is ever touched.

It is root who writes, perhaps into a directory that others can write: no link is
followed, and SQLite's own descriptor must be the file that was made here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import Optional

from zombiebpf.errors import UsageError, ZombiebpfError
from zombiebpf.trace.schema import APPLICATION_ID

MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100
SIDE_FILES = ("-journal", "-wal", "-shm")

# What this process writes: (device, inode) -> our descriptor. Closing any other one of such
# a file would drop SQLite's locks on it (fcntl(2)), so it must not be opened beside SQLite.
_written: dict[tuple[int, int], int] = {}


def absolute(name: str) -> str:
    """`name` with its directory's links resolved; its own last part as it is."""
    directory, base = os.path.split(os.path.abspath(name))
    return os.path.join(os.path.realpath(directory), base)


def make_room(path: str, name: str, force: bool) -> None:
    """See that there is nothing at `path`; with `force` an old trace there is removed.

    `name` is what the user calls it. UsageError if what is there has to stay.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        found = None
    except OSError as error:
        raise _unwritable(name, error) from None
    if found is not None:
        _require_replaceable(path, name, found, force)
    try:
        if found is not None:
            os.unlink(path)
        for each in SIDE_FILES:
            if not os.path.lexists(path + each):
                continue
            if found is None:
                raise UsageError(
                    f"{name}{each} is there without its {name}", "remove it or choose another name"
                )
            os.unlink(path + each)
    except OSError as error:
        raise _unwritable(name, error) from None


def _require_replaceable(path: str, name: str, found: os.stat_result, force: bool) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{name}: is a directory", "choose a file in it for -o")
    if stat.S_ISLNK(found.st_mode):
        raise UsageError(f"{name}: is a symbolic link", "name the file itself for -o")
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{name}: is no regular file", "choose another file for -o")
    if written_here(found) is not None:
        raise UsageError(f"{name}: is being written", "choose another file for -o")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unwritable(name, error) from None
    try:
        if application_id(os.pread(descriptor, HEADER_BYTES, 0)) != APPLICATION_ID:
            raise UsageError(
                f"{name}: is there, and no trace of zombiebpf", "choose another file for -o"
            )
        if not force:
            raise UsageError(f"{name}: is there already", "--force replaces it")
        if is_being_written(descriptor):
            raise UsageError(
                f"{name}: another observer is writing it", "choose another file for -o"
            )
    finally:
        os.close(descriptor)


def application_id(header: bytes) -> Optional[int]:
    """Whose database it is; None if it is no SQLite database."""
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        return None
    return int.from_bytes(header[68:72], "big")


def schema_version(header: bytes) -> int:
    return int.from_bytes(header[60:64], "big")


def is_being_written(descriptor: int) -> bool:
    """Whether an observer holds it. Not for a file that this process has open with SQLite."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def written_here(found: os.stat_result) -> Optional[int]:
    """The descriptor of a file that this process itself writes."""
    return _written.get((found.st_dev, found.st_ino))


def release(descriptor: int) -> None:
    """Close what create() has given, after its connection."""
    found = os.fstat(descriptor)
    _written.pop((found.st_dev, found.st_ino), None)
    os.close(descriptor)


def create(path: str, name: str, environ: Mapping[str, str]) -> tuple[int, sqlite3.Connection]:
    """A new, empty file that only its owner can read, and SQLite's connection to it.

    release() the descriptor after the connection is closed, never before. UsageError
    if it cannot be made.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise _unwritable(name, error) from None
    connection = None
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        before = _open_files()
        connection = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        _require_ours(descriptor, before, name)
        _give_to_caller(descriptor, environ)
    except BaseException as error:
        if connection is not None:
            connection.close()
        os.close(descriptor)
        with suppress(OSError):
            os.unlink(path)
        if isinstance(error, (sqlite3.Error, OSError)):
            raise UsageError(f"{name}: cannot be written: {error}", "choose another file") from None
        raise
    found = os.fstat(descriptor)
    _written[found.st_dev, found.st_ino] = descriptor
    return descriptor, connection


def _open_files() -> dict[int, os.stat_result]:
    """Our descriptors of regular files."""
    found = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the descriptor of the listing itself
            status = os.fstat(number)
            if stat.S_ISREG(status.st_mode):
                found[number] = status
    return found


def _require_ours(descriptor: int, before: Mapping[int, os.stat_result], name: str) -> None:
    """That SQLite, which opens by name, has opened the file made here and no other."""
    ours = os.fstat(descriptor)
    opened = [status for number, status in _open_files().items() if number not in before]
    if not any(os.path.samestat(status, ours) for status in opened):
        raise ZombiebpfError(
            f"{name}: was replaced while it was made", "choose a directory that is yours"
        )


def _give_to_caller(descriptor: int, environ: Mapping[str, str]) -> None:
    """Under sudo it belongs to who called it, so that `report` needs no root."""
    uid, gid = environ.get("SUDO_UID", ""), environ.get("SUDO_GID", "")
    if os.geteuid() == 0 and uid.isdecimal() and gid.isdecimal():
        with suppress(OSError):  # a file system without owners
            os.fchown(descriptor, int(uid), int(gid))


def _unwritable(name: str, error: OSError) -> UsageError:
    if error.errno == errno.EEXIST:
        return UsageError(f"{name}: has just been made by somebody else", "choose another file")
    if error.errno == errno.ENOENT:
        return UsageError(f"{name}: its directory is not there", "make it first")
    return UsageError(f"{name}: cannot be written: {error.strerror}", "choose another file for -o")
