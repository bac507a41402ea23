# SPDX-License-Identifier: Apache-2.0
"""The probes' maps as mappings, without a kernel."""

from __future__ import annotations

import ctypes
import json

import pytest

from zombiebpf.bpf import syscall, tables
from zombiebpf.bpf.syscall import MapShape
from zombiebpf.bpf.tables import Table

WORD = '"unsigned int"'
LIFE = json.dumps(
    ["life", [["start_ns", "unsigned long long"], ["pid", "int"], ["flags", "unsigned short", [2]],
              ["inner", ["two", [["a", "unsigned long long", [2]]], "struct_packed"]]], "struct"]
)  # fmt: skip
HASH, PERCPU_ARRAY = 1, 6
Buffer = ctypes.Array[ctypes.c_char]


class FakeMap:
    """bpf(2) over a dict of bytes."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    def lookup(self, descriptor: int, key: Buffer, value: Buffer) -> bool:
        found = self.kept.get(bytes(key))
        if found is None:
            return False
        assert len(found) == ctypes.sizeof(value)
        ctypes.memmove(ctypes.addressof(value), found, len(found))
        return True

    def update(self, descriptor: int, key: Buffer, value: Buffer) -> None:
        assert descriptor == 9
        self.kept[bytes(key)] = bytes(value)

    def next_key(self, descriptor: int, key: Buffer, following: Buffer) -> bool:
        keys = list(self.kept)
        at = 0 if key is None else keys.index(bytes(key)) + 1
        if at == len(keys):
            return False
        ctypes.memmove(ctypes.addressof(following), keys[at], len(keys[at]))
        return True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeMap:
    made = FakeMap()
    for name in ("lookup", "update", "next_key"):
        monkeypatch.setattr(syscall, name, getattr(made, name))
    return made


def test_structs_are_read_and_written(fake: FakeMap) -> None:
    table = Table(9, MapShape(HASH, 4, 32, 8, 0), WORD, LIFE)
    life = table.Leaf(5, -7, (1, 2))
    life.inner.a[1] = 9
    table[table.Key(3)] = life
    table[table.Key(4)] = table.Leaf(6)
    assert table[table.Key(3)].start_ns == 5
    assert (table[table.Key(3)].pid, list(table[table.Key(3)].flags)) == (-7, [1, 2])
    assert list(table[table.Key(3)].inner.a) == [0, 9]
    assert [(key.value, leaf.start_ns) for key, leaf in table.items()] == [(3, 5), (4, 6)]
    with pytest.raises(KeyError):
        table[table.Key(8)]


def test_a_value_for_each_cpu(fake: FakeMap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "possible_cpus", lambda: 3)
    table = Table(9, MapShape(PERCPU_ARRAY, 4, 8, 1, 0), WORD, '"unsigned long long"')
    fake.kept[bytes(table.Key(0))] = b"".join(bytes([n]) + bytes(7) for n in (1, 2, 3))
    assert sum(table[table.Key(0)]) == 6


def test_types_that_are_not_of_the_maps_size_are_not_used(fake: FakeMap) -> None:
    table = Table(9, MapShape(HASH, 4, 24, 8, 0), WORD, LIFE)
    with pytest.raises(AssertionError):
        table.Leaf  # noqa: B018


@pytest.mark.parametrize(("text", "count"), [("0", 1), ("0-3", 4), ("0,2-5", 5), ("0-1,7", 3)])
def test_possible_cpus(
    text: str, count: int, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = f"{tmp_path}/possible"
    with open(file, "w", encoding="ascii") as writing:
        writing.write(text + "\n")
    monkeypatch.setattr(tables, "_POSSIBLE", file)
    assert tables.possible_cpus() == count
