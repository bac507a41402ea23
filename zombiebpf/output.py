# SPDX-License-Identifier: Apache-2.0
"""Where a report goes: a stream, or a file that is either whole or not there."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Optional, TextIO

from zombiebpf.analysis import Analysis
from zombiebpf.errors import UsageError, ZombiebpfError
from zombiebpf.reports import FORMATS, text_options


class Output:
    """`path` None means `stream`. UsageError at once if `path` cannot be written."""

    def __init__(self, path: Optional[Path], stream: TextIO) -> None:
        self._path = path
        self._stream = stream
        if path is not None:
            _require_writable(path)

    def write(self, analysis: Analysis, format_: str) -> None:
        """Write the report.

        When the file cannot be written after all (disk full), the report goes to
        the stream, so that it is not lost, and ZombiebpfError says so.
        """
        report = FORMATS[format_]
        if self._path is None:
            report(analysis, self._stream, text_options(self._stream, os.environ))
            self._stream.flush()
            return
        buffer = io.StringIO()
        report(analysis, buffer, text_options(buffer, os.environ))
        data = buffer.getvalue().encode("utf-8", "backslashreplace")
        try:
            _write_whole(self._path, data)
        except OSError as error:
            self._stream.write(buffer.getvalue())
            self._stream.flush()
            raise ZombiebpfError(
                f"{self._path}: {error.strerror}; the report stands above instead"
            ) from None


def _is_special(path: Path) -> bool:
    """/dev/stdout, a FIFO, a terminal: written in place."""
    return path.exists() and not path.is_file()


def _require_writable(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path}: is a directory")
    directory = path.parent
    if not directory.is_dir():
        raise UsageError(f"{path}: no directory {directory}")
    place = path if path.exists() else directory
    if not os.access(place, os.W_OK):
        raise UsageError(f"{path}: cannot be written")


def _write_whole(path: Path, data: bytes) -> None:
    if _is_special(path):
        with path.open("wb") as file:
            file.write(data)
        return
    target = Path(os.path.realpath(path))
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            _give_back(file.fileno(), target)
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _give_back(descriptor: int, target: Path) -> None:
    """Under sudo a file in the user's directory is the user's; else like a plain open()."""
    umask = os.umask(0)
    os.umask(umask)
    os.fchmod(descriptor, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~umask)
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        owner = target.parent.stat()
        if owner.st_uid == int(os.environ["SUDO_UID"]):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
