# SPDX-License-Identifier: Apache-2.0
"""Compiled BPF programs and their maps as plain values, which can be stored in a file."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from typing import NamedTuple

from zombiebpf.bpf.syscall import MapShape

_LOAD_WORDS, _PSEUDO_MAP_FD = 0x18, 1  # BPF_LD | BPF_IMM | BPF_DW, and its source register
INSTRUCTION = struct.Struct("<BBhi")


class Map(NamedTuple):
    """A map to create. `key` and `leaf` are types in bcc's notation (see Table); "": no type."""

    shape: MapShape
    key: str
    leaf: str


class Compiled(NamedTuple):
    """Maps and programs by name. The code refers to a map by its index in `maps`."""

    maps: Mapping[str, Map]
    programs: Mapping[str, bytes]

    def to_bytes(self) -> bytes:
        """Return the text that from_bytes() reads."""
        programs = {name: base64.b64encode(code).decode() for name, code in self.programs.items()}
        return json.dumps({"maps": self.maps, "programs": programs}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Compiled:
        """Read what to_bytes() returned. Raise ValueError if it is anything else."""
        try:
            document = json.loads(data)
            maps = {
                name: Map(MapShape(*shape), key, leaf)
                for name, (shape, key, leaf) in document["maps"].items()
            }
            programs = {
                name: base64.b64decode(code, validate=True)
                for name, code in document["programs"].items()
            }
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"damaged compiled probes: {error!r}") from None
        return cls(maps, programs)


def map_references(code: bytes) -> set[int]:
    """Return the descriptors or indexes by which a program refers to maps."""
    return {
        value
        for operation, registers, _, value in INSTRUCTION.iter_unpack(code)
        if operation == _LOAD_WORDS and registers >> 4 == _PSEUDO_MAP_FD
    }


def with_maps(code: bytes, others: Mapping[int, int]) -> bytes:
    """Return a program whose references to maps are replaced, as `others` maps old to new."""
    changed = bytearray(code)
    for at in range(0, len(code), INSTRUCTION.size):
        operation, registers, offset, value = INSTRUCTION.unpack_from(code, at)
        if operation == _LOAD_WORDS and registers >> 4 == _PSEUDO_MAP_FD:
            number = others.get(value, value)
            INSTRUCTION.pack_into(changed, at, operation, registers, offset, number)
    return bytes(changed)
