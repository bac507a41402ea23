# SPDX-License-Identifier: Apache-2.0
"""Read the Python stack of a sleeping main thread from /proc/PID/mem.

For a thread that went to sleep before it was followed, which the probes have not recorded.
It is not stopped: the stack is valid only if its count of context switches has not changed.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import Optional

from zombiebpf.model.stack import Frame, Stack
from zombiebpf.python.interpreter import Interpreter
from zombiebpf.python.linetable import line_of
from zombiebpf.python.offsets import ABSENT, Offsets

_MAX_FRAMES = 64
_MAX_THREADS = 8192
_MAX_TEXT = 1024
_MAX_TABLE = 16384
_POINTER = (1 << 64) - 8  # the low bits of a reference are tags from 3.14 on
_SWITCHES = re.compile(r"^voluntary_ctxt_switches:\s*(\d+)$", re.MULTILINE)


def stack_of_main_thread(pid: int, interpreter: Interpreter) -> Optional[Stack]:
    """Return the stack; None if it cannot be read or the thread ran meanwhile."""
    try:
        before = _sleeps(pid)
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            stack = Stack(tuple(_Reader(memory, interpreter).frames()))
        finally:
            os.close(memory)
        after = _sleeps(pid)
    except (OSError, ValueError, OverflowError, struct.error):
        return None
    return stack if before is not None and before == after else None


def _sleeps(pid: int) -> Optional[tuple[str, str]]:
    """Return the system call it blocks in and how often it has slept; None: it runs."""
    with open(f"/proc/{pid}/task/{pid}/syscall", encoding="ascii") as file:
        call = file.read()
    with open(f"/proc/{pid}/task/{pid}/status", encoding="utf-8", errors="replace") as file:
        switches = _SWITCHES.search(file.read())
    if switches is None or call.startswith("running"):
        return None
    return call, switches[1]


class _Reader:
    """The memory of a process. Raises OSError or ValueError if it is not as it must be."""

    def __init__(self, memory: int, interpreter: Interpreter) -> None:
        assert interpreter.image.offsets is not None
        self._memory = memory
        self._runtime = interpreter.runtime
        self._offsets: Offsets = interpreter.image.offsets
        bias = interpreter.runtime - interpreter.image.runtime
        self._code_type = interpreter.code_type
        self._str_type = interpreter.image.str_type + bias
        self._bytes_type = interpreter.image.bytes_type + bias

    def frames(self) -> Iterator[Frame]:
        """Yield the frames of the main thread, the innermost first."""
        at = self._offsets
        frame = self._first_frame()
        for _ in range(_MAX_FRAMES + 16):
            if not frame:
                return
            previous = self._u64(frame + at.frame_previous)
            owner = 0 if at.frame_owner == ABSENT else self._read(frame + at.frame_owner, 1)[0]
            if owner < at.owner_skip:
                found = self._frame(frame)
                if (found.function, found.file) != ("__init__", "__init__"):  # 3.13's shim
                    yield found
            frame = previous
        raise ValueError("the stack is too deep")

    def _first_frame(self) -> int:
        """Return the innermost frame of the oldest thread of the oldest interpreter.

        Both are the last in their list.
        """
        at = self._offsets
        interpreter = self._last(self._runtime + at.interpreters_head, at.interp_next)
        thread = self._last(interpreter + at.threads_head, at.tstate_next)
        frame = self._u64(thread + at.tstate_frame)
        if frame and at.cframe_frame != ABSENT:
            frame = self._u64(frame + at.cframe_frame)
        return frame

    def _last(self, head: int, following: int) -> int:
        item = self._u64(head)
        for _ in range(_MAX_THREADS):
            after = self._u64(item + following)
            if not after:
                return item
            item = after
        raise ValueError("a list without an end")

    def _frame(self, frame: int) -> Frame:
        at = self._offsets
        code = self._u64(frame + at.frame_code) & _POINTER
        self._require(code, self._code_type)
        if at.code_adaptive == ABSENT:
            (lasti,) = struct.unpack("<i", self._read(frame + at.frame_lasti, 4))
            lasti *= at.lasti_scale
        else:
            lasti = self._u64(frame + at.frame_lasti) - code - at.code_adaptive
        (first,) = struct.unpack("<i", self._read(code + at.code_firstlineno, 4))
        table = self._u64(code + at.code_table)
        self._require(table, self._bytes_type)
        size = self._u64(table + 16)
        if size > _MAX_TABLE:
            raise ValueError("a line table that is too long")
        line = line_of(at.minor, first, self._read(table + 32, size), lasti)
        name, file = (self._text(self._u64(code + where)) for where in
                      (at.code_name, at.code_filename))  # fmt: skip
        return Frame(name, file, line)

    def _text(self, text: int) -> str:
        """Read a str (Include/cpython/unicodeobject.h)."""
        self._require(text, self._str_type)
        length = self._u64(text + 16)
        (state,) = struct.unpack("<I", self._read(text + 32, 4))
        width, ascii_ = state >> 2 & 7, state & 64
        if length * width > _MAX_TEXT or width not in (1, 2, 4):
            raise ValueError("a name that is too long")
        skip = self._offsets.unicode_ascii if ascii_ else self._offsets.unicode_compact
        raw = self._read(text + skip, length * width)
        encoding = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[width]
        return raw.decode(encoding, "surrogatepass")

    def _require(self, object_: int, type_: int) -> None:
        if self._u64(object_ + 8) != type_:
            raise ValueError("an object of another type")

    def _u64(self, address: int) -> int:
        return int.from_bytes(self._read(address, 8), "little")

    def _read(self, address: int, size: int) -> bytes:
        found = os.pread(self._memory, size, address) if size else b""
        if len(found) != size:
            raise ValueError("memory that is not there")
        return found
