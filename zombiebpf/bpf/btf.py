# SPDX-License-Identifier: Apache-2.0
"""Read BTF, the kernel's type information: where each field of each struct lies.

Documentation/bpf/btf.rst and include/uapi/linux/btf.h define the format. The kernel shows
its own types at /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Optional, Protocol

from zombiebpf.errors import ZombiebpfError

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")  # name_off, info, size or type
_MEMBER = struct.Struct("<III")  # name_off, type, offset

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD = 1, 2, 3, 4, 5, 6, 7
_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _FUNC, _FUNC_PROTO = 8, 9, 10, 11, 12, 13
_VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = 14, 15, 16, 17, 18, 19
_MODIFIERS = {_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG}

# kind -> (bytes that always follow the type, bytes for each of its vlen items)
_TAIL = {
    _INT: (4, 0),
    _ARRAY: (12, 0),
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    _ENUM: (0, 8),
    _FUNC_PROTO: (0, 8),
    _VAR: (4, 0),
    _DATASEC: (0, 12),
    _DECL_TAG: (4, 0),
    _ENUM64: (0, 12),
    **dict.fromkeys((_PTR, _FWD, *_MODIFIERS, _FUNC, _FLOAT), (0, 0)),
}
_MAX_DEPTH = 64  # of types within types; damaged BTF may have a circle


class BtfError(ZombiebpfError):
    """BTF that is damaged, or not in a known format."""

    def __init__(self, what: str) -> None:
        """Say what is wrong with it."""
        super().__init__(
            f"the kernel's type information (BTF) is damaged: {what}",
            "boot a kernel whose /sys/kernel/btf/vmlinux is whole",
        )


@contextmanager
def _damage_as_btf_error() -> Iterator[None]:
    try:
        yield
    except (struct.error, IndexError, KeyError, ValueError, OverflowError) as error:
        raise BtfError(f"{type(error).__name__}: {error}") from None


class Field(NamedTuple):
    """The position of a field in its struct."""

    offset: int  # bytes; for a bit-field, of the byte it begins in
    size: int  # bytes
    bit_offset: int  # within that byte
    bit_size: int  # 0 unless it is a bit-field


class Types(Protocol):
    """Type information of a kernel, by name. Methods raise BtfError if it is damaged."""

    def field(self, owner: str, path: str) -> Optional[Field]:
        """Return where the field `path` lies in the struct `owner`; None if there is no such field.

        Dots descend into members; anonymous members are searched.
        """

    def size(self, owner: str) -> Optional[int]:
        """Return the size in bytes of a struct or union; None if there is no such type."""

    def function(self, name: str) -> Optional[int]:
        """Return the BTF id of a function; None if it is inlined or not in this kernel."""

    def tracepoint_arguments(self, name: str) -> Optional[int]:
        """Return how many arguments a raw tracepoint passes (`btf_trace_NAME`); None if unknown."""


class Btf(Types):
    """One BTF blob, with an index of some names."""

    def __init__(self, data: bytes, names: Iterable[str]) -> None:
        """Index `names` alone: the structs, typedefs and functions that will be looked up.

        So 126,000 types take some 50 ms. Raise BtfError if the data is damaged.
        """
        with _damage_as_btf_error():
            self._read(data, names)

    def _read(self, data: bytes, names: Iterable[str]) -> None:
        magic, _version, _flags, header, type_at, type_len, text_at, text_len = _HEADER.unpack_from(
            data
        )
        if magic != _MAGIC:
            raise BtfError(f"not little-endian BTF: magic {magic:#06x}")
        self._data = data
        self._text = data[header + text_at : header + text_at + text_len]
        self._at = array("I", [0])  # type id -> position; id 0 is void
        found = {self._text.find(b"\0%s\0" % name.encode()): name for name in names}
        found.pop(-1, None)  # a name that the kernel does not have
        self._structs: dict[str, int] = {}
        self._typedefs: dict[str, int] = {}
        self._functions: dict[str, int] = {}
        position, end = header + type_at, header + type_at + type_len
        if end > len(data):
            raise BtfError("the types are cut off")
        unpack = _TYPE.unpack_from
        wanted = {at + 1: name for at, name in found.items()}
        while position < end:
            name, info, _ = unpack(data, position)
            kind = info >> 24 & 0x1F
            if name in wanted:
                if kind in (_STRUCT, _UNION):
                    self._structs.setdefault(wanted[name], len(self._at))
                elif kind == _TYPEDEF:
                    self._typedefs.setdefault(wanted[name], len(self._at))
                elif kind == _FUNC:
                    self._functions.setdefault(wanted[name], len(self._at))
            self._at.append(position)
            fixed, each = _TAIL[kind]
            position += 12 + fixed + each * (info & 0xFFFF)

    @classmethod
    def of_kernel(cls, names: Iterable[str], path: Path = VMLINUX) -> Btf:
        """Read the running kernel's BTF. Raise OSError if it has none, BtfError if damaged."""
        return cls(path.read_bytes(), names)

    def field(self, owner: str, path: str) -> Optional[Field]:
        """Return where the field `path` lies in the struct `owner`; None if there is no such field.

        Dots descend into members; anonymous members are searched.
        """
        with _damage_as_btf_error():
            return self._field(owner, path)

    def _field(self, owner: str, path: str) -> Optional[Field]:
        type_id: Optional[int] = self._structs.get(owner)
        bits, bit_size = 0, 0
        for name in path.split("."):
            if type_id is None:
                return None
            found = self._member(type_id, name.encode())
            if found is None:
                return None
            offset, type_id, bit_size = found
            bits += offset
        if type_id is None:
            return None
        return Field(bits // 8, self._size(type_id), bits % 8, bit_size)

    def size(self, owner: str) -> Optional[int]:
        """Return the size in bytes of a struct or union; None if there is no such type."""
        type_id = self._structs.get(owner)
        with _damage_as_btf_error():
            return None if type_id is None else self._size(type_id)

    def function(self, name: str) -> Optional[int]:
        """Return the BTF id of a function; None if it is inlined or not in this kernel."""
        return self._functions.get(name)

    def tracepoint_arguments(self, name: str) -> Optional[int]:
        """Return how many arguments a raw tracepoint passes (`btf_trace_NAME`); None if unknown."""
        type_id = self._typedefs.get(f"btf_trace_{name}")
        if type_id is None:
            return None
        with _damage_as_btf_error():
            for _ in range(_MAX_DEPTH):
                kind, vlen, target = self._type(type_id)
                if kind == _FUNC_PROTO:
                    return vlen - 1  # the first is the tracepoint's own data pointer
                if kind not in _MODIFIERS and kind != _PTR:
                    return None
                type_id = target
        raise BtfError("a type that refers to itself")

    def _type(self, type_id: int) -> tuple[int, int, int]:
        _, info, value = _TYPE.unpack_from(self._data, self._at[type_id])
        return info >> 24 & 0x1F, info & 0xFFFF, value

    def _resolve(self, type_id: int) -> int:
        for _ in range(_MAX_DEPTH):
            kind, _, target = self._type(type_id)
            if kind not in _MODIFIERS:
                return type_id
            type_id = target
        raise BtfError("a type that refers to itself")

    def _member(self, type_id: int, name: bytes, depth: int = 0) -> Optional[tuple[int, int, int]]:
        """Return offset in bits, type and bit-field size of a member."""
        if depth > _MAX_DEPTH:
            raise BtfError("a type that contains itself")
        type_id = self._resolve(type_id)
        _, info, _ = _TYPE.unpack_from(self._data, self._at[type_id])
        if info >> 24 & 0x1F not in (_STRUCT, _UNION):
            return None
        bitfields = bool(info >> 31)
        start = self._at[type_id] + 12
        for index in range(info & 0xFFFF):
            name_at, member, offset = _MEMBER.unpack_from(self._data, start + 12 * index)
            bit_size = offset >> 24 if bitfields else 0
            if bitfields:
                offset &= 0xFFFFFF
            if name_at and self._string(name_at) == name:
                return offset, member, bit_size
            if not name_at:
                inner = self._member(member, name, depth + 1)
                if inner is not None:
                    return offset + inner[0], inner[1], inner[2]
        return None

    def _string(self, at: int) -> bytes:
        return self._text[at : self._text.index(b"\0", at)]

    def _size(self, type_id: int, depth: int = 0) -> int:
        if depth > _MAX_DEPTH:
            raise BtfError("a type that contains itself")
        type_id = self._resolve(type_id)
        kind, _, value = self._type(type_id)
        if kind == _PTR:
            return 8
        if kind == _ARRAY:
            element, _, count = struct.unpack_from("<III", self._data, self._at[type_id] + 12)
            return self._size(element, depth + 1) * int(count)
        return value
