# SPDX-License-Identifier: Apache-2.0
"""Where CPython's structures have the fields that a stack walk reads.

For 64-bit machines and builds with the GIL, without Py_DEBUG and Py_TRACE_REFS. From 3.13 on,
`_PyRuntime` begins with `_Py_DebugOffsets` (Include/internal/pycore_runtime.h, later
pycore_debug_offsets.h), whose initial value is in the ELF file. The other offsets, and all
those of 3.7 to 3.12, are in tables here: offsetof() of the interpreter's own headers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple, Optional

ABSENT = 0xFFFF
COOKIE = b"xdebugpy"  # _Py_Debug_Cookie

Version = tuple[int, int, int]  # major, minor, micro; micro -1: unknown


class OffsetsError(ValueError):
    """An interpreter whose structures cannot be read; the text is the reason."""


class Offsets(NamedTuple):
    """Offsets in bytes, each less than 65536, in the order of the probes' struct (u16s)."""

    interpreters_head: int  # in _PyRuntime
    interp_next: int
    threads_head: int  # in PyInterpreterState
    tstate_next: int
    thread_id: int  # pthread_self() of the thread
    tstate_frame: int
    cframe_frame: int  # in the _PyCFrame at tstate_frame; ABSENT: the frame is at tstate_frame
    frame_code: int  # from 3.14 on a tagged reference: clear the low bits
    frame_previous: int
    frame_lasti: int
    frame_owner: int  # one byte; ABSENT before 3.11
    frame_locals: int  # the first local variable
    code_firstlineno: int
    code_filename: int
    code_name: int  # co_qualname from 3.11 on, before that co_name
    code_table: int  # co_linetable, before 3.10 co_lnotab
    code_adaptive: int  # ABSENT: frame_lasti is an int, else a pointer: lasti + code + this
    lasti_scale: int  # bytes in one unit of the integer
    code_version: int  # co_version, u32; 0 where a code object has none; ABSENT before 3.12
    unicode_ascii: int  # sizeof(PyASCIIObject): where an ASCII string's text begins
    unicode_compact: int  # sizeof(PyCompactUnicodeObject): another string's
    tss_key: int  # autoTSSkey._key in _PyRuntime; ABSENT: none, or unknown
    owner_skip: int  # frames with this owner or a greater one are not Python's; ABSENT: none
    minor: int


# Frames before 3.11 are objects (struct _frame), and lasti is an integer in them.
_FRAME_OBJECT = Offsets(
    interpreters_head=32,
    interp_next=0,
    threads_head=8,
    tstate_next=8,
    thread_id=176,
    tstate_frame=24,
    cframe_frame=ABSENT,
    frame_code=32,
    frame_previous=24,
    frame_lasti=104,
    frame_owner=ABSENT,
    frame_locals=360,
    code_firstlineno=40,
    code_filename=104,
    code_name=112,
    code_table=120,
    code_adaptive=ABSENT,
    lasti_scale=1,
    code_version=ABSENT,
    unicode_ascii=48,
    unicode_compact=72,
    tss_key=1396,
    owner_skip=ABSENT,
    minor=8,
)
_3_11 = Offsets(
    interpreters_head=40,
    interp_next=0,
    threads_head=16,
    tstate_next=8,
    thread_id=152,
    tstate_frame=56,
    cframe_frame=8,
    frame_code=32,
    frame_previous=48,
    frame_lasti=56,
    frame_owner=69,
    frame_locals=72,
    code_firstlineno=72,
    code_filename=112,
    code_name=128,
    code_table=136,
    code_adaptive=184,
    lasti_scale=1,
    code_version=ABSENT,
    unicode_ascii=48,
    unicode_compact=72,
    tss_key=596,
    owner_skip=ABSENT,
    minor=11,
)
_3_12 = _3_11._replace(
    threads_head=72,
    thread_id=136,
    cframe_frame=0,
    frame_code=0,
    frame_previous=8,
    frame_owner=70,
    code_firstlineno=68,
    code_adaptive=192,
    code_version=92,
    unicode_ascii=40,
    unicode_compact=56,
    tss_key=1548,
    owner_skip=3,  # FRAME_OWNED_BY_CSTACK
    minor=12,
)
_3_13 = _3_12._replace(
    interpreters_head=632,
    interp_next=7264,
    threads_head=7344,
    thread_id=152,
    tstate_frame=72,
    cframe_frame=ABSENT,
    code_adaptive=200,
    tss_key=2164,
    minor=13,
)
_3_14 = _3_13._replace(
    interpreters_head=808,
    interp_next=7272,
    frame_owner=74,
    frame_locals=80,
    code_adaptive=208,
    tss_key=2340,
    owner_skip=3,  # FRAME_OWNED_BY_INTERPRETER, then ..._CSTACK
    minor=14,
)
_TABLES: Mapping[int, Offsets] = {
    7: _FRAME_OBJECT._replace(
        interpreters_head=24,
        code_firstlineno=36,
        code_filename=96,
        code_name=104,
        code_table=112,
        tss_key=1508,
        minor=7,
    ),
    8: _FRAME_OBJECT,
    9: _FRAME_OBJECT._replace(tss_key=588, minor=9),
    10: _FRAME_OBJECT._replace(
        frame_lasti=96, frame_locals=352, lasti_scale=2, tss_key=588, minor=10
    ),
    11: _3_11,
    12: _3_12,
    13: _3_13,
    14: _3_14,
    15: _3_14._replace(
        interpreters_head=936,
        interp_next=7264,
        threads_head=7336,
        thread_id=176,
        tss_key=ABSENT,
        minor=15,
    ),
}


# Until 3.11, two mutexes precede autoTSSkey in _PyRuntime (struct _gil_runtime_state).
# pthread_mutex_t is 40 bytes on x86_64; elsewhere: glibc's __SIZEOF_PTHREAD_MUTEX_T.
_MUTEXES_UNTIL = 11
_MUTEX_GROWTH = {"x86_64": 0, "aarch64": 8}
MACHINES = tuple(_MUTEX_GROWTH)


def offsets_of(version: Version, machine: str = "x86_64") -> Optional[Offsets]:
    """Return the offsets in the tables, for one of MACHINES; None for an unknown version."""
    major, minor, micro = version
    found = _TABLES.get(minor) if major == 3 else None
    if found is None:
        return None
    key = found.tss_key
    if minor == 7 and 0 <= micro < 4:
        key -= 88  # what lies before gilstate in _PyRuntime grew in 3.7.4
    if minor <= _MUTEXES_UNTIL:
        key += 2 * _MUTEX_GROWTH[machine]
    return found._replace(tss_key=key)


# The byte positions of these offsets, u64s, in _Py_DebugOffsets: by minor version.
_IN_DEBUG_OFFSETS = (
    "interpreters_head", "interp_next", "threads_head", "tstate_next", "tstate_frame",
    "thread_id", "frame_previous", "frame_code", "frame_lasti", "frame_locals", "frame_owner",
    "code_filename", "code_name", "code_table", "code_firstlineno", "code_adaptive",
    "unicode_ascii",
)  # fmt: skip
_POSITIONS: Mapping[int, tuple[int, ...]] = {
    13: (40, 64, 72, 168, 184, 192, 232, 240, 248, 256, 264, 280, 296, 304, 312, 344, 560),
    14: (40, 64, 72, 192, 208, 216, 256, 264, 272, 280, 288, 320, 336, 344, 352, 384, 640),
    15: (40, 64, 72, 192, 208, 240, 320, 328, 336, 344, 352, 384, 400, 408, 416, 448, 736),
}
DEBUG_OFFSETS_SIZE = 24 + max(max(each) for each in _POSITIONS.values())


def version_of_hex(hexversion: int) -> Version:
    """Return the version in PY_VERSION_HEX or `Py_Version`."""
    return hexversion >> 24 & 0xFF, hexversion >> 16 & 0xFF, hexversion >> 8 & 0xFF


def from_debug_offsets(raw: bytes, version: Version) -> Offsets:
    """Return the offsets in the _Py_DebugOffsets `raw`, the bytes at _PyRuntime.

    Raise OffsetsError if it is absent, of another or an unknown version, of a free-threaded
    build, or has impossible offsets.
    """
    if len(raw) < DEBUG_OFFSETS_SIZE or raw[:8] != COOKIE:
        raise OffsetsError("no _Py_DebugOffsets at _PyRuntime")
    hexversion, free_threaded = struct.unpack_from("<QQ", raw, 8)
    its_version = version_of_hex(hexversion)
    if its_version[:2] != version[:2] or (version[2] >= 0 and its_version != version):
        raise OffsetsError(f"its _Py_DebugOffsets are of {version_text(its_version)}")
    if free_threaded:
        raise OffsetsError("free-threaded")
    table = offsets_of(its_version)
    positions = _POSITIONS.get(its_version[1])
    if table is None or positions is None or its_version[0] != 3:
        raise OffsetsError(f"an unknown CPython {version_text(its_version)}")
    found_offsets = {
        name: struct.unpack_from("<Q", raw, at)[0] for name, at in zip(_IN_DEBUG_OFFSETS, positions)
    }
    if not all(value < ABSENT for value in found_offsets.values()):
        raise OffsetsError("its _Py_DebugOffsets cannot be")
    # sizeof(PyCompactUnicodeObject) is not there: utf8_length and utf8 follow the ASCII head.
    compact = found_offsets["unicode_ascii"] + 16
    found = table._replace(**found_offsets, unicode_compact=compact)
    if found.interpreters_head != table.interpreters_head:
        found = found._replace(tss_key=ABSENT)  # another _PyRuntime than the table's
    return found


def version_text(version: Version) -> str:
    """Return `3.11.7`, or `3.11` if the micro version is unknown."""
    major, minor, micro = version
    return f"{major}.{minor}" if micro < 0 else f"{major}.{minor}.{micro}"
