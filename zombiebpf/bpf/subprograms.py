# SPDX-License-Identifier: Apache-2.0
"""Link BPF functions that the verifier checks once, however often a program calls them.

bcc inlines functions and does not link them. So a program calls function number N as if it were
helper FIRST_SUBPROGRAM + N; link() appends the function and corrects the call. The verifier checks
a function separately if the program's BTF marks it as global: commit 51c39bb1d5d1 ("bpf: Introduce
function-by-function verification"), Linux 5.6.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zombiebpf.bpf.compiled import INSTRUCTION

FIRST_SUBPROGRAM = 0x7A620000  # above every helper of the kernel

_CALL, _PSEUDO_CALL = 0x85, 1  # BPF_JMP | BPF_CALL, and its source register
_KIND_INT, _KIND_FUNC, _KIND_FUNC_PROTO = 1, 12, 13  # include/uapi/linux/btf.h
_STATIC, _GLOBAL = 0, 1  # enum btf_func_linkage
_U64, _INT, _PROTOTYPE, _FIRST_FUNCTION = 1, 2, 3, 4  # the types' ids
_HEADER = struct.Struct("=HBBIIIII")
_MAGIC = 0xEB9F


class Linked(NamedTuple):
    """A program's code with the functions that it calls."""

    code: bytes
    starts: Mapping[str, int]  # name -> first instruction, in order; empty: it calls none


def link(name: str, programs: Mapping[str, bytes], subprograms: Sequence[str]) -> Linked:
    """Return program `name`, followed by those of `subprograms` that it or they call."""
    starts, code = {name: 0}, bytearray(programs[name])
    at = 0
    while at < len(code):
        operation, registers, offset, value = INSTRUCTION.unpack_from(code, at)
        if operation == _CALL and registers >> 4 == 0 and value >= FIRST_SUBPROGRAM:
            called = subprograms[value - FIRST_SUBPROGRAM]
            if called not in starts:
                starts[called] = len(code) // INSTRUCTION.size
                code += programs[called]
            distance = starts[called] - at // INSTRUCTION.size - 1
            INSTRUCTION.pack_into(code, at, _CALL, _PSEUDO_CALL << 4, offset, distance)
        at += INSTRUCTION.size
    return Linked(bytes(code), starts if len(starts) > 1 else {})


def btf(starts: Mapping[str, int]) -> bytes:
    """Return the BTF of a linked program: its functions take an unsigned long, return an int."""
    strings = bytearray(b"\0")

    def add(text: str) -> int:
        strings.extend(text.encode() + b"\0")
        return len(strings) - len(text) - 1

    types = struct.pack("=IIII", add("unsigned long"), _KIND_INT << 24, 8, 64)
    types += struct.pack("=IIII", add("int"), _KIND_INT << 24, 4, 1 << 24 | 32)
    types += struct.pack("=IIIII", 0, _KIND_FUNC_PROTO << 24 | 1, _INT, add("argument"), _U64)
    for number, name in enumerate(starts):
        linkage = _GLOBAL if number else _STATIC
        types += struct.pack("=III", add(name), _KIND_FUNC << 24 | linkage, _PROTOTYPE)
    lengths = (0, len(types), len(types), len(strings))
    return _HEADER.pack(_MAGIC, 1, 0, _HEADER.size, *lengths) + types + bytes(strings)


def function_info(starts: Mapping[str, int]) -> bytes:
    """Return an array of struct bpf_func_info, which refers to btf()."""
    return b"".join(
        struct.pack("=II", start, _FIRST_FUNCTION + number)
        for number, start in enumerate(starts.values())
    )
