# SPDX-License-Identifier: Apache-2.0
"""BPF maps as Python mappings whose keys and values are ctypes objects.

bcc's compiler describes a type as JSON: "unsigned int", or
["name", [["member", type], ["array", type, [count]], ...], "struct"].
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from typing import Any, Optional

from zombiebpf.bpf import syscall

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
    """One map. The values of a per-CPU map are arrays with a `Leaf` for each CPU."""

    def __init__(self, descriptor: int, shape: syscall.MapShape, key: str, leaf: str) -> None:
        """Use the map `descriptor`, whose types are `key` and `leaf` in JSON."""
        self.map_fd = descriptor
        self._types = key, leaf
        self._shape = shape
        self._made: Optional[tuple[Any, Any]] = None

    @property
    def Key(self) -> Any:
        """The ctypes type of a key."""
        return self._ctypes()[0]

    @property
    def Leaf(self) -> Any:
        """The ctypes type of a value."""
        return self._ctypes()[1]

    def __getitem__(self, key: Any) -> Any:
        """Return the value of a key. Raise KeyError if there is none."""
        value = self._empty()
        if not syscall.lookup(self.map_fd, key, value):
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, leaf: Any) -> None:
        """Set the value of a key. Raise OSError if the map is full."""
        syscall.update(self.map_fd, key, leaf)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Yield keys and values; a map that changes meanwhile may skip or repeat some."""
        key = None
        for _ in range(2 * self._shape.entries):
            following = self.Key()
            if not syscall.next_key(self.map_fd, key, following):
                return
            key, value = following, self._empty()
            if syscall.lookup(self.map_fd, key, value):
                yield key, value

    def _empty(self) -> Any:
        leaf = self.Leaf
        if self._shape.kind not in syscall.PERCPU_TYPES:
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


def _ctype(description: Any) -> Any:
    if isinstance(description, str):
        return _SCALARS[description]
    name, members = description[0], description[1]
    fields = [
        (member[0], _ctype(member[1]) * member[2][0] if len(member) > 2 else _ctype(member[1]))
        for member in members
    ]
    return type(str(name), (ctypes.Structure,), {"_fields_": fields})


def possible_cpus() -> int:
    """Return how many values a key of a per-CPU map has.

    kernel/bpf/syscall.c, bpf_map_value_size(). The file has `0-3` or `0,2-5`.
    """
    with open(_POSSIBLE, encoding="ascii") as file:
        ranges = [each.split("-") for each in file.read().strip().split(",")]
    return sum(int(each[-1]) - int(each[0]) + 1 for each in ranges)
