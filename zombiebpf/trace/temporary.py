# SPDX-License-Identifier: Apache-2.0
"""A trace that is deleted after the report was made from it.

It lies in a directory of its own, which only this user can enter. A lock on that directory
marks it as in use (flock(2): a process's end releases it, however it ends), and the next
observer deletes those that are not locked. Where there is no room it goes on in memory.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Callable, Optional

from zombiebpf.model.analysis import Meta
from zombiebpf.trace import file
from zombiebpf.trace.merge import Trace
from zombiebpf.trace.open_file import open_memory, open_part
from zombiebpf.trace.rotation import Rotation
from zombiebpf.trace.writer import BATCH, TraceWriter

LEAST_FREE = 64 << 20  # bytes that are left to others on the file system
NAME = "trace.db"
_ROOT_STATE = "/var/lib/zombiebpf"
_PREFIX = "zombiebpf-"
_NAMED = re.compile(r"zombiebpf-[0-9a-f]{16}")
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_NO_LIMIT = Rotation(None, None)


class TemporaryTrace(TraceWriter):
    """A trace for the reports of one observation. delete() it after the last one."""

    def __init__(
        self,
        meta: Meta,
        warn: Callable[[str], None] = lambda line: None,
        environ: Mapping[str, str] = os.environ,
        least_free: int = LEAST_FREE,
    ) -> None:
        """Create it. `warn` gets one line if it is kept in memory."""
        self._anchor: Optional[sqlite3.Connection] = None  # keeps the memory while nobody reads
        self._memory = f"file:zombiebpf-{secrets.token_hex(8)}?mode=memory&cache=shared"
        self._least_free = least_free
        self._directory: Optional[_Directory] = None
        try:
            self._directory = _make_directory(environ, least_free)
            path = os.path.join(self._directory.path, NAME)
        except OSError as error:
            path = NAME
            warn(_in_memory(str(error.strerror)))
        super().__init__(path, meta, rotate=_NO_LIMIT, warn=warn, environ={})

    def __enter__(self) -> TemporaryTrace:
        return self

    def __exit__(self, *error: object) -> None:
        """Delete it."""
        super().__exit__(*error)
        self.delete()

    @property
    def due(self) -> bool:
        """Whether it is time for flush(): many rows wait. Nobody reads it meanwhile."""
        return self._db is not None and len(self._rows) >= BATCH

    def open(self) -> Trace:
        """Open it for reading. Raise UsageError if that fails."""
        with ExitStack() as stack:
            parts = []
            if self._directory is not None:
                parts.append(open_part(os.path.join(self._directory.path, NAME)))
                stack.callback(parts[0].close)
            if self._anchor is not None:
                parts.append(open_memory(self._memory))
            stack.pop_all()
            return Trace([(part.name, part) for part in parts])

    def delete(self) -> None:
        """Delete it, with all that it holds in memory."""
        if self._anchor is not None:
            self._anchor.close()
            self._anchor = None
        if self._directory is not None:
            self._directory.delete()
            self._directory = None

    def _prepare_place(self, force: bool) -> None:
        """Do nothing: the directory is new."""

    def _create(self) -> tuple[Optional[int], sqlite3.Connection]:
        if self._directory is not None and self._anchor is None and self._part == 0:
            descriptor, db = file.create(self._path, self._name, self._environ)
            db.execute(
                "PRAGMA synchronous = OFF"
            )  # a crash of the machine leaves nobody to read it
            return descriptor, db
        self._anchor = sqlite3.connect(self._memory, uri=True, isolation_level=None)
        return None, sqlite3.connect(self._memory, uri=True, isolation_level=None)

    def _is_full(self, rotate: Rotation) -> bool:
        """Return whether it must go on in memory."""
        if self._directory is None or self._anchor is not None:
            return False
        try:
            return _free_bytes(self._directory.path) < self._least_free
        except OSError:
            return False

    def _leave_part(self) -> None:
        self._warn(_in_memory("less than 64 MiB are free"))


def _in_memory(why: str) -> str:
    return f"no temporary trace: {why}; what follows is kept in memory, some 500 bytes a process"


class _Directory:
    """A directory of this process alone, locked while it lives."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def delete(self) -> None:
        """Delete it with the files of a trace."""
        _empty(self._descriptor)
        with suppress(OSError):
            os.rmdir(self.path)
        os.close(self._descriptor)


def _make_directory(environ: Mapping[str, str], least_free: int) -> _Directory:
    """Make one where there is room. Raise OSError if it can be made nowhere."""
    problem = OSError(0, "no directory for it is safe")
    for base in _bases(environ):
        try:
            if base == environ.get("TMPDIR"):
                if not _is_safe(base):
                    continue
            else:
                os.makedirs(base, 0o700, exist_ok=True)
                if not _is_safe(base):
                    continue
            _delete_dead(base)
            if _free_bytes(base) < least_free:
                problem = OSError(0, f"no room in {base}")
                continue
            return _new_directory(base)
        except OSError as error:
            problem = OSError(error.errno, f"{base}: {error.strerror}")
    raise problem


def _bases(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield $TMPDIR if it is set, then the directory for state."""
    chosen = environ.get("TMPDIR", "")
    if os.path.isabs(chosen):
        yield chosen
    if os.geteuid() == 0:
        yield _ROOT_STATE
    else:
        home = environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        if os.path.isabs(home):
            yield os.path.join(home, "zombiebpf")


def _is_safe(base: str) -> bool:
    """Return whether no other user can replace what lies in a directory, or that itself."""
    place = os.path.realpath(base)
    while True:
        found = os.stat(place)
        if found.st_uid not in (0, os.geteuid()):
            return False
        if found.st_mode & _OTHERS_WRITE and not found.st_mode & stat.S_ISVTX:
            return False
        if place == "/":
            return True
        place = os.path.dirname(place)


def _free_bytes(directory: str) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def _new_directory(base: str) -> _Directory:
    while True:
        path = os.path.join(os.path.realpath(base), _PREFIX + secrets.token_hex(8))
        os.mkdir(path, 0o700)
        descriptor = os.open(path, _OPEN_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return _Directory(path, descriptor)
        except (BlockingIOError, FileNotFoundError):
            pass  # another observer has just taken it for a dead one's, and deletes it
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _delete_dead(base: str) -> None:
    """Delete what observers left that were killed: this user's, and not locked."""
    for name in os.listdir(base):
        if not _NAMED.fullmatch(name):
            continue
        with suppress(OSError), _locked(os.path.join(base, name)) as descriptor:
            _empty(descriptor)
            os.rmdir(os.path.join(base, name))


@contextmanager
def _locked(path: str) -> Iterator[int]:
    """Open and lock a directory that is this user's alone. Raise OSError if it is not, or used."""
    descriptor = os.open(path, _OPEN_DIRECTORY)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
            raise PermissionError
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


def _empty(descriptor: int) -> None:
    """Delete the files of a trace in a directory, and no other ones."""
    for name in (NAME, *(NAME + each for each in file.SIDE_FILES)):
        with suppress(OSError):
            os.unlink(name, dir_fd=descriptor)
