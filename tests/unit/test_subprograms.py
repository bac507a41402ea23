# SPDX-License-Identifier: Apache-2.0
"""Functions that programs call are appended, and described so that they are checked once."""

from __future__ import annotations

import os
import struct
from typing import Any, Optional

import pytest

from zombiebpf.bpf import subprograms, syscall
from zombiebpf.bpf.btf import Btf
from zombiebpf.bpf.compiled import Compiled, Map
from zombiebpf.bpf.loaded import Probes
from zombiebpf.bpf.subprograms import FIRST_SUBPROGRAM, Linked, btf, function_info, link
from zombiebpf.bpf.syscall import MapShape

EXIT = (0x95, 0, 0, 0)
HELPER = (0x85, 0, 0, 14)
MAP = ((0x18, 0x11, 0, 0), (0, 0, 0, 0))
NAMES = ("first", "second")


def code(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("<BBhi", *each) for each in instructions)


def call(number: int) -> tuple[int, int, int, int]:
    return 0x85, 0, 0, FIRST_SUBPROGRAM + number


def linked_call(distance: int) -> tuple[int, int, int, int]:
    return 0x85, 0x10, 0, distance


def test_a_program_that_calls_none_stays_as_it_is() -> None:
    programs = {"on_x": code(HELPER, EXIT), "first": code(EXIT)}
    assert link("on_x", programs, NAMES) == Linked(programs["on_x"], {})


def test_each_function_is_appended_once_with_those_that_it_calls() -> None:
    programs = {
        "on_x": code(call(1), HELPER, call(1), call(0), EXIT),
        "first": code(HELPER, EXIT),
        "second": code(call(0), EXIT),
        "third": code(EXIT),
    }
    linked = link("on_x", programs, NAMES)
    assert linked.code == code(
        linked_call(4), HELPER, linked_call(2), linked_call(3), EXIT,
        linked_call(1), EXIT,
        HELPER, EXIT,
    )  # fmt: skip
    assert list(linked.starts.items()) == [("on_x", 0), ("second", 5), ("first", 7)]


def test_the_types_name_each_function() -> None:
    starts = {"on_x": 0, "second": 5, "first": 7}
    data = btf(starts)
    types = Btf(data, starts)
    infos = struct.unpack("<6I", function_info(starts))
    assert infos[0::2] == (0, 5, 7)
    assert infos[1::2] == tuple(types.function(name) for name in starts)
    # the program itself may be static, but only what is global is checked once
    assert [data.count(struct.pack("<I", 12 << 24 | linkage)) for linkage in (0, 1)] == [1, 2]


class FakeKernel:
    """bpf(2): what was loaded, and how."""

    def __init__(self) -> None:
        self.types: Optional[bytes] = None
        self.loaded: list[tuple[Any, ...]] = []
        self.closed: list[int] = []

    def load_btf(self, data: bytes) -> int:
        self.types = data
        return 50

    def load_program(self, *arguments: Any) -> int:
        self.loaded.append(arguments)
        return 60


def test_it_is_loaded_with_its_types(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeKernel()
    monkeypatch.setattr(syscall, "load_btf", kernel.load_btf)
    monkeypatch.setattr(syscall, "load_program", kernel.load_program)
    monkeypatch.setattr(syscall, "create_map", lambda name, shape: 40)
    monkeypatch.setattr(os, "close", kernel.closed.append)
    programs = {"on_x": code(call(0), EXIT), "on_y": code(EXIT), "first": code(*MAP, EXIT)}
    compiled = Compiled({"m": Map(MapShape(1, 4, 4, 8, 0), "", "")}, programs)
    probes = Probes(compiled, "zb_{}".format, NAMES)
    assert probes.load("on_x", 17) == probes.load("on_x", 17) == 60
    assert probes.load_again("on_y", 2, {}, 24, 7) == 60
    starts = {"on_x": 0, "first": 2}
    whole = code(linked_call(1), EXIT, (0x18, 0x11, 0, 40), MAP[1], EXIT)
    assert kernel.types == btf(starts)
    assert kernel.loaded == [
        ("zb_on_x", 17, whole, 0, 0, 50, function_info(starts)),
        ("zb_on_y", 2, code(EXIT), 24, 7),
    ]
    assert kernel.closed == [50]
    assert subprograms.FIRST_SUBPROGRAM > 10_000  # no helper's number
