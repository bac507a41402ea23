# SPDX-License-Identifier: Apache-2.0
"""The probes' maps as Python sees them: mappings whose keys and values are C values.

The types are told by bcc's compiler, as JSON: "unsigned int", or
["name", [["member", type], ["array", type, [count]], ...], "struct"].
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from typing import Any, Optional

from zombiebpf.kernel import bpf

_POSSIBLE = "/sys/devices/system/cpu/possible"
_SCALARS: dict[str, Any] = {
    "_Bool": ctypes.c_bool,
    "char": ctypes.c_char,
    "unsigned char": ctypes.c_ubyte,
    "signed char": ctypes.c_byte,
    "short": ctypes.c_short,
    "unsigned short": ctypes.c_ushort,
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "long": ctypes.c_long,
    "unsigned long": ctypes.c_ulong,
    "long long": ctypes.c_longlong,
    "unsigned long long": ctypes.c_ulonglong,
}


class Table:
    """One map. `Key` and `Leaf` make its keys and values; a per-CPU map gives and takes a
    value for each CPU."""

    def __init__(self, descriptor: int, shape: bpf.MapShape, key: str, leaf: str) -> None:
        self.map_fd = descriptor
        self._types = key, leaf
        self._shape = shape
        self._made: Optional[tuple[Any, Any]] = None

    @property
    def Key(self) -> Any:
        return self._ctypes()[0]

    @property
    def Leaf(self) -> Any:
        return self._ctypes()[1]

    def __getitem__(self, key: Any) -> Any:
        """KeyError if it is not there."""
        value = self._room()
        if not bpf.lookup(self.map_fd, key, value):
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, leaf: Any) -> None:
        bpf.update(self.map_fd, key, leaf)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """What is there; a map that changes meanwhile may give some twice or not at all."""
        key = None
        for _ in range(2 * self._shape.entries):
            following = self.Key()
            if not bpf.next_key(self.map_fd, key, following):
                return
            key, value = following, self._room()
            if bpf.lookup(self.map_fd, key, value):
                yield key, value

    def _room(self) -> Any:
        leaf = self.Leaf
        if self._shape.kind not in bpf.PERCPU_TYPES:
            return leaf()
        assert ctypes.sizeof(leaf) % 8 == 0, "the kernel rounds each CPU's value up to 8 bytes"
        return (leaf * possible_cpus())()

    def _ctypes(self) -> tuple[Any, Any]:
        if self._made is None:
            key, leaf = (_ctype(json.loads(each)) for each in self._types)
            for made, size in (key, self._shape.key_bytes), (leaf, self._shape.value_bytes):
                assert ctypes.sizeof(made) == size, (made, size)
            self._made = key, leaf
        return self._made


def _ctype(told: Any) -> Any:
    if isinstance(told, str):
        return _SCALARS[told]
    name, members = told[0], told[1]
    fields = [
        (member[0], _ctype(member[1]) * member[2][0] if len(member) > 2 else _ctype(member[1]))
        for member in members
    ]
    return type(str(name), (ctypes.Structure,), {"_fields_": fields})


def possible_cpus() -> int:
    """For how many CPUs per-CPU maps have room (kernel/bpf/syscall.c, bpf_map_value_size());
    the file says `0-3` or `0,2-5`."""
    with open(_POSSIBLE, encoding="ascii") as file:
        ranges = [each.split("-") for each in file.read().strip().split(",")]
    return sum(int(each[-1]) - int(each[0]) + 1 for each in ranges)
