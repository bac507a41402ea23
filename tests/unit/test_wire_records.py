# SPDX-License-Identifier: Apache-2.0
"""Records' bytes -> events, and that wire.py says what probes/wire.h says."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from zombiebpf.model import events, wire
from zombiebpf.model.events import (
    Event,
    ForkFlags,
    ReapFlags,
    ReparentFlags,
    SnapshotFlags,
    StackKind,
    StackProblem,
    Text,
    TextKind,
    ZombieHook,
)
from zombiebpf.model.wire import Records

HEADER = Path(__file__).resolve().parents[2] / "probes" / "wire.h"
HEADER_TEXT = HEADER.read_text(encoding="utf-8")

EVENTS: dict[int, type] = {
    wire.FORK: events.Fork,
    wire.EXEC: events.Exec,
    wire.TEXT: events.Text,
    wire.EXIT: events.Exit,
    wire.ZOMBIE: events.Zombie,
    wire.REPARENT: events.Reparent,
    wire.WAIT: events.Wait,
    wire.REAP: events.Reap,
    wire.FREED: events.Freed,
    wire.STACK: events.StackOf,
    wire.BLOCK: events.Block,
    wire.SNAPSHOT: events.Snapshot,
}
C_NAMES = {kind: event.__name__.lower() for kind, event in EVENTS.items()}
C_NAMES[wire.STACK] = "stack"
# What no record tells: the reader adds it.
NOT_SENT = {"parent_comm", "argv"}


# a parser of what wire.h declares, by the rules of the C ABI


class Member(NamedTuple):
    offset: int
    size: int
    form: str  # of struct; an array's count comes first


COUNTS = {
    "ZB_COMM_BYTES": 16,
    "ZB_TEXT_BYTES": 56,
    "ZB_STACK_SELVES": 6,
    "ZB_BLOCK_SELVES": 3,
}


def c_struct(name: str) -> dict[str, Member]:
    """Member -> where it lies within the struct, naturally aligned."""
    forms = {"u64": "Q", "s64": "q", "u32": "I", "s32": "i", "u16": "H", "u8": "B", "char": "s"}
    for macro, number in COUNTS.items():
        assert f"#define {macro} {number}\n" in HEADER_TEXT
    body = re.search(rf"^struct {name} \{{\n(.*?)^(?:\}};|\tunion)", HEADER_TEXT, re.M | re.S)
    assert body, name
    found, at = {}, 0
    for c_type, member, count in re.findall(r"^\t(\w+) (\w+)(?:\[(\w+)\])?;", body[1], re.M):
        align = struct.calcsize(forms[c_type])
        size = align * (COUNTS[count] if count else 1)
        at = (at + align - 1) // align * align
        found[member] = Member(at, size, (str(COUNTS[count]) if count else "") + forms[c_type])
        at += size
    return found


def c_enum(name: str) -> dict[str, int]:
    """The members' values, without the ZB_ of their names."""
    body = re.search(rf"^enum zb_{name} \{{(.*?)\}};", HEADER_TEXT, re.M | re.S)
    assert body, name
    return {member: int(value) for member, value in re.findall(r"ZB_(\w+) = (\d+),", body[1])}


BODY_AT = 24


def encoded(kind: int, /, **values: Any) -> bytes:
    """A record written as the C compiler lays it out, 0 where nothing is given."""
    record = bytearray(wire.RECORD_BYTES)
    head = c_struct("zb_record")
    body = c_struct(f"zb_{C_NAMES[kind]}")
    for name, value in {**values, "type": kind}.items():
        where, start = (head[name], 0) if name in head else (body[name], BODY_AT)
        given = value if isinstance(value, tuple) else (value,)
        struct.pack_into("<" + where.form, record, start + where.offset, *given)
    return bytes(record)


def decoded(record: bytes) -> Event:
    (event,) = Records(record).events()
    return event


def distinct(kind: int) -> dict[str, Any]:
    """A value for each member, no two the same, each too wide for a narrower one."""
    values: dict[str, Any] = {"ns": 0x0101010101010101, "start_ns": 0x0202020202020202}
    values["pid"] = 0x03030303
    for number, (name, where) in enumerate(c_struct(f"zb_{C_NAMES[kind]}").items(), 4):
        if name == "unused":
            continue
        if where.form.endswith("s"):
            values[name] = (name[:8] + "-" * where.size)[: where.size].encode()
        elif where.form in "iq":
            values[name] = -int.from_bytes(bytes([number]) * where.size, "little")
        elif where.form.endswith("Q") and where.form != "Q":
            values[name] = tuple(0x9000000000000000 + each for each in range(int(where.form[:-1])))
        else:
            values[name] = int.from_bytes(bytes([0x80 + number]) * where.size, "little")
    return values


@pytest.mark.parametrize("kind", EVENTS)
def test_each_member_becomes_the_field_of_its_name(kind: int) -> None:
    values = distinct(kind)
    event = decoded(encoded(kind, **values))
    assert type(event) is EVENTS[kind]
    if kind == wire.ZOMBIE:
        values["hook"] = values.pop("flags")
    assert set(event._fields) - NOT_SENT == set(values)
    assert all(getattr(event, name) is None for name in NOT_SENT & set(event._fields))
    for name, value in values.items():
        expected = value.decode() if name.endswith("comm") else value
        assert getattr(event, name) == expected, name


@pytest.mark.parametrize("kind", EVENTS)
def test_nothing_but_zeros(kind: int) -> None:
    event = decoded(encoded(kind))
    assert type(event) is EVENTS[kind]
    nothing = (0, "", bytes(56), None, (0,) * 3, (0,) * 6)
    assert all(value in nothing for value in event)


@pytest.mark.parametrize(("kind", "count"), [(wire.STACK, 6), (wire.BLOCK, 3)])
def test_each_of_the_selves_has_its_place(kind: int, count: int) -> None:
    selves = tuple(range(0x7F0000001000, 0x7F0000001000 + count))
    event = decoded(encoded(kind, pid=5, selves=selves))
    assert isinstance(event, (events.StackOf, events.Block))
    assert event.selves == selves
    assert event.pid == 5


def test_the_small_members_of_a_stack() -> None:
    record = encoded(
        wire.STACK, tid=1 << 31, kind=StackKind.BLOCK, problem=StackProblem.LOST, first=6
    )
    event = decoded(record)
    assert isinstance(event, events.StackOf)
    assert (event.tid, event.kind, event.problem, event.first) == (1 << 31, 4, 5, 6)


@pytest.mark.parametrize("timeout", [-1, 0, 5_000_000, (1 << 63) - 1])
def test_the_timeout_of_a_block_is_signed(timeout: int) -> None:
    event = decoded(encoded(wire.BLOCK, timeout_ns=timeout, syscall=-1))
    assert isinstance(event, events.Block)
    assert (event.timeout_ns, event.syscall) == (timeout, -1)


def test_a_text() -> None:
    data = b"/bin/sh\0-c\0" + b"x" * 45
    values = {"ns": 5, "start_ns": 6, "pid": 7, "total": 1234, "data": data}
    for kind in TextKind:
        for length in (0, 1, 55, 56):
            event = decoded(encoded(wire.TEXT, **values, kind=kind, length=length))
            assert event == Text(5, 6, 7, kind, length, 1234, data)
            assert isinstance(event, Text)
            assert event.piece == data[:length]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"sh", "sh"),
        (b"sh\0garbage", "sh"),
        (b"\0left behind", ""),
        (b"sixteen bytes---", "sixteen bytes---"),
        ("жук".encode(), "жук"),
        (b"\xff\xfe", "\udcff\udcfe"),
        ("жжжжжжж".encode() + b"\xd0", "жжжжжжж\udcd0"),  # the kernel cuts within a letter
        (b"a b\tc\n", "a b\tc\n"),
    ],
)
def test_names_of_commands(raw: bytes, text: str) -> None:
    event = decoded(encoded(wire.EXEC, comm=raw))
    assert isinstance(event, events.Exec)
    assert event.comm == text
    assert text.encode("utf-8", "surrogateescape") == raw.split(b"\0")[0]


def test_more_names_than_are_kept() -> None:
    records = b"".join(
        encoded(wire.EXEC, pid=number, comm=b"c%d" % number) for number in range(9001)
    )
    seen = Records(records + records[: wire.RECORD_BYTES]).events()
    names = [event.comm for event in seen if isinstance(event, events.Exec)]
    assert names == [f"c{n}" for n in [*range(9001), 0]]


def test_batches_as_the_ring_gives_them() -> None:
    records = [encoded(wire.FREED, pid=pid) for pid in (11, 12, 13)]
    batch = b"".join(b"\xee" * 8 + record for record in records)
    seen = list(Records(batch, stride=wire.RECORD_BYTES + 8, first=8).events())
    assert [event.pid for event in seen] == [11, 12, 13]
    assert list(Records().events()) == []
    assert list(Records(b"", stride=96, first=8).events()) == []


@pytest.mark.parametrize("kind", [0, 13, 14, 127, 255])
def test_an_unknown_type(kind: int) -> None:
    record = bytearray(encoded(wire.EXIT))
    record[wire.TYPE_AT] = kind
    with pytest.raises(wire.WireError, match=f"record type {kind}$"):
        list(Records(bytes(record)).events())


# wire.h and wire.py


def test_types() -> None:
    assert c_enum("type") == {C_NAMES[kind].upper(): kind for kind in wire.FORMATS}
    assert set(wire.FORMATS) == set(EVENTS)


def test_kinds_of_text() -> None:
    assert c_enum("text_kind") == {kind.name: kind.value for kind in TextKind}


def test_kinds_and_problems_of_stacks() -> None:
    of = {f"OF_{kind.name}": kind.value for kind in StackKind}
    assert c_enum("stack_kind") == of
    problems = {f"STACK_{problem.name}": problem.value for problem in StackProblem}
    problems["STACK_WHOLE"] = problems.pop("STACK_NONE")
    assert c_enum("stack_problem") == problems


def test_flags() -> None:
    bits = re.findall(r"^#define ZB_(\w+)[\s\\]*\(1 << (\d+)\)", HEADER_TEXT, re.M)
    flags: dict[str, int] = {
        "ZOMBIE_LATE": ZombieHook.LATE,
        "FORK_STACKED": ForkFlags.STACKED,
        "REPARENT_INIT": ReparentFlags.INIT,
        "REPARENT_RESOLVED": ReparentFlags.RESOLVED,
        "REPARENT_EXACT": ReparentFlags.EXACT,
        "REAP_EXITING": ReapFlags.EXITING,
        "REAP_BY_PARENT": ReapFlags.BY_PARENT,
        "REAP_STACKED": ReapFlags.STACKED,
        "REAP_LATE": ReapFlags.LATE,
        "SNAPSHOT_EXITING": SnapshotFlags.EXITING,
        "SNAPSHOT_ZOMBIE": SnapshotFlags.ZOMBIE,
        "SNAPSHOT_JOINED": SnapshotFlags.JOINED,
    }
    assert {name: 1 << int(bit) for name, bit in bits} == flags


def test_causes_of_losses() -> None:
    declared = c_enum("lost")
    assert declared.pop("LOST_CAUSES") == len(wire.LOST_CAUSES) == len(declared)
    words = {
        "LOST_RING_FULL": "ring buffer",
        "LOST_LIVES_FULL": "processes",
        "LOST_TABLE_FULL": "auxiliary",
        "LOST_STACKS": "Python stack",
    }
    assert set(words) == set(declared)
    for name, index in declared.items():
        assert words[name] in wire.LOST_CAUSES[index]


@pytest.mark.parametrize("kind", wire.FORMATS)
def test_a_format_lies_within_the_record(kind: int) -> None:
    assert wire.FORMATS[kind].startswith("<QQI4x")
    assert BODY_AT < struct.calcsize(wire.FORMATS[kind]) <= wire.RECORD_BYTES


def test_the_header_of_a_record() -> None:
    head = c_struct("zb_record")
    assert list(head) == ["ns", "start_ns", "pid", "type", "unused"]
    assert head["type"] == Member(wire.TYPE_AT, 2, "H")
    assert struct.calcsize("<QQI") == head["type"].offset
    assert max(wire.FORMATS) < 256  # decode() looks at the first byte


def test_nothing_is_left_to_padding() -> None:
    widest = 0
    for name in C_NAMES.values():
        end = 0
        for where in c_struct(f"zb_{name}").values():
            assert where.offset == end, name
            end += where.size
        widest = max(widest, end)
    assert BODY_AT + (widest + 7) // 8 * 8 == wire.RECORD_BYTES
