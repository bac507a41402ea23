# SPDX-License-Identifier: Apache-2.0
"""Create the file that a trace is written to, and never touch any other file.

Root writes it, perhaps into a directory that others can write to: no link is followed,
and SQLite's own descriptor must refer to the file that was created here.
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

# The traces that this process writes: (device, inode) -> descriptor. Closing any other
# descriptor of such a file would drop SQLite's locks on it (fcntl(2)), so none is opened.
_written: dict[tuple[int, int], int] = {}


def absolute(name: str) -> str:
    """Return an absolute path with the links in its directory resolved, but not its last part."""
    directory, base = os.path.split(os.path.abspath(name))
    return os.path.join(os.path.realpath(directory), base)


def make_room(path: str, name: str, force: bool) -> None:
    """Make sure that there is no file at `path`; with `force`, remove an old trace.

    `name` is the path as the user gave it. Raise UsageError if a file there must stay.
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
    """Return the application id in a SQLite header; None if it is not one."""
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        return None
    return int.from_bytes(header[68:72], "big")


def schema_version(header: bytes) -> int:
    """Return PRAGMA user_version, from a SQLite header."""
    return int.from_bytes(header[60:64], "big")


def is_being_written(descriptor: int) -> bool:
    """Return whether another observer is writing the file, and has locked it for that.

    Do not call this for a file that this process has open with SQLite.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def written_here(found: os.stat_result) -> Optional[int]:
    """Return the descriptor of a trace that this process writes; None if it does not."""
    return _written.get((found.st_dev, found.st_ino))


def release(descriptor: int) -> None:
    """Close the descriptor from create(); its connection must be closed already."""
    found = os.fstat(descriptor)
    _written.pop((found.st_dev, found.st_ino), None)
    os.close(descriptor)


def create(path: str, name: str, environ: Mapping[str, str]) -> tuple[int, sqlite3.Connection]:
    """Create an empty file that only its owner can read. Return its descriptor and connection.

    Call release() after the connection is closed, never before. Raise UsageError if the
    file cannot be created.
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
        _require_same_file(descriptor, before, name)
        _give_to_sudo_caller(descriptor, environ)
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
    found = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the descriptor of the listing itself
            status = os.fstat(number)
            if stat.S_ISREG(status.st_mode):
                found[number] = status
    return found


def _require_same_file(descriptor: int, before: Mapping[int, os.stat_result], name: str) -> None:
    """Check that SQLite, which opens by name, has opened the file of `descriptor`."""
    created = os.fstat(descriptor)
    opened = [status for number, status in _open_files().items() if number not in before]
    if not any(os.path.samestat(status, created) for status in opened):
        raise ZombiebpfError(
            f"{name}: was replaced while it was made", "choose a directory that is yours"
        )


def _give_to_sudo_caller(descriptor: int, environ: Mapping[str, str]) -> None:
    """Give the file to the caller of sudo, so that `report` does not need root."""
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
