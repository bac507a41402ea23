# SPDX-License-Identifier: Apache-2.0
"""The BTF reader: hand-made blobs, whole and damaged, and the kernel's own."""

from __future__ import annotations

import os
import random
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Callable, Optional

import pytest

from tests.unit.btf_blobs import CONST, ENUM, FUNC, FWD, STRUCT, TYPE_TAG, UNION, VOLATILE, Blob
from zombiebpf.bpf.btf import VMLINUX, Btf, BtfError, Field
from zombiebpf.kernel.layout import STRUCTS, btf_names, from_btf

NAMES = ["task", "inner", "signal_t", "btf_trace_exit", "btf_trace_odd", "missing"]


def example() -> bytes:
    blob = Blob()
    number = blob.integer("int", 4)
    byte = blob.integer("char", 1)
    blob.every_kind()
    inner = blob.struct("inner", 16, [("first", number, 0), ("second", number, 64)])
    either = blob.struct("", 8, [("left", number, 0), ("right", inner, 0)], UNION)
    nested = blob.struct("", 24, [("deep", number, 32), ("", either, 64)])
    comm = blob.array(byte, 16)
    grid = blob.array(blob.array(number, 3), 5)
    alias = blob.typedef("signal_t", blob.add(CONST, "", blob.add(VOLATILE, "", inner)))
    tagged = blob.add(TYPE_TAG, "rcu", alias)
    blob.struct(
        "task",
        256,
        [
            ("pid", number, 0),
            ("named", inner, 64),
            ("", nested, 256),
            ("comm", comm, 512),
            ("grid", grid, 640),
            ("link", blob.pointer(inner), 1152),
            ("alias", tagged, 1216),
            ("state", blob.add(ENUM, "states", 4), 1344),
        ],
    )
    blob.struct(
        "flags",
        8,
        [("low", number, 0, 3), ("high", number, 35, 5), ("plain", number, 32, 0)],
    )
    blob.tracepoint("exit", 2)
    blob.typedef("btf_trace_odd", number)
    return blob.bytes()


@pytest.fixture(scope="module")
def btf() -> Btf:
    return Btf(example(), [*NAMES, "flags"])


@pytest.mark.parametrize(
    ("path", "offset", "size"),
    [
        ("pid", 0, 4),
        ("named", 8, 16),
        ("named.first", 8, 4),
        ("named.second", 16, 4),
        ("deep", 36, 4),
        ("left", 40, 4),
        ("right", 40, 16),
        ("right.second", 48, 4),
        ("comm", 64, 16),
        ("grid", 80, 60),
        ("link", 144, 8),
        ("alias", 152, 16),
        ("alias.second", 160, 4),
        ("state", 168, 4),
    ],
)
def test_a_field_is_found(btf: Btf, path: str, offset: int, size: int) -> None:
    assert btf.field("task", path) == Field(offset, size, 0, 0)


@pytest.mark.parametrize("path", ["nope", "pid.nope", "named.nope", "link.first", "comm.first", ""])
def test_a_field_that_is_not_there(btf: Btf, path: str) -> None:
    assert btf.field("task", path) is None


def test_bit_fields(btf: Btf) -> None:
    assert btf.field("flags", "low") == Field(0, 4, 0, 3)
    assert btf.field("flags", "high") == Field(4, 4, 3, 5)
    assert btf.field("flags", "plain") == Field(4, 4, 0, 0)


def test_sizes(btf: Btf) -> None:
    assert btf.size("task") == 256
    assert btf.size("inner") == 16
    assert btf.size("missing") is None
    assert btf.size("never asked for") is None


def test_a_struct_that_the_kernel_lacks(btf: Btf) -> None:
    assert btf.field("missing", "pid") is None


def test_only_what_was_asked_for_is_indexed() -> None:
    assert Btf(example(), ["inner"]).size("task") is None


def test_a_name_is_matched_whole() -> None:
    blob = Blob()
    blob.struct("task_struct_ext", 8, [])
    blob.struct("my_task_struct", 16, [])
    assert Btf(blob.bytes(), ["task_struct"]).size("task_struct") is None


def test_a_typedef_and_a_forward_of_the_same_name_are_not_the_struct() -> None:
    blob = Blob()
    number = blob.integer("int", 4)
    blob.add(FWD, "task")
    blob.typedef("task", number)
    blob.struct("task", 32, [("task", number, 128)])
    btf = Btf(blob.bytes(), ["task"])
    assert btf.size("task") == 32
    assert btf.field("task", "task") == Field(16, 4, 0, 0)


def test_arguments_of_tracepoints(btf: Btf) -> None:
    assert btf.tracepoint_arguments("exit") == 2
    assert btf.tracepoint_arguments("odd") is None  # no function
    assert btf.tracepoint_arguments("missing") is None


def test_functions_by_their_names() -> None:
    blob = Blob()
    blob.integer("int", 4)
    wanted = blob.add(FUNC, "wanted", blob.prototype(1))
    blob.struct("a_struct", 4, [("field", 1, 0)])
    btf = Btf(blob.bytes(), ["wanted", "a_struct", "missing"])
    assert btf.function("wanted") == wanted
    assert btf.function("a_struct") is None
    assert btf.function("missing") is None


def test_a_longer_header_is_stepped_over() -> None:
    blob = Blob()
    blob.struct("task", 8, [("pid", blob.integer("int", 4), 0)])
    assert Btf(blob.bytes(header=32), ["task"]).size("task") == 8


@pytest.mark.parametrize("magic", [0x9FEB, 0x0000, 0x457F])
def test_no_btf(magic: int) -> None:
    with pytest.raises(BtfError, match=f"magic {magic:#06x}"):
        Btf(Blob().bytes(magic=magic), [])


# damage


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """An endless loop becomes a failure of this test alone."""

    def late(number: int, frame: Optional[FrameType]) -> None:
        raise TimeoutError(f"no answer within {seconds} s: an endless loop")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


PATHS = ("pid", "named.second", "deep", "right.second", "grid", "alias.second", "comm", "none")


def ask_all(data: bytes) -> None:
    """Each question either has an answer or is a BtfError."""
    try:
        btf = Btf(data, NAMES)
    except BtfError:
        return
    for path in PATHS:
        with suppress(BtfError):
            btf.field("task", path)
    for name in NAMES:
        with suppress(BtfError):
            btf.size(name)
    for name in ("exit", "odd"):
        with suppress(BtfError):
            btf.tracepoint_arguments(name)


def test_every_truncation_is_an_answer_or_a_btf_error() -> None:
    whole = example()
    with deadline(3):
        for length in range(len(whole)):
            try:
                ask_all(whole[:length])
            except Exception as error:
                raise AssertionError(f"cut to {length} of {len(whole)} bytes: {error!r}") from error


@pytest.mark.parametrize("seed", range(5))
def test_flipped_bytes_are_an_answer_or_a_btf_error(seed: int) -> None:
    whole = example()
    chance = random.Random(seed)
    with deadline(3):
        for _ in range(300):
            data = bytearray(whole)
            changes = {
                chance.randrange(len(data)): chance.randrange(256)
                for _ in range(chance.randrange(1, 5))
            }
            for at, byte in changes.items():
                data[at] = byte
            try:
                ask_all(bytes(data))
            except Exception as error:
                raise AssertionError(f"seed {seed}, bytes {changes}: {error!r}") from error


KNOTS: dict[str, Callable[[Blob], object]] = {
    "typedef of itself": lambda blob: (
        blob.typedef("loop", 1),
        blob.struct("task", 8, [("pid", 1, 0), ("", 1, 0)]),
    ),
    "two typedefs of each other": lambda blob: (
        blob.typedef("ping", 2),
        blob.typedef("pong", 1),
        blob.struct("task", 8, [("pid", 1, 0)]),
    ),
    "struct in itself": lambda blob: blob.struct("task", 8, [("", 1, 0)]),
    "array of itself": lambda blob: (
        blob.array(1, 2),
        blob.struct("task", 8, [("pid", 1, 0)]),
    ),
    "pointer to itself": lambda blob: (
        blob.pointer(1),
        blob.struct("task", 8, [("pid", 1, 0)]),
        blob.typedef("btf_trace_exit", 1),
    ),
    "types that are not there": lambda blob: (
        blob.struct("task", 8, [("pid", 99, 0), ("", 98, 0)]),
        blob.typedef("btf_trace_exit", 97),
    ),
    "name beyond the strings": lambda blob: blob.add(
        STRUCT, "task", 8, struct.pack("<III", 0xFFFF, 1, 0), vlen=1
    ),
}


@pytest.mark.parametrize("knot", KNOTS)
def test_a_knot_is_an_answer_or_a_btf_error(knot: str) -> None:
    blob = Blob()
    KNOTS[knot](blob)
    with deadline(2):
        ask_all(blob.bytes())


def test_a_kind_of_unknown_length_is_a_btf_error() -> None:
    # what follows it cannot be found: reading on would give wrong offsets in silence
    blob = Blob()
    number = blob.integer("int", 4)
    blob.add(20, "of the future", 4, struct.pack("<II", number, 7), vlen=1)
    blob.struct("task", 8, [("pid", number, 0)])
    with pytest.raises(BtfError):
        Btf(blob.bytes(), ["task"])


# the kernel's own


@pytest.mark.skipif(
    not os.access(VMLINUX, os.R_OK), reason=f"{VMLINUX} cannot be read on this machine"
)
def test_the_running_kernel() -> None:
    btf = Btf.of_kernel(btf_names())
    pid = btf.field("task_struct", "pid")
    tgid = btf.field("task_struct", "tgid")
    comm = btf.field("task_struct", "comm")
    assert pid is not None
    assert tgid is not None
    assert comm is not None
    assert pid.size == 4
    assert tgid == Field(pid.offset + 4, 4, 0, 0)
    assert comm.size == 16
    assert btf.tracepoint_arguments("sched_process_fork") == 2
    assert btf.tracepoint_arguments("no_such_tracepoint") is None
    layout = from_btf(btf)
    assert all(f"struct {name} {{" in layout.c for name in STRUCTS)


def test_no_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Btf.of_kernel([], tmp_path / "vmlinux")


def test_an_empty_file_is_a_btf_error() -> None:
    with pytest.raises(BtfError):
        Btf(b"", ["task"])
