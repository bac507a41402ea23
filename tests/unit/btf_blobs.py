# SPDX-License-Identifier: Apache-2.0
"""Build BTF by hand, byte for byte as Documentation/bpf/btf.rst describes it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Optional, Union

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD = 1, 2, 3, 4, 5, 6, 7
TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO = 8, 9, 10, 11, 12, 13
VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = 14, 15, 16, 17, 18, 19

# name, type, offset in bits; with a size in bits where it is a bit-field
Member = Union[tuple[str, int, int], tuple[str, int, int, int]]


class Blob:
    """A BTF section under construction: each method adds a type and returns its id."""

    def __init__(self) -> None:
        self._text = bytearray(b"\0")
        self._names = {"": 0}
        self._types: list[bytes] = []

    def name(self, name: str) -> int:
        """Return the offset of a name in the string section, which has each name once."""
        if name not in self._names:
            self._names[name] = len(self._text)
            self._text += name.encode() + b"\0"
        return self._names[name]

    def add(
        self,
        kind: int,
        name: str = "",
        value: int = 0,
        tail: bytes = b"",
        vlen: int = 0,
        flag: bool = False,
    ) -> int:
        info = int(flag) << 31 | kind << 24 | vlen
        self._types.append(struct.pack("<III", self.name(name), info, value) + tail)
        return len(self._types)

    def integer(self, name: str, size: int) -> int:
        return self.add(INT, name, size, struct.pack("<I", size * 8))

    def pointer(self, target: int) -> int:
        return self.add(PTR, "", target)

    def array(self, element: int, count: int, index: int = 1) -> int:
        return self.add(ARRAY, "", 0, struct.pack("<III", element, index, count))

    def typedef(self, name: str, target: int) -> int:
        return self.add(TYPEDEF, name, target)

    def struct(self, name: str, size: int, members: Sequence[Member], kind: int = STRUCT) -> int:
        """Add a struct; a bit-field among the members sets its kind_flag."""
        flagged = any(len(each) == 4 for each in members)
        tail = b""
        for each in members:
            bit_size = each[3] if len(each) == 4 else 0
            tail += struct.pack("<III", self.name(each[0]), each[1], bit_size << 24 | each[2])
        return self.add(kind, name, size, tail, len(members), flagged)

    def prototype(self, arguments: int, result: int = 0) -> int:
        return self.add(FUNC_PROTO, "", result, struct.pack("<II", 0, 1) * arguments, arguments)

    def tracepoint(self, name: str, arguments: int) -> int:
        """Add `typedef void (*btf_trace_NAME)(void *, ...)` with `arguments` after the first."""
        return self.typedef(f"btf_trace_{name}", self.pointer(self.prototype(1 + arguments)))

    def every_kind(self) -> None:
        """Add a type of each kind, so that a reader must step over all of them."""
        self.add(ENUM, "an_enum", 4, struct.pack("<Ii", 0, 1) * 3, 3)
        self.add(FWD, "a_forward")
        self.add(VOLATILE, "", 1)
        self.add(CONST, "", 1)
        self.add(RESTRICT, "", 1)
        self.add(FUNC, "a_function", self.prototype(2))
        self.add(VAR, "a_variable", 1, struct.pack("<I", 1))
        self.add(DATASEC, ".data", 16, struct.pack("<III", 1, 0, 4) * 2, 2)
        self.add(FLOAT, "a_float", 8)
        self.add(DECL_TAG, "a_tag", 1, struct.pack("<i", -1))
        self.add(TYPE_TAG, "another_tag", 1)
        self.add(ENUM64, "an_enum64", 8, struct.pack("<III", 0, 1, 0) * 2, 2)

    def bytes(self, magic: int = 0xEB9F, header: int = 24) -> bytes:
        types = b"".join(self._types)
        head = struct.pack(
            "<HBBIIIII", magic, 1, 0, header, 0, len(types), len(types), len(self._text)
        )
        return head.ljust(header, b"\0") + types + bytes(self._text)


def of_structs(
    structs: Mapping[str, Mapping[str, int]],
    tracepoints: Optional[Mapping[str, int]] = None,
    functions: Sequence[str] = (),
) -> bytes:
    """Build BTF of structs whose u64 fields are at the given offsets; a dotted field is nested."""
    blob = Blob()
    number = blob.integer("unsigned long long", 8)
    for name, fields in structs.items():
        members: list[Member] = []
        for path, offset in fields.items():
            inner, *rest = reversed(path.split("."))
            type_id, member = number, inner
            for outer in rest:
                type_id, member = blob.struct("", 64, [(member, type_id, 0)]), outer
            members.append((member, type_id, 8 * offset))
        blob.struct(name, max(fields.values(), default=0) + 8, members)
    for name, arguments in (tracepoints or {}).items():
        blob.tracepoint(name, arguments)
    for name in functions:
        blob.add(FUNC, name, blob.prototype(1))
    return blob.bytes()
