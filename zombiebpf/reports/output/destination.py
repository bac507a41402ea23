# SPDX-License-Identifier: Apache-2.0
"""The destination of a report: a stream, or a file that is either complete or missing."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import functools
import io
import os
import re
import select
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Optional, TextIO

from zombiebpf.errors import UsageError, ZombiebpfError
from zombiebpf.model.observation import Observation
from zombiebpf.reports import FORMATS, TextOptions, text_options
from zombiebpf.reports.output.source_lines import read_source_line

Writer = Callable[[TextIO, TextOptions], None]

FOR_PEOPLE = ("text", "tree")

_NAMED = {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2}
_NUMBERED = re.compile(r"(?:/dev/fd|/proc/self/fd)/(\d{1,9})")

# Errors of replacing a file that can still be written: its directory is read-only, or the
# file itself is a mount point, which containers do.
_IN_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)


class Output:
    """The destination of one report."""

    def __init__(self, path: Optional[str], stream: TextIO) -> None:
        """`path` None means `stream`, `-` standard output.

        Raise UsageError if `path` cannot be written. A path that names a descriptor of this
        process is duplicated at once, because run() passes those on to the command.
        """
        self._name = path or f"standard {'output' if stream is sys.stdout else 'error'}"
        self._path: Optional[Path] = None
        self._held: Optional[TextIO] = None
        self._stream = stream
        if path is None:
            return
        number = _descriptor(path)
        if number is not None:
            self._held = _hold(path, number)
        else:
            self._path = _require_writable(path)

    @property
    def is_terminal(self) -> bool:
        """Whether the report goes to a terminal."""
        if self._path is not None:
            return False
        return (self._held or self._stream).isatty()

    def write(
        self, observation: Observation, format_: str, ready: Callable[[], None] = lambda: None
    ) -> None:
        """Write the report, once. Before the first byte of one for people `ready` is called.

        If the file cannot be written after all (disk full), write it to `stream`, so that it
        is not lost, and raise ZombiebpfError. Raise BrokenPipeError if the reader has closed.
        """
        report = functools.partial(FORMATS[format_], observation)
        if format_ in FOR_PEOPLE:
            self.write_by(_in_one_piece(report, ready), True)
        else:
            self.write_by(report, False)

    def write_by(self, report: Writer, for_people: bool) -> None:
        """Write what `report` writes, as write() does.

        With `for_people` a stream's own encoding is used, else UTF-8.
        """
        try:
            if self._path is not None:
                _write_file(report, self._path)
            elif self._held is not None:
                with self._held as held:
                    _write_stream(report, for_people, held)
            else:
                _write_stream(report, for_people, self._stream)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._write_instead(report, for_people, str(error.strerror)) from None

    def _write_instead(self, report: Writer, for_people: bool, problem: str) -> ZombiebpfError:
        where = "there is no report"
        if self._path is not None or self._held is not None:
            with suppress(OSError):
                _write_stream(report, for_people, self._stream)
                where = "the report stands above instead"
        return ZombiebpfError(f"{self._name}: {problem}; {where}")


def _in_one_piece(report: Writer, ready: Callable[[], None]) -> Writer:
    """Return a writer that writes nothing before the report is complete: it is short."""

    def write(out: TextIO, options: TextOptions) -> None:
        page = io.StringIO()
        report(page, options)
        ready()
        out.write(page.getvalue())

    return write


class _BlockingFile(io.FileIO):
    """A file that waits until it can be written: a command may leave a terminal non-blocking."""

    def write(self, data: Any) -> int:
        while True:
            written: Optional[int] = super().write(data)
            if written is not None:
                return written
            poll = select.poll()
            poll.register(self, select.POLLOUT)
            poll.poll()


def _options(stream: TextIO) -> TextOptions:
    """Return the layout for a stream, with the source text that may be read here."""
    return dataclasses.replace(text_options(stream, os.environ), source=read_source_line)


def _descriptor(path: str) -> Optional[int]:
    """Return the descriptor of this process that the path names."""
    if path in _NAMED:
        return _NAMED[path]
    found = _NUMBERED.fullmatch(path)
    return int(found[1]) if found else None


def _hold(path: str, number: int) -> TextIO:
    """Return a duplicate that no command inherits; it shares the position in the file."""
    try:
        mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        copy = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if mode == os.O_RDONLY:
        raise UsageError(f"{path}: is open for reading only")
    encoding = getattr(sys.stdout, "encoding", None)
    return io.TextIOWrapper(io.BufferedWriter(_BlockingFile(copy, "w")), encoding=encoding)


def _require_writable(name: str) -> Path:
    """Return the real path. Try to create a new file, because even root may not write everywhere.

    Raise UsageError if it cannot be written.
    """
    if os.geteuid() == 0:
        _refuse_planted(name)
    try:
        path = Path(os.path.realpath(name))
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if os.path.exists(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        else:
            descriptor, probe = _temporary(path)
            os.close(descriptor)
            os.unlink(probe)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # there may be room by then
            raise UsageError(
                f"{name}: cannot be written: {error.strerror}", "choose another file for --report"
            ) from None
    return path


def _refuse_planted(name: str) -> None:
    """Raise UsageError if the path leads through another user's symbolic link.

    That user could choose the file that root writes.
    """
    sudo = os.environ.get("SUDO_UID", "")
    trusted = {0, int(sudo) if sudo.isdecimal() else 0}
    here = "/"
    left = os.path.abspath(name).split("/")
    for _ in range(1000):  # a loop of links is an error of realpath() afterwards
        if not left:
            return
        place = os.path.join(here, left.pop(0))
        try:
            found = os.lstat(place)
        except OSError:
            return
        if not stat.S_ISLNK(found.st_mode):
            here = place
            continue
        if found.st_uid not in trusted:
            raise UsageError(
                f"{name}: cannot be written: {place} is a symbolic link of another user "
                f"(uid {found.st_uid}), which root does not follow",
                "choose another file for --report",
            )
        target = os.readlink(place)
        here = "/" if target.startswith("/") else here
        left = target.split("/") + left


def _write_stream(report: Writer, for_people: bool, stream: TextIO) -> None:
    """Write to the stream's descriptor; wait if it is non-blocking."""
    stream.flush()
    options = _options(stream)
    encoding = stream.encoding if for_people else "utf-8"
    raw = _BlockingFile(stream.fileno(), "w", closefd=False)
    with io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace"
    ) as file:
        report(file, options)


def _write_file(report: Writer, path: Path) -> None:
    """Write a device or FIFO in place; replace a file once the new one is complete."""
    if path.exists() and not path.is_file():
        _fill(report, os.open(path, os.O_WRONLY | os.O_NOFOLLOW))
        return
    try:
        descriptor, name = _temporary(path)
    except OSError as error:
        if error.errno in _IN_PLACE and path.exists():
            _fill(report, os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW))
            return
        raise
    try:
        _copy_owner_and_mode(descriptor, path)
        _fill(report, descriptor)
        try:
            os.replace(name, path)
        except OSError as error:
            if error.errno not in _IN_PLACE:
                raise
            _fill(report, os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW))
            os.unlink(name)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _temporary(path: Path) -> tuple[int, str]:
    return tempfile.mkstemp(prefix=f".{path.name[:200]}.", dir=path.parent)


def _fill(report: Writer, descriptor: int) -> None:
    """Write the report and close the descriptor."""
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        report(file, _options(file))


def _copy_owner_and_mode(descriptor: int, path: Path) -> None:
    """Keep owner and mode of the old file; a new one in a directory of sudo's caller is theirs."""
    umask = os.umask(0)
    os.umask(umask)
    old = path.stat() if path.exists() and not path.is_symlink() else None
    owner = old or path.parent.stat()
    with suppress(OSError):  # without privilege
        if old is not None or str(owner.st_uid) == os.environ.get("SUDO_UID"):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    os.fchmod(descriptor, old.st_mode & 0o777 if old else 0o644 & ~umask)
