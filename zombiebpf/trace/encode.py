# SPDX-License-Identifier: Apache-2.0
"""Encode process records and joins as rows of the trace's tables.

Texts, frames and stacks are stored once and referred to by an id. The ids are kept in
caches of a limited size, so that memory stays flat; a value that was dropped from a cache
is stored again when it occurs again.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Callable, Optional, TypeVar

from zombiebpf.model.join import Join
from zombiebpf.model.life import (
    CODED_AT,
    RARE_AT,
    SIMPLE,
    Activity,
    Actor,
    Execution,
    LifeRow,
    ReapedBy,
    Reparenting,
)
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.trace.schema import COLUMNS

CACHED = 20_000  # texts, and as many frames and stacks

Row = tuple[Any, ...]
Value = TypeVar("Value", bound=Hashable)

_TABLES = (
    "text", "frame", "stack", "stack_frame", "exec", "reparent", "unseen", "meanwhile", "wait",
    "wait_child",
)  # fmt: skip
DELETES = tuple(  # of one process
    f"DELETE FROM {table} WHERE {COLUMNS[table][0]} = ?"
    for table in ("life", "exec", "reparent", "unseen", "meanwhile")
)

_NO_ACTOR = (None, None, None)
_BIGGEST = 2**63

# The columns of a process: as LifeRow has them up to CODED_AT, and the rest. The rare ones are
# left out of rows that are null there: binding a null costs more than binding a number.
_COMMON = (
    "id", "pid", "start_ns", "comm", "pidns", "pidns_pid", "forker_pid", "forker_tid",
    "forker_comm", "fork_ns", "exit_ns", "zombie_ns", "reap_ns", "wait_status", "reaper_pid",
    "reaper_tid", "reaper_comm", "reap_syscall", "reap_options", "reap_began_ns",
    "reap_blocked_ns", "reap_kind", "reap_call", "reaped_by", "zombie_exact", "reap_exact",
    "argv_cut", "argv", "cgroup", "was_zombie",
)  # fmt: skip
_CODE = ("fork_stack", "fork_site", "reap_stack", "reap_site")
_PARENT = ("parent_pid", "parent_tid", "parent_comm")
_BY: dict[Optional[ReapedBy], Optional[str]] = {None: None, **{by: by.value for by in ReapedBy}}


class _Ids(dict[Optional[Value], Optional[int]]):
    """The ids of values that were stored, up to CACHED; None has none."""

    def __init__(self, store: Callable[[Value], int]) -> None:
        super().__init__()
        self._store = store

    def __missing__(self, value: Optional[Value]) -> Optional[int]:
        if value is None:
            return None
        if len(self) >= CACHED:
            self.clear()
        number = self[value] = self._store(value)
        return number


class RowBuffer:
    """Rows that wait to be written to one file, with ids that are unique in it.

    len() is the number of processes and joins.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[Row]] = {table: [] for table in _TABLES}
        # processes, by the columns that their rows have
        self._life_rows: dict[tuple[str, ...], list[Row]] = {
            columns: [] for columns in (_COMMON, _COMMON + _CODE, _COMMON + _CODE + _PARENT)
        }
        self._lives = self._waits = self._texts = self._frame_ids = self._stack_ids = 0
        self._argvs = _Ids[tuple[str, ...]](lambda argv: self._text(json.dumps(argv)))
        self._strings = _Ids[str](self._text)
        self._frames = _Ids[Frame](self._store_frame)
        self._stacks = _Ids[Stack](self._store_stack)

    def __len__(self) -> int:
        return sum(map(len, self._life_rows.values())) + len(self._rows["wait"])

    def statements(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield SQL statements, each with the rows to execute it with."""
        for table, rows in self._rows.items():
            if rows:
                yield insert(table), rows
        for columns, rows in self._life_rows.items():
            if rows:
                yield insert("life", columns), rows

    def clear(self) -> None:
        """Drop all rows, after they were written; the ids stay valid."""
        for rows in (*self._rows.values(), *self._life_rows.values()):
            rows.clear()

    def add(self, lives: Iterable[LifeRow]) -> int:
        """Add processes. Return the id of the last row."""
        strings, argvs, simple = self._strings, self._argvs, self._life_rows[_COMMON]
        for life in lives:
            coded: Row = life[CODED_AT:RARE_AT]
            called, by, zombie_exact, reap_exact, cut, argv, cgroup = coded
            self._lives = number = self._lives + 1
            row = (
                number, *life[:CODED_AT], 1 if called else None, _BY[by], 1 if zombie_exact else 0,
                1 if reap_exact else 0, 1 if cut else 0, argvs[argv], strings[cgroup],
            )  # fmt: skip
            rare: Row = life[RARE_AT:]
            if rare == SIMPLE:
                simple.append((*row, 0))
            else:
                self._add_rare(row, *rare)
        return self._lives

    def _add_rare(
        self, row: Row, fork_stack: Optional[Stack], fork_site: Optional[Frame],
        reap_stack: Optional[Stack], reap_site: Optional[Frame], parent: Optional[Actor],
        was_zombie: bool, execs: Sequence[Execution], reparents: Sequence[Reparenting],
        meanwhile: Optional[Activity], unseen: Mapping[str, str],
    ) -> None:  # fmt: skip
        frames, stacks = self._frames, self._stacks
        columns: tuple[str, ...] = _COMMON
        number = row[0]
        row = (*row, 1 if was_zombie else 0)
        code = (stacks[fork_stack], frames[fork_site], stacks[reap_stack], frames[reap_site])
        if parent is not None or any(code):
            columns += _CODE
            row += code
            if parent is not None:
                columns += _PARENT
                row += parent
        self._life_rows[columns].append(row)
        rows = self._rows
        for n, (ns, filename) in enumerate(execs):
            rows["exec"].append((number, n, ns, filename))
        for n, (ns, from_, to, kind, while_zombie, exact) in enumerate(reparents):
            flags = (int(while_zombie), int(exact))
            rows["reparent"].append((number, n, ns, *from_, *to, kind.value, *flags))
        for n, (field, reason) in enumerate(unseen.items()):
            rows["unseen"].append((number, n, field, self._strings[reason]))
        if meanwhile is not None:
            rows["meanwhile"].append((number, *self._activity(meanwhile)))

    def _activity(self, seen: Activity) -> Row:
        ns, thread, since_ns, syscall, stack, site = seen
        return (ns, *thread, since_ns, syscall, self._stacks[stack], self._frames[site])

    def add_join(self, join: Join) -> None:
        """Add a join."""
        self._waits = number = self._waits + 1
        row = (
            number, join.pid, join.tid, join.child_pid, join.timeout_s, join.began_ns,
            join.ended_ns, join.returned, join.kind, join.blocked_ns, *(join.by or _NO_ACTOR),
            self._stacks[join.stack], self._frames[join.site],
        )  # fmt: skip
        self._rows["wait"].append(row)
        for n, (pid, start_ns) in enumerate(join.children):
            self._rows["wait_child"].append((number, n, pid, start_ns))

    def _text(self, text: str) -> int:
        self._texts = number = self._texts + 1
        self._rows["text"].append((number, text))
        return number

    def _store_frame(self, frame: Frame) -> int:
        self._frame_ids = number = self._frame_ids + 1
        self._rows["frame"].append((number, *frame))
        return number

    def _store_stack(self, stack: Stack) -> int:
        self._stack_ids = number = self._stack_ids + 1
        self._rows["stack"].append((number, stack.problem))
        for depth, frame in enumerate(stack.frames):
            self._rows["stack_frame"].append((number, depth, self._frames[frame]))
        return number


@cache
def insert(table: str, columns: Optional[tuple[str, ...]] = None) -> str:
    """Return the statement that inserts a row with these columns; None means all."""
    names = columns or COLUMNS[table]
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


def storable(row: Row) -> Row:
    """Return a row that SQLite can store in place of one that it refused."""
    return tuple(map(_storable, row))


def _storable(value: Any) -> Any:
    """Return the bytes of a text that is not UTF-8, the digits of an integer beyond 64 bits."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return text_bytes(value)
    elif isinstance(value, int) and not -_BIGGEST <= value < _BIGGEST:
        return str(value).encode()
    return value


UTF_32 = b"\xff\xfe\x00\x00"  # a byte order mark


def text_bytes(text: str) -> bytes:
    """Return the bytes that `text` was decoded from, or UTF-32 with a byte order mark."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = UTF_32
    if raw.startswith(UTF_32) or raw.decode("utf-8", "surrogateescape") != text:
        return UTF_32 + text.encode("utf-32-le", "surrogatepass")
    return raw


def bytes_text(raw: bytes) -> str:
    """Return the text that text_bytes() encoded. Raise UnicodeDecodeError if there is none."""
    if raw.startswith(UTF_32):
        return raw[4:].decode("utf-32-le", "surrogatepass")
    return raw.decode("utf-8", "surrogateescape")
