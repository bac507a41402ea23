# SPDX-License-Identifier: Apache-2.0
"""Encode process records and joins as rows of the trace's tables.

Texts, frames and stacks are stored once and referred to by an id. The ids are kept in
caches of a limited size, so that memory stays flat; a value that was dropped from a cache
is stored again when it occurs again.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from functools import cache
from typing import Any, Optional, TypeVar

from zombiebpf.model.join import Join
from zombiebpf.model.life import Activity, Life
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
_NO_NAMESPACE = (None, None)

# Binding a NULL costs more than a number, so rows of processes leave out the groups they lack.
_PARENT, _FORK_CODE, _END, _ZOMBIE, _REAPER, _CALL, _CALL_CODE = (1 << bit for bit in range(7))
_ALWAYS = (
    "id", "pid", "start_ns", "comm", "argv", "argv_cut", "cgroup", "fork_ns", "was_zombie",
    "zombie_exact", "reap_exact", "pidns", "pidns_pid", "forker_pid", "forker_tid", "forker_comm",
)  # fmt: skip
_GROUPS = {
    _PARENT: ("parent_pid", "parent_tid", "parent_comm"),
    _FORK_CODE: ("fork_stack", "fork_site"),
    _END: ("exit_ns", "reap_ns", "wait_status"),
    _ZOMBIE: ("zombie_ns",),
    _REAPER: ("reaped_by", "reaper_pid", "reaper_tid", "reaper_comm"),
    _CALL: ("reap_call", "reap_syscall", "reap_options", "reap_began_ns", "reap_blocked_ns"),
    _CALL_CODE: ("reap_kind", "reap_stack", "reap_site"),
}
_BIGGEST = 2**63


class RowBuffer:
    """Rows that wait to be written to one file, with ids that are unique in it.

    len() is the number of processes and joins.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[Row]] = {table: [] for table in _TABLES}
        self._life_rows: dict[int, list[Row]] = {}  # by the groups of columns that they have
        self._lives = self._waits = self._texts = self._frame_ids = self._stack_ids = 0
        self._argvs: dict[Optional[tuple[str, ...]], int] = {}
        self._strings: dict[Optional[str], int] = {}
        self._frames: dict[Frame, int] = {}
        self._stacks: dict[Stack, int] = {}
        self._same: dict[int, tuple[Stack, int]] = {}  # by id(): hashing a stack is slow

    def __len__(self) -> int:
        return sum(map(len, self._life_rows.values())) + len(self._rows["wait"])

    def statements(self) -> Iterator[tuple[str, list[Row]]]:
        """Yield SQL statements, each with the rows to execute it with."""
        for table, rows in self._rows.items():
            if rows:
                yield insert(table), rows
        for groups, rows in self._life_rows.items():
            if rows:
                yield _insert_life(groups), rows

    def clear(self) -> None:
        """Drop all rows, after they were written; the ids stay valid."""
        for rows in (*self._rows.values(), *self._life_rows.values()):
            rows.clear()

    def add_life(self, life: Life) -> int:
        """Add a process. Return the id of its row."""
        self._lives = number = self._lives + 1
        argv, cgroup, parent, forker = life.argv, life.cgroup, life.parent, life.forker
        stack, site = life.fork_stack, life.fork_site
        row: Row = (  # as in _ALWAYS
            number, life.pid, life.start_ns, life.comm,
            None if argv is None else self._argvs.get(argv) or self._argv(argv),
            1 if life.argv_cut else 0,
            None if cgroup is None else self._strings.get(cgroup) or self._string(cgroup),
            life.fork_ns, 1 if life.was_zombie else 0, 1 if life.zombie_exact else 0,
            1 if life.reap_exact else 0, *(life.pidns or _NO_NAMESPACE), *(forker or _NO_ACTOR),
        )  # fmt: skip
        groups = 0
        if parent is not None:
            row += parent
            groups |= _PARENT
        if stack is not None or site is not None:
            row += (self._stack(stack), self._frame(site))
            groups |= _FORK_CODE
        if life.exit_ns is not None or life.reap_ns is not None or life.wait_status is not None:
            row += (life.exit_ns, life.reap_ns, life.wait_status)
            groups |= _END
        if life.zombie_ns is not None:
            row += (life.zombie_ns,)
            groups |= _ZOMBIE
        if life.reaped_by is not None or life.reaper is not None:
            by = life.reaped_by
            row += (None if by is None else by._value_, *(life.reaper or _NO_ACTOR))
            groups |= _REAPER
        call = life.reap_call
        if call is not None:
            row += (1, *call[:4])
            groups |= _CALL
            if call.kind is not None or call.stack is not None or call.site is not None:
                row += (call.kind, self._stack(call.stack), self._frame(call.site))
                groups |= _CALL_CODE
        rows = self._life_rows.get(groups)
        if rows is None:
            rows = self._life_rows[groups] = []
        rows.append(row)
        if life.execs or life.reparents or life.unseen or life.meanwhile is not None:
            self._add_parts(number, life)
        return number

    def _add_parts(self, number: int, life: Life) -> None:
        rows = self._rows
        for n, (ns, filename) in enumerate(life.execs):
            rows["exec"].append((number, n, ns, filename))
        for n, (ns, from_, to, kind, while_zombie, exact) in enumerate(life.reparents):
            flags = (int(while_zombie), int(exact))
            rows["reparent"].append((number, n, ns, *from_, *to, kind.value, *flags))
        for n, (field, reason) in enumerate(life.unseen.items()):
            text = self._strings.get(reason) or self._string(reason)
            rows["unseen"].append((number, n, field, text))
        if life.meanwhile is not None:
            rows["meanwhile"].append((number, *self._activity(life.meanwhile)))

    def _activity(self, seen: Activity) -> Row:
        ns, thread, since_ns, syscall, stack, site = seen
        return (ns, *thread, since_ns, syscall, self._stack(stack), self._frame(site))

    def add_join(self, join: Join) -> None:
        """Add a join."""
        self._waits = number = self._waits + 1
        row = (
            number, join.pid, join.tid, join.child_pid, join.timeout_s, join.began_ns,
            join.ended_ns, join.returned, join.kind, join.blocked_ns, *(join.by or _NO_ACTOR),
            self._stack(join.stack), self._frame(join.site),
        )  # fmt: skip
        self._rows["wait"].append(row)
        for n, (pid, start_ns) in enumerate(join.children):
            self._rows["wait_child"].append((number, n, pid, start_ns))

    def _argv(self, argv: tuple[str, ...]) -> int:
        return _remember(self._argvs, argv, self._text(json.dumps(argv)))

    def _string(self, text: str) -> int:
        return _remember(self._strings, text, self._text(text))

    def _text(self, text: str) -> int:
        self._texts = number = self._texts + 1
        self._rows["text"].append((number, text))
        return number

    def _frame(self, frame: Optional[Frame]) -> Optional[int]:
        if frame is None:
            return None
        known = self._frames.get(frame)
        if known is not None:
            return known
        self._frame_ids = number = self._frame_ids + 1
        self._rows["frame"].append((number, *frame))
        return _remember(self._frames, frame, number)

    def _stack(self, stack: Optional[Stack]) -> Optional[int]:
        if stack is None:
            return None
        same = self._same.get(id(stack))
        if same is not None:
            return same[1]
        number = self._stacks.get(stack)
        if number is None:
            self._stack_ids = number = self._stack_ids + 1
            self._rows["stack"].append((number, stack.problem))
            for depth, frame in enumerate(stack.frames):
                self._rows["stack_frame"].append((number, depth, self._frame(frame)))
            _remember(self._stacks, stack, number)
        if len(self._same) >= CACHED:
            self._same.clear()
        self._same[id(stack)] = (stack, number)  # held, so that its id stays its own
        return number


@cache
def insert(table: str, columns: Optional[tuple[str, ...]] = None) -> str:
    """Return the statement that inserts a row with these columns; None means all."""
    names = columns or COLUMNS[table]
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


def _insert_life(groups: int) -> str:
    names: tuple[str, ...] = _ALWAYS
    for group, columns in _GROUPS.items():
        if groups & group:
            names += columns
    return insert("life", names)


def _remember(cache: dict[Value, int], value: Value, number: int) -> int:
    if len(cache) >= CACHED:
        cache.clear()
    cache[value] = number
    return number


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
