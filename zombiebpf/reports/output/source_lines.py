# SPDX-License-Identifier: Apache-2.0
"""The text of a Python source line, if its file can be read when the report is made.

The observed program chooses the file name, and a report made by root must not show what
its reader could not read. Only regular files with the suffix of a Python source are read,
and only if others may read them and search all directories above them.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import PurePath
from typing import Optional

from zombiebpf.model.stack import Frame

SUFFIXES = (".py", ".pyw")
MOST_BYTES = 4 << 20  # of a source file
LONGEST = 400  # characters of a line


def read_source_line(frame: Frame) -> Optional[str]:
    """Return the text of the frame's line; None: no such file here, or it may not be read."""
    if frame.line is None or not frame.file.startswith("/"):
        return None
    lines = _lines(frame.file)
    if lines is None or not 1 <= frame.line <= len(lines):
        return None
    return lines[frame.line - 1].strip()[:LONGEST] or None


@lru_cache(maxsize=256)
def _lines(path: str) -> Optional[list[str]]:
    """Return the lines of a source file. Never block: a FIFO is opened O_NONBLOCK and refused."""
    if not path.endswith(SUFFIXES) or "\0" in path:
        return None
    try:
        real = os.path.realpath(path)
        if os.geteuid() == 0 and not _everybody_may_reach(real):
            return None
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
                return None
            if os.geteuid() == 0 and not _may(status.st_mode, status, stat.S_IROTH, stat.S_IRUSR):
                return None
            return file.read(MOST_BYTES).decode("utf-8", "replace").splitlines()
    except (OSError, ValueError):
        return None


def _everybody_may_reach(path: str) -> bool:
    """Return whether others, or the caller of sudo, may search every directory above it."""
    for directory in PurePath(path).parents:
        status = os.stat(directory)
        if not _may(status.st_mode, status, stat.S_IXOTH, stat.S_IXUSR):
            return False
    return True


def _may(mode: int, status: os.stat_result, others: int, owner: int) -> bool:
    return bool(mode & others) or (
        bool(mode & owner) and str(status.st_uid) == os.environ.get("SUDO_UID", "0")
    )
