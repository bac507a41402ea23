# SPDX-License-Identifier: Apache-2.0
"""What the workload itself knows: which processes it made, which waits gave it what.

Every process of the workload appends lines to one file (O_APPEND: each write is whole). A fork is
written by the forker, who is never killed between the fork and the line: the count is exact.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

_fd = -1


def open_book(path: Path) -> None:
    """Start the book; must be called before the first fork."""
    global _fd
    _fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC, 0o644)


def _write(*words: object) -> None:
    os.write(_fd, (" ".join(map(str, words)) + "\n").encode())


def forked(began_ns: int, child: int, how: str) -> None:
    """The calling thread made process `child`, not before `began_ns` (CLOCK_MONOTONIC)."""
    _write("F", began_ns, time.monotonic_ns(), os.getpid(), threading.get_native_id(), child, how)


def waited(began_ns: int, child: int, status: int, how: str) -> None:
    """A wait begun at `began_ns` has reaped `child` and given `status` (the wait(2) word)."""
    _write(
        "W", began_ns, time.monotonic_ns(), os.getpid(), threading.get_native_id(), child, status,
        how,
    )  # fmt: skip


def failed(what: str) -> None:
    """The workload itself went wrong."""
    _write("E", what.replace("\n", " | "))


class Tail:
    """Counts forks while the workload runs."""

    def __init__(self) -> None:
        self._offset = 0
        self._rest = b""
        self.forks = 0

    def update(self) -> int:
        """Read what was added; give the forks counted so far."""
        data = os.pread(_fd, 1 << 24, self._offset)
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.forks += sum(line.startswith(b"F") for line in lines)
        return self.forks


def summary() -> dict[str, Any]:
    """The book as one JSON-able value."""
    size = os.fstat(_fd).st_size
    forks, waits, errors = [], [], []
    for line in os.pread(_fd, size, 0).decode().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "E":
            errors.append(rest)
            continue
        *numbers, how = rest.split(" ")
        began, ended, pid, tid, child, *status = map(int, numbers)
        entry: dict[str, Any] = {"began_ns": began, "ended_ns": ended, "pid": pid, "tid": tid}
        entry["child"] = child
        entry["how"] = how
        if kind == "F":
            forks.append(entry)
        else:
            entry["status"] = status[0]
            waits.append(entry)
    return {"forks": forks, "waits": waits, "errors": errors}


def save(path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """Write `head` and the book as one JSON document."""
    document = {**head, **summary()}
    path.write_text(json.dumps(document), encoding="utf-8")
    return document
