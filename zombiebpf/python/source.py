# SPDX-License-Identifier: Apache-2.0
"""What does a line of a source file say, as a process sees that file?

The file is read, never run. Its encoding is what its first lines declare (PEP 263).
"""

from __future__ import annotations

import io
import os
import stat
import tokenize
from collections import OrderedDict
from typing import Optional

MOST_BYTES = 4 << 20
_FILES = 128


def read_source(file: str, root: str = "/") -> Optional[str]:
    """The text of a source file, with `\\n` at the ends of lines; None: it cannot be had.

    `root` is where the file's name starts: `/`, or `/proc/PID/root` for the mount
    namespace of a process. Relative names, `<string>` and the like are of no file.
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
    """None: no regular file, or one of more than MOST_BYTES."""
    # O_NONBLOCK: a FIFO of that name must not stop us.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        raw = file.read(MOST_BYTES + 1)
    return raw if len(raw) <= MOST_BYTES else None


class Lines:
    """The lines of source files, for a report; remembers the last files it read."""

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._files: OrderedDict[str, list[str]] = OrderedDict()

    def text_of(self, file: str, line: Optional[int]) -> Optional[str]:
        """The line's text without the white space around it; None: it cannot be had."""
        if line is None or line < 1:
            return None
        if file not in self._files:
            self._files[file] = (read_source(file, self._root) or "").split("\n")
            while len(self._files) > _FILES:
                self._files.popitem(last=False)
        self._files.move_to_end(file)
        lines = self._files[file]
        return (lines[line - 1].strip() or None) if line <= len(lines) else None
