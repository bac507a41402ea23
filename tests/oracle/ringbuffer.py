# SPDX-License-Identifier: Apache-2.0
"""ftrace's binary ring buffer pages, as read from `trace_pipe_raw`.

The layout is in tracefs (`events/header_page`, `events/header_event`, each event's `format`) and in
the kernel's include/linux/ring_buffer.h. The text of `trace` would do, but has microseconds only.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Union

Value = Union[int, str]

_PADDING, _TIME_EXTEND, _TIME_STAMP = 29, 30, 31
_MISSED_EVENTS = 1 << 31  # in the page's commit word: the buffer was overrun before this page
_COMMIT_SIZE = (1 << 20) - 1
_WORD = struct.Struct("=I")
_PAGE_HEADER = struct.Struct("=QQ")
_FIELD = re.compile(
    r"field:(?P<type>.*?)\s*\b(?P<name>\w+)(?P<array>\[\w*\])?;\s*"
    r"offset:(?P<offset>\d+);\s*size:(?P<size>\d+);\s*signed:(?P<signed>[01]);"
)


class Missed(Exception):
    """The buffer was overrun: the record is not complete."""


class Field(NamedTuple):
    """Where one field of an event is, in bytes."""

    name: str
    offset: int
    size: int
    signed: bool
    kind: str  # "int", "chars" (an array) or "data_loc" (offset and length of a string)


class Format:
    """One event's fields, from its `format` file."""

    def __init__(self, path: Path) -> None:
        text = path.read_text()
        found = re.search(r"^ID: (\d+)$", text, re.M)
        if found is None:
            raise ValueError(f"{path} has no ID")
        self.id = int(found[1])
        self.fields: list[Field] = []
        for match in _FIELD.finditer(text):
            kind = "chars" if match["array"] else "int"
            if match["type"].startswith("__data_loc"):
                kind = "data_loc"
            self.fields.append(
                Field(
                    match["name"],
                    int(match["offset"]),
                    int(match["size"]),
                    match["signed"] == "1",
                    kind,
                )
            )

    def decode(self, data: bytes) -> dict[str, Value]:
        """The fields of one record."""
        values: dict[str, Value] = {}
        for name, offset, size, signed, kind in self.fields:
            raw = data[offset : offset + size]
            if kind == "data_loc":
                where = int.from_bytes(raw, "little")
                start = where & 0xFFFF
                raw = data[start : start + (where >> 16)]
            if kind == "int":
                values[name] = int.from_bytes(raw, "little", signed=signed)
            else:
                values[name] = raw.split(b"\0", 1)[0].decode(errors="replace")
        return values


def records(page: bytes) -> Iterator[tuple[int, bytes]]:
    """(nanoseconds, data) of each record in a page; Missed if the kernel says some were lost."""
    now, commit = _PAGE_HEADER.unpack_from(page)
    if commit & _MISSED_EVENTS:
        raise Missed
    at = _PAGE_HEADER.size
    end = at + (commit & _COMMIT_SIZE)
    while at < end:
        (word,) = _WORD.unpack_from(page, at)
        type_len, delta = word & 31, word >> 5
        if type_len == _PADDING and delta == 0:
            return
        (first,) = _WORD.unpack_from(page, at + 4) if at + 8 <= end else (0,)
        if type_len == _TIME_STAMP:
            now = (now & (31 << 59)) | (first << 27) + delta
            at += 8
            continue
        now += delta
        if type_len == _TIME_EXTEND:
            now += first << 27
            at += 8
        elif type_len == _PADDING:
            at += 4 + first
        elif type_len == 0:
            yield now, page[at + 8 : at + 4 + first]
            at += 4 + first
        else:
            yield now, page[at + 4 : at + 4 + type_len * 4]
            at += 4 + type_len * 4
