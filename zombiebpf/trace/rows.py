# SPDX-License-Identifier: Apache-2.0
"""Lives and joins -> rows of the trace's tables.

Texts, frames and stacks are stored once and named by a number. What was stored
is remembered in tables of a limited size, so that memory stays flat; what was
forgotten is stored again when it is met again.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from functools import cache
from typing import Any, Optional, TypeVar

from zombiebpf.analysis import Join
from zombiebpf.life import Activity, Life
from zombiebpf.stack import Frame, Stack

REMEMBERED = 20_000  # texts, and as many frames and stacks

Row = tuple[Any, ...]
Thing = TypeVar("Thing", bound=Hashable)

_COLUMNS = {
    "text": 2, "frame": 4, "stack": 2, "stack_frame": 3, "exec": 4,
    "reparent": 12, "unseen": 4, "meanwhile": 9, "wait": 15, "wait_child": 4,
}  # fmt: skip
INSERTS = {
    table: f"INSERT INTO {table} VALUES ({', '.join('?' * count)})"
    for table, count in _COLUMNS.items()
}
DELETES = tuple(
    f"DELETE FROM {table} WHERE {key} = ?"
    for table, key in (
        ("life", "id"),
        ("exec", "life"),
        ("reparent", "life"),
        ("unseen", "life"),
        ("meanwhile", "life"),
    )
)

_NO_ACTOR = (None, None, None)
_NO_NAMESPACE = (None, None)

# Binding a NULL costs more than a number: rows of lives leave out what they have not.
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


class Rows:
    """Rows that wait to be written; their numbers are those of one file."""

    def __init__(self) -> None:
        self.of: dict[str, list[Row]] = {table: [] for table in _COLUMNS}
        self.lives: dict[int, list[Row]] = {}  # by which groups of columns they have
        self._lives = self._waits = self._texts = self._frame_ids = self._stack_ids = 0
        self._argvs: dict[Optional[tuple[str, ...]], int] = {}
        self._words: dict[Optional[str], int] = {}
        self._frames: dict[Frame, int] = {}
        self._stacks: dict[Stack, int] = {}
        self._same: dict[int, tuple[Stack, int]] = {}  # by id(): hashing a stack takes its time

    def __len__(self) -> int:
        return sum(map(len, self.lives.values())) + len(self.of["wait"])

    def statements(self) -> Iterator[tuple[str, list[Row]]]:
        """What is to be executed, and with which rows."""
        for table, rows in self.of.items():
            if rows:
                yield INSERTS[table], rows
        for groups, rows in self.lives.items():
            if rows:
                yield _insert_lives(groups), rows

    def clear(self) -> None:
        """They were written."""
        for rows in (*self.of.values(), *self.lives.values()):
            rows.clear()

    def add_life(self, life: Life) -> int:
        """The number of its row."""
        self._lives = number = self._lives + 1
        argv, cgroup, parent, forker = life.argv, life.cgroup, life.parent, life.forker
        stack, site = life.fork_stack, life.fork_site
        row: Row = (
            number,
            life.pid,
            life.start_ns,
            life.comm,
            None if argv is None else self._argvs.get(argv) or self._argv(argv),
            1 if life.argv_cut else 0,
            None if cgroup is None else self._words.get(cgroup) or self._word(cgroup),
            life.fork_ns,
            1 if life.was_zombie else 0,
            1 if life.zombie_exact else 0,
            1 if life.reap_exact else 0,
            *(life.pidns or _NO_NAMESPACE),
            *(forker or _NO_ACTOR),
        )
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
        rows = self.lives.get(groups)
        if rows is None:
            rows = self.lives[groups] = []
        rows.append(row)
        if life.execs or life.reparents or life.unseen or life.meanwhile is not None:
            self._add_parts(number, life)
        return number

    def _add_parts(self, number: int, life: Life) -> None:
        of = self.of
        for n, (ns, filename) in enumerate(life.execs):
            of["exec"].append((number, n, ns, filename))
        for n, (ns, from_, to, kind, while_zombie, exact) in enumerate(life.reparents):
            flags = (int(while_zombie), int(exact))
            of["reparent"].append((number, n, ns, *from_, *to, kind.value, *flags))
        for n, (field, reason) in enumerate(life.unseen.items()):
            text = self._words.get(reason) or self._word(reason)
            of["unseen"].append((number, n, field, text))
        if life.meanwhile is not None:
            of["meanwhile"].append((number, *self._activity(life.meanwhile)))

    def _activity(self, seen: Activity) -> Row:
        ns, thread, since_ns, syscall, stack, site = seen
        return (
            ns,
            *thread,
            since_ns,
            syscall,
            self._stack(stack),
            self._frame(site),
        )

    def add_join(self, join: Join) -> None:
        self._waits = number = self._waits + 1
        self.of["wait"].append(
            (
                number,
                join.pid,
                join.tid,
                join.child_pid,
                join.timeout_s,
                join.began_ns,
                join.ended_ns,
                join.returned,
                join.kind,
                join.blocked_ns,
                *(join.by or _NO_ACTOR),
                self._stack(join.stack),
                self._frame(join.site),
            )
        )
        for n, (pid, start_ns) in enumerate(join.children):
            self.of["wait_child"].append((number, n, pid, start_ns))

    # what is stored once

    def _argv(self, argv: tuple[str, ...]) -> int:
        return _remember(self._argvs, argv, self._text(json.dumps(argv)))

    def _word(self, text: str) -> int:
        return _remember(self._words, text, self._text(text))

    def _text(self, text: str) -> int:
        self._texts = number = self._texts + 1
        self.of["text"].append((number, text))
        return number

    def _frame(self, frame: Optional[Frame]) -> Optional[int]:
        if frame is None:
            return None
        known = self._frames.get(frame)
        if known is not None:
            return known
        self._frame_ids = number = self._frame_ids + 1
        self.of["frame"].append((number, *frame))
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
            self.of["stack"].append((number, stack.problem))
            for depth, frame in enumerate(stack.frames):
                self.of["stack_frame"].append((number, depth, self._frame(frame)))
            _remember(self._stacks, stack, number)
        if len(self._same) >= REMEMBERED:
            self._same.clear()
        self._same[id(stack)] = (stack, number)  # held, so that its id stays its own
        return number


@cache
def _insert_lives(groups: int) -> str:
    names = list(_ALWAYS)
    for group, columns in _GROUPS.items():
        if groups & group:
            names += columns
    return f"INSERT INTO life ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


def _remember(table: dict[Thing, int], thing: Thing, number: int) -> int:
    if len(table) >= REMEMBERED:
        table.clear()
    table[thing] = number
    return number


def storable(row: Row) -> Row:
    """A row that SQLite takes: for the rare one that it has refused as it was."""
    return tuple(map(_storable, row))


def _storable(value: Any) -> Any:
    """Text that is no UTF-8 becomes its bytes; an integer beyond 64 bits its digits."""
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
    """The bytes that `text` was decoded from; UTF-32 with its mark, if there are none such."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = UTF_32
    if raw.startswith(UTF_32) or raw.decode("utf-8", "surrogateescape") != text:
        return UTF_32 + text.encode("utf-32-le", "surrogatepass")
    return raw


def bytes_text(raw: bytes) -> str:
    """The reverse. Raises UnicodeDecodeError."""
    if raw.startswith(UTF_32):
        return raw[4:].decode("utf-32-le", "surrogatepass")
    return raw.decode("utf-8", "surrogateescape")
