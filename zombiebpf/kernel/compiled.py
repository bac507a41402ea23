# SPDX-License-Identifier: Apache-2.0
"""The compiled probes: plain values, that can be written down and read again."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import struct
from collections.abc import Mapping
from typing import NamedTuple

from zombiebpf.kernel.bpf import MapShape

_FORMAT = "zombiebpf probes 1"
_LOAD_WORDS, _PSEUDO_MAP_FD = 0x18, 1  # BPF_LD | BPF_IMM | BPF_DW, and its source register
_INSTRUCTION = struct.Struct("<BBhi")


class Map(NamedTuple):
    """`key` and `leaf` are types as zombiebpf.kernel.tables reads them; "" where there is none."""

    shape: MapShape
    key: str
    leaf: str


class Compiled(NamedTuple):
    """Programs refer to maps by the maps' index here, where loaded ones have a descriptor."""

    maps: Mapping[str, Map]
    programs: Mapping[str, bytes]

    def to_bytes(self) -> bytes:
        programs = {name: base64.b64encode(code).decode() for name, code in self.programs.items()}
        document = {"maps": self.maps, "programs": programs}
        text = json.dumps(document)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"{_FORMAT} {digest}\n{text}".encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Compiled:
        """ValueError if that is not what to_bytes() wrote, whole."""
        head, _, text = data.partition(b"\n")
        if head.decode("ascii", "replace") != f"{_FORMAT} {hashlib.sha256(text).hexdigest()}":
            raise ValueError("no compiled probes, or damaged ones")
        try:
            document = json.loads(text)
            maps = {
                name: Map(MapShape(*shape), key, leaf)
                for name, (shape, key, leaf) in document["maps"].items()
            }
            programs = {
                name: base64.b64decode(code, validate=True)
                for name, code in document["programs"].items()
            }
        except (KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise ValueError(f"damaged compiled probes: {error!r}") from None
        return cls(maps, programs)


def map_references(code: bytes) -> set[int]:
    """The descriptors or indices by which a program refers to maps."""
    return {
        value
        for operation, registers, _, value in _INSTRUCTION.iter_unpack(code)
        if operation == _LOAD_WORDS and registers >> 4 == _PSEUDO_MAP_FD
    }


def with_maps(code: bytes, others: Mapping[int, int]) -> bytes:
    """The same program with other references in the place of some."""
    changed = bytearray(code)
    for at in range(0, len(code), _INSTRUCTION.size):
        operation, registers, offset, value = _INSTRUCTION.unpack_from(code, at)
        if operation == _LOAD_WORDS and registers >> 4 == _PSEUDO_MAP_FD:
            number = others.get(value, value)
            _INSTRUCTION.pack_into(changed, at, operation, registers, offset, number)
    return bytes(changed)
