# SPDX-License-Identifier: Apache-2.0
"""Read source files as a process sees them, in the encoding that they declare (PEP 263)."""

from __future__ import annotations

import io
import os
import stat
import tokenize
from typing import Optional

MAX_BYTES = 4 << 20


def read_source(file: str, root: str = "/") -> Optional[str]:
    """Return the text of a source file, its lines ended by `\\n`; None if it cannot be read.

    `root` is the directory that absolute names start at: `/`, or `/proc/PID/root` for the
    mount namespace of a process. Relative names, `<string>` and the like are not read.
    """
    if not file.startswith("/") or "\0" in file:
        return None
    try:
        raw = _read(root.rstrip("/") + file)
        if raw is None:
            return None
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        text = raw.decode(encoding)
    except (OSError, SyntaxError, LookupError, ValueError):
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read(path: str) -> Optional[bytes]:
    """Return the bytes of a regular file of at most MAX_BYTES; None: another file."""
    with open(path, "rb", opener=open_nonblocking) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        raw = file.read(MAX_BYTES + 1)
    return raw if len(raw) <= MAX_BYTES else None


def open_nonblocking(path: str, flags: int) -> int:
    """Open a file for open(): opening a FIFO does not block."""
    return os.open(path, flags | os.O_NONBLOCK)
