# SPDX-License-Identifier: Apache-2.0
"""Decode the records of stacks and code objects into frames with functions and lines.

The probes send a stack as code objects and instruction offsets, and each code object once:
its name, file, first line and line table. Both are cached here, in bounded tables. If a
record is missing, the stack ends early and is marked with the reason.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Optional, TypeVar, Union

from zombiebpf.model.events import StackProblem
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.python.linetable import line_of

# (lineage, file, co_firstlineno, co_name) -> co_qualname: zombiebpf.python.qualname.Qualnames.of
Qualified = Callable[[int, str, int, str], Optional[str]]

STACK = 1
CODE = 2
NAME_BYTES = 256
FILE_BYTES = 1024
MAX_FRAMES = 64
_HEAD = struct.Struct("<II")
_STACK_HEAD = struct.Struct("<IIQII")  # kind, depth, stack id, lineage, problem
_FRAME = struct.Struct("<QQiI")  # code, check, lasti, unused
# kind, lineage, code, check, firstlineno, minor, length and kind of the name and of the file,
# length of the table, bytes of it that are sent
_CODE_HEAD = struct.Struct("<IIQQ8I")

FIRST_WITH_QUALNAME = 11
ELLIPSIS = "…"
ENCODINGS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}  # by bytes a character

CUT = f"deeper than {MAX_FRAMES} frames: the outermost are missing"
UNREADABLE = "a part was not in memory or not a Python frame: the frames outside of it are missing"
LOST = "the record of the stack was lost"
FUNCTION_LOST = "the record of a function was lost"
NO_THREAD = "a thread that Python does not know"
UNREGISTERED = "an interpreter that was not known yet"
LINES_CUT = "a function is too long: its line is not known"
PROBLEMS = {
    StackProblem.CUT: CUT,
    StackProblem.UNREADABLE: UNREADABLE,
    StackProblem.NO_THREAD: NO_THREAD,
    StackProblem.UNREGISTERED: UNREGISTERED,
    StackProblem.LOST: LOST,
}

_CodeKey = tuple[int, int, int]  # lineage, code, check
_K = TypeVar("_K")
_V = TypeVar("_V")


class RecordError(ValueError):
    """Bytes that are not a valid record; the text is the reason."""


class _Code(NamedTuple):
    name: str
    file: str
    firstlineno: int
    minor: int
    table: bytes
    cut: bool  # the table's end is missing
    frames: dict[int, Frame]  # by lasti, made when they are needed

    def frame(self, lasti: int) -> Frame:
        if lasti not in self.frames:
            line = line_of(self.minor, self.firstlineno, self.table, lasti, self.cut)
            self.frames[lasti] = Frame(self.name, self.file, line)
        return self.frames[lasti]

    @property
    def is_shim(self) -> bool:
        """Whether it is the interpreter's own: `__init__` of 3.13, `<interpreter trampoline>`."""
        return (
            self.name == self.file
            and self.minor >= FIRST_WITH_QUALNAME
            and (self.name == "__init__" or self.name.startswith("<interpreter "))
        )


class _Waiting(NamedTuple):
    """A stack with a function whose record is missing, and may still come."""

    lineage: int
    problem: int
    frames: tuple[tuple[int, int, int], ...]  # code, check, lasti


class Stacks:
    """The stacks of one observation, by their 64-bit id."""

    def __init__(
        self, qualified: Optional[Qualified] = None, codes: int = 200_000, stacks: int = 100_000
    ) -> None:
        """Keep at most `codes` code objects and `stacks` stacks, the latest used.

        `qualified` returns the qualified names of functions before 3.11; without one they
        have their plain names.
        """
        self._qualified = qualified
        self._most_codes = codes
        self._most_stacks = stacks
        self._codes: OrderedDict[_CodeKey, _Code] = OrderedDict()
        self._stacks: OrderedDict[int, Union[Stack, _Waiting]] = OrderedDict()

    def feed(self, record: bytes) -> None:
        """Take a record. Raise RecordError if it is invalid, and change nothing then."""
        if len(record) < _HEAD.size:
            raise RecordError(f"a record of {len(record)} bytes")
        kind, _ = _HEAD.unpack_from(record)
        if kind == STACK:
            self._feed_stack(record)
        elif kind == CODE:
            self._feed_code(record)
        else:
            raise RecordError(f"record kind {kind}")

    def get(self, stack_id: int, problem: int = StackProblem.NONE) -> Optional[Stack]:
        """Return the stack of an event, whose `problem` is a StackProblem; None if it has none."""
        if stack_id == 0:
            if problem in (StackProblem.NO_THREAD, StackProblem.UNREGISTERED):
                return None
            return Stack((), _words(problem))
        found = self._stacks.get(stack_id)
        if found is None:
            return Stack((), LOST)
        self._stacks.move_to_end(stack_id)
        if isinstance(found, _Waiting):
            stack, complete = self._resolve(found)
            if complete:
                self._stacks[stack_id] = stack
            return stack
        return found

    def _feed_stack(self, record: bytes) -> None:
        if len(record) < _STACK_HEAD.size:
            raise RecordError(f"a stack's record of {len(record)} bytes")
        _, depth, stack_id, lineage, problem = _STACK_HEAD.unpack_from(record)
        end = _STACK_HEAD.size + depth * _FRAME.size
        if depth > MAX_FRAMES or len(record) < end:
            raise RecordError(f"a stack of {depth} frames in {len(record)} bytes")
        frames = tuple(
            (code, check, lasti)
            for code, check, lasti, _ in _FRAME.iter_unpack(record[_STACK_HEAD.size : end])
        )
        waiting = _Waiting(lineage, problem, frames)
        stack, complete = self._resolve(waiting)
        _keep(self._stacks, stack_id, stack if complete else waiting, self._most_stacks)

    def _feed_code(self, record: bytes) -> None:
        start = _CODE_HEAD.size + NAME_BYTES + FILE_BYTES
        if len(record) < start:
            raise RecordError(f"a function's record of {len(record)} bytes")
        (_, lineage, code, check, firstlineno, minor, name_length, name_kind, file_length) = (
            _CODE_HEAD.unpack_from(record)[:9]
        )
        file_kind, table_length, sent = _CODE_HEAD.unpack_from(record)[9:]
        if sent > table_length or len(record) < start + sent:
            raise RecordError(f"a line table of {sent} bytes in {len(record) - start}")
        at = _CODE_HEAD.size
        name, _ = _text(record[at : at + NAME_BYTES], name_length, name_kind)
        at += NAME_BYTES
        file, whole = _text(record[at : at + FILE_BYTES], file_length, file_kind)
        if minor < FIRST_WITH_QUALNAME and whole and self._qualified is not None:
            name = self._qualified(lineage, file, firstlineno, name) or name
        table = record[start : start + sent]
        made = _Code(name, file, firstlineno, minor, table, sent < table_length, {})
        _keep(self._codes, (lineage, code, check), made, self._most_codes)

    def _resolve(self, waiting: _Waiting) -> tuple[Stack, bool]:
        """Return the stack up to the first unknown function, and whether it is complete."""
        frames = []
        problem = _words(waiting.problem)
        complete = True
        for code, check, lasti in waiting.frames:
            key = (waiting.lineage, code, check)
            found = self._codes.get(key)
            if found is None:
                problem, complete = FUNCTION_LOST, False
                break
            self._codes.move_to_end(key)
            if found.is_shim:
                continue
            frame = found.frame(lasti)
            frames.append(frame)
            if found.cut and frame.line is None:
                problem = problem or LINES_CUT
        return Stack(tuple(frames), problem), complete


def _words(problem: int) -> Optional[str]:
    if problem == StackProblem.NONE:
        return None
    try:
        return PROBLEMS[StackProblem(problem)]
    except ValueError:
        return f"unknown problem {problem}"


def _text(raw: bytes, length: int, kind: int) -> tuple[str, bool]:
    """Return the text of `length` characters of `kind` bytes, and whether it is complete.

    Lone surrogates stay: Python has them for bytes of file names that are not UTF-8.
    """
    encoding = ENCODINGS.get(kind)
    if encoding is None:
        raise RecordError(f"characters of {kind} bytes")
    fits = min(length, len(raw) // kind)
    try:
        text = raw[: fits * kind].decode(encoding, "surrogatepass" if kind > 1 else "strict")
    except UnicodeDecodeError as error:
        raise RecordError(f"no text: {error.reason}") from None
    return (text, True) if fits == length else (text + ELLIPSIS, False)


def _keep(cache: OrderedDict[_K, _V], key: _K, value: _V, most: int) -> None:
    cache[key] = value
    cache.move_to_end(key)
    while len(cache) > most:
        cache.popitem(last=False)
