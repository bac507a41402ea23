# SPDX-License-Identifier: Apache-2.0
"""Map bytecode instructions to source lines.

Three formats: co_lnotab up to 3.9 (its Objects/lnotab_notes.txt), the co_linetable of PEP 626
in 3.10, and the location table of PEP 657 from 3.11 on (Objects/locations.md, later
InternalDocs/code_objects.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

_NO_LINE = -128  # the line delta of 3.10 for an instruction without a line
# The kinds of entries of a location table (enum _PyCodeLocationInfoKind).
_ONE_LINE = 10  # 10, 11, 12: line deltas 0, 1, 2
_ONE_LINE_LAST = 12
_NO_COLUMNS = 13
_LONG = 14
_NO_LOCATION = 15

_Span = tuple[int, int, Optional[int]]


def line_of(
    minor: int, firstlineno: int, table: bytes, lasti: int, cut: bool = False
) -> Optional[int]:
    """Return the line of the instruction at byte `lasti`, in the format of CPython 3.`minor`.

    None if it belongs to no line or is beyond a table that is damaged or `cut`. A negative
    `lasti` is a function that has not begun.
    """
    if lasti < 0:
        return firstlineno
    for start, end, line in spans(minor, firstlineno, table, cut):
        if start <= lasti < end:
            return line
    return None


def spans(minor: int, firstlineno: int, table: bytes, cut: bool = False) -> Iterator[_Span]:
    """Yield (start, end, line) of consecutive bytes of bytecode; line None: no line.

    Up to 3.9 the last one is unbounded: a table has only the starts of lines.
    """
    if minor >= 11:
        return _locations(firstlineno, table)
    if minor == 10:
        return _pep_626(firstlineno, table)
    return _lnotab(firstlineno, table, cut)


def _lnotab(line: int, table: bytes, cut: bool) -> Iterator[_Span]:
    """Decode as PyCode_Addr2Line() does (Objects/codeobject.c)."""
    start = at = 0
    for step, delta in zip(table[::2], table[1::2]):
        at += step
        if step:
            yield start, at, line
            start = at
        line += _signed(delta)
    if not cut:
        yield start, 1 << 32, line


def _pep_626(line: int, table: bytes) -> Iterator[_Span]:
    """Decode as advance() in Objects/codeobject.c of 3.10 does."""
    start = 0
    for step, delta in zip(table[::2], table[1::2]):
        end = start + step
        change = _signed(delta)
        if change == _NO_LINE:
            yield start, end, None
        else:
            line += change
            yield start, end, line
        start = end


def _locations(line: int, table: bytes) -> Iterator[_Span]:
    """Decode as advance_with_locations() in Objects/codeobject.c does, without columns."""
    start = at = 0
    while at < len(table):
        head = table[at]
        if not head & 0x80:
            return  # a damaged table: every entry begins with this bit
        kind = head >> 3 & 15
        delta = 0
        if _ONE_LINE <= kind <= _ONE_LINE_LAST:
            delta = kind - _ONE_LINE
        elif kind in (_NO_COLUMNS, _LONG):
            number = _svarint(table, at + 1)
            if number is None:
                return
            delta = number
        line += delta
        end = start + 2 * ((head & 7) + 1)  # code units of two bytes
        yield start, end, None if kind == _NO_LOCATION else line
        start = end
        at += 1
        while at < len(table) and not table[at] & 0x80:
            at += 1


def _svarint(table: bytes, at: int) -> Optional[int]:
    """Decode six bits a byte, the lowest first; bit 6: more follow; bit 0 of the sum: the sign."""
    value = shift = 0
    while at < len(table):
        byte = table[at]
        value |= (byte & 63) << shift
        if not byte & 64:
            return -(value >> 1) if value & 1 else value >> 1
        shift += 6
        at += 1
    return None


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte
