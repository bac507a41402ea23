# SPDX-License-Identifier: Apache-2.0
"""Decode the values of a trace's rows, with checks: a file may hold anything.

Every function raises DamagedTraceError if the value is not of its type.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Callable, Optional, TypeVar

from zombiebpf.errors import UsageError
from zombiebpf.model.life import Actor
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.trace.encode import CACHED, bytes_text

Value = TypeVar("Value")


class DamagedTraceError(UsageError):
    """A trace file with contents that zombiebpf cannot have written."""

    def __init__(self, what: str) -> None:
        super().__init__(what, "it is damaged; `sqlite3 FILE .recover` may save a part")
        self.named = False  # whether `what` names the file

    def of(self, name: str) -> DamagedTraceError:
        """Return the error with the name of the file."""
        if self.named:
            return self
        error = DamagedTraceError(f"{name}: {self.what}")
        error.named = True
        return error


def integer(value: Any, lowest: int = 0, highest: int = 10**40) -> Optional[int]:
    """Return an integer from `lowest` to `highest`; None if NULL."""
    if value is None:
        return None
    if type(value) is bytes and len(value) <= 40 and value.lstrip(b"-").isdigit():
        value = int(value)  # digits, if it does not fit into SQLite's 64 bits
    if type(value) is int and lowest <= value <= highest:
        return value
    raise DamagedTraceError(f"{_shown(value)} stands where a number should")


def real(value: Any) -> Optional[float]:
    """Return a float; None if NULL."""
    if value is None or type(value) is float:
        return value
    raise DamagedTraceError(f"{_shown(value)} stands where a number should")


def text(value: Any) -> Optional[str]:
    """Return a string; None if NULL."""
    if value is None or type(value) is str:
        return value
    if type(value) is bytes:
        with suppress(UnicodeDecodeError):
            return bytes_text(value)
    raise DamagedTraceError(f"{_shown(value)} stands where a text should")


def boolean(value: Any) -> bool:
    """Return whether the value is 1, not 0."""
    if type(value) is int and value in (0, 1):
        return value == 1
    raise DamagedTraceError(f"{_shown(value)} stands where 0 or 1 should")


def required(value: Optional[Value]) -> Value:
    """Return the value, which must not be NULL."""
    if value is None:
        raise DamagedTraceError("NULL stands where a value should")
    return value


def enum_member(kinds: Mapping[str, Value], value: Any) -> Value:
    """Return the member of `kinds` that the value names."""
    found = kinds.get(value) if type(value) is str else None
    if found is None:
        raise DamagedTraceError(f"{_shown(value)} stands where one of {', '.join(kinds)} should")
    return found


def actor(pid: Any, tid: Any, comm: Any) -> Optional[Actor]:
    """Return an actor; None if `pid` is NULL."""
    found = integer(pid)
    return None if found is None else Actor(found, integer(tid), text(comm))


def string_array(value: Any) -> tuple[str, ...]:
    """Return the strings of a JSON array."""
    try:
        found = json.loads(value) if type(value) is str else None
    except (ValueError, RecursionError):
        found = None
    if type(found) is not list or not all(type(each) is str for each in found):
        raise DamagedTraceError(f"{_shown(value)} stands where an array of strings should")
    return tuple(found)


def _shown(value: Any) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


class InternedValues:
    """The texts, frames and stacks of a file by their ids, read on demand.

    Equal values are one object. Each method returns None for NULL.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[tuple[str, int], Any] = {}

    def string(self, id_: Any) -> Optional[str]:
        """Return a string."""
        return self._get("word", id_, lambda row: required(text(row[0])), "value FROM text")

    def argv(self, id_: Any) -> Optional[tuple[str, ...]]:
        """Return a command line."""
        return self._get("argv", id_, lambda row: string_array(row[0]), "value FROM text")

    def frame(self, id_: Any) -> Optional[Frame]:
        """Return a frame."""
        return self._get("frame", id_, _frame, "function, file, line FROM frame")

    def stack(self, id_: Any) -> Optional[Stack]:
        """Return a call stack."""
        found: Optional[Stack] = self._get(
            "stack", id_, lambda row: Stack(self._frames(id_), text(row[0])), "problem FROM stack"
        )
        return found

    def _frames(self, stack: int) -> tuple[Frame, ...]:
        rows = self._db.execute(
            "SELECT depth, frame FROM stack_frame WHERE stack = ? ORDER BY depth", (stack,)
        ).fetchall()
        if [row[0] for row in rows] != list(range(len(rows))):
            raise DamagedTraceError(f"frames of stack {stack} are missing")
        return tuple(required(self.frame(row[1])) for row in rows)

    def _get(
        self, kind: str, id_: Any, decode: Callable[[Sequence[Any]], Value], columns: str
    ) -> Optional[Value]:
        if id_ is None:
            return None
        known: Optional[Value] = self._known.get((kind, id_))
        if known is None:
            row = self._db.execute(
                f"SELECT {columns} WHERE id = ?", (required(integer(id_, 0, 2**63 - 1)),)
            ).fetchone()
            if row is None:
                raise DamagedTraceError(f"{kind} {id_} is missing")
            known = decode(row)
            if len(self._known) >= CACHED:
                self._known.clear()
            self._known[kind, id_] = known
        return known


def _frame(row: Sequence[Any]) -> Frame:
    return Frame(required(text(row[0])), required(text(row[1])), integer(row[2], -(2**31)))
