# SPDX-License-Identifier: Apache-2.0
"""Rows of a trace -> lives and joins, with every value looked at: a file may hold anything."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional, TypeVar

from zombiebpf.errors import UsageError
from zombiebpf.life import Actor
from zombiebpf.stack import Frame, Stack
from zombiebpf.trace.rows import REMEMBERED, bytes_text

Value = TypeVar("Value")


class Damaged(UsageError):
    """The file is a trace, but not all of it is as a trace is."""

    def __init__(self, what: str) -> None:
        super().__init__(what, "it is damaged; `sqlite3 FILE .recover` may save a part")


def integer(value: Any, lowest: int = 0, highest: int = 10**40) -> Optional[int]:
    """One from `lowest` on; None if NULL."""
    if value is None:
        return None
    if type(value) is bytes and len(value) <= 40 and value.lstrip(b"-").isdigit():
        value = int(value)  # beyond SQLite's 64 bits
    if type(value) is int and lowest <= value <= highest:
        return value
    raise Damaged(f"{_shown(value)} stands where a number should")


def number(value: Any) -> Optional[float]:
    if value is None or type(value) is float:
        return value
    raise Damaged(f"{_shown(value)} stands where a number should")


def text(value: Any) -> Optional[str]:
    """None if NULL."""
    if value is None or type(value) is str:
        return value
    if type(value) is bytes:
        try:
            return bytes_text(value)
        except UnicodeDecodeError:
            pass
    raise Damaged(f"{_shown(value)} stands where a text should")


def truth(value: Any) -> bool:
    if type(value) is int and value in (0, 1):
        return value == 1
    raise Damaged(f"{_shown(value)} stands where 0 or 1 should")


def there(value: Optional[Value]) -> Value:
    """What no trace lacks."""
    if value is None:
        raise Damaged("NULL stands where a value should")
    return value


def one_of(kinds: Mapping[str, Value], value: Any) -> Value:
    """The member of an enumeration that the text names."""
    found = kinds.get(value) if type(value) is str else None
    if found is None:
        raise Damaged(f"{_shown(value)} stands where one of {', '.join(kinds)} should")
    return found


def actor(pid: Any, tid: Any, comm: Any) -> Optional[Actor]:
    found = integer(pid)
    return None if found is None else Actor(found, integer(tid), text(comm))


def texts(value: Any) -> tuple[str, ...]:
    """A JSON array of strings."""
    try:
        found = json.loads(value) if type(value) is str else None
    except (ValueError, RecursionError):
        found = None
    if type(found) is not list or not all(type(each) is str for each in found):
        raise Damaged(f"{_shown(value)} stands where an array of strings should")
    return tuple(found)


def _shown(value: Any) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


class Stored:
    """Texts, frames and stacks by their numbers, each read when it is met.

    Equal ones of one file are one object.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[tuple[str, int], Any] = {}

    def word(self, id_: Any) -> Optional[str]:
        return self._get("word", id_, lambda row: there(text(row[0])), "value FROM text")

    def argv(self, id_: Any) -> Optional[tuple[str, ...]]:
        return self._get("argv", id_, lambda row: texts(row[0]), "value FROM text")

    def frame(self, id_: Any) -> Optional[Frame]:
        return self._get("frame", id_, _frame, "function, file, line FROM frame")

    def stack(self, id_: Any) -> Optional[Stack]:
        found: Optional[Stack] = self._get(
            "stack", id_, lambda row: Stack(self._frames(id_), text(row[0])), "problem FROM stack"
        )
        return found

    def _frames(self, stack: int) -> tuple[Frame, ...]:
        rows = self._db.execute(
            "SELECT depth, frame FROM stack_frame WHERE stack = ? ORDER BY depth", (stack,)
        ).fetchall()
        if [row[0] for row in rows] != list(range(len(rows))):
            raise Damaged(f"frames of stack {stack} are missing")
        return tuple(there(self.frame(row[1])) for row in rows)

    def _get(
        self, kind: str, id_: Any, made: Callable[[Sequence[Any]], Value], columns: str
    ) -> Optional[Value]:
        if id_ is None:
            return None
        known: Optional[Value] = self._known.get((kind, id_))
        if known is None:
            row = self._db.execute(
                f"SELECT {columns} WHERE id = ?", (there(integer(id_, 0, 2**63 - 1)),)
            ).fetchone()
            if row is None:
                raise Damaged(f"{kind} {id_} is missing")
            known = made(row)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[kind, id_] = known
        return known


def _frame(row: Sequence[Any]) -> Frame:
    return Frame(there(text(row[0])), there(text(row[1])), integer(row[2], -(2**31)))
