# SPDX-License-Identifier: Apache-2.0
"""Records of the ring of stacks, and the stacks they make."""

from __future__ import annotations

import struct
import weakref
from typing import Any, Optional

import pytest

from zombiebpf.model.events import StackProblem
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.python.stacks import (
    CUT,
    ELLIPSIS,
    FUNCTION_LOST,
    LINES_CUT,
    LOST,
    UNREADABLE,
    RecordError,
    Stacks,
)

TABLE = bytes([0x80 | 11 << 3 | 7, 0, 0])  # sixteen bytes of code, one line after the first


def text(value: str, kind: int, size: int) -> bytes:
    encoding = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[kind]
    raw = value.encode(encoding, "surrogatepass" if kind > 1 else "strict")
    return raw[:size].ljust(size, b"\xaa")


def code(
    address: int,
    name: str = "f",
    file: str = "/a.py",
    first: int = 10,
    lineage: int = 1,
    check: int = 5,
    minor: int = 11,
    kinds: tuple[int, int] = (1, 1),
    table: bytes = TABLE,
    table_length: Optional[int] = None,
) -> bytes:
    length = len(table) if table_length is None else table_length
    head = struct.pack("<IIQQII", 2, lineage, address, check, first, minor)
    head += struct.pack("<IIIIII", len(name), kinds[0], len(file), kinds[1], length, len(table))
    return head + text(name, kinds[0], 256) + text(file, kinds[1], 1024) + table


def stack(
    stack_id: int, *codes: int, problem: int = 0, lineage: int = 1, lasti: int = 4, check: int = 5
) -> bytes:
    head = struct.pack("<IIQII", 1, len(codes), stack_id, lineage, problem)
    return head + b"".join(struct.pack("<QQiI", each, check, lasti, 0) for each in codes)


def fed(*records: bytes) -> Stacks:
    stacks = Stacks()
    for record in records:
        stacks.feed(record)
    return stacks


def test_frames_are_innermost_first() -> None:
    stacks = fed(code(100, "wait"), code(200, "main", "/m.py", 3), stack(9, 100, 200))
    assert stacks.get(9) == Stack((Frame("wait", "/a.py", 11), Frame("main", "/m.py", 4)))


def test_code_may_come_after_the_stack() -> None:
    stacks = fed(stack(9, 100))
    assert stacks.get(9) == Stack((), FUNCTION_LOST)
    stacks.feed(code(100))
    assert stacks.get(9) == Stack((Frame("f", "/a.py", 11),))


def test_a_stack_ends_before_a_lost_function() -> None:
    stacks = fed(code(100), code(300), stack(9, 100, 200, 300))
    assert stacks.get(9) == Stack((Frame("f", "/a.py", 11),), FUNCTION_LOST)


@pytest.mark.parametrize("differs", [{"lineage": 2}, {"check": 6}])
def test_code_is_named_by_lineage_and_check_too(differs: dict[str, Any]) -> None:
    stacks = fed(code(100), stack(9, 100, **differs))
    assert stacks.get(9) == Stack((), FUNCTION_LOST)
    stacks.feed(code(100, "g", **differs))
    assert stacks.get(9) == Stack((Frame("g", "/a.py", 11),))


def test_equal_stacks_are_one_object() -> None:
    stacks = fed(code(100), code(100, lineage=2), stack(8, 100), stack(9, 100, lineage=2))
    assert stacks.get(8) is stacks.get(9) is not None
    assert stacks.get(0) is stacks.get(0)


@pytest.mark.parametrize(
    ("problem", "words"),
    [(StackProblem.CUT, CUT), (StackProblem.UNREADABLE, UNREADABLE), (StackProblem.LOST, LOST)],
)
def test_problems_have_words(problem: StackProblem, words: str) -> None:
    stacks = fed(code(100), stack(9, 100, problem=problem))
    assert stacks.get(9, problem) == Stack((Frame("f", "/a.py", 11),), words)
    assert stacks.get(0, problem) == Stack((), words)


def test_an_event_without_a_stack() -> None:
    stacks = fed()
    assert stacks.get(0, StackProblem.NO_THREAD) is None
    assert stacks.get(0, StackProblem.UNREGISTERED) is None
    empty = stacks.get(0)
    assert empty is not None
    assert empty.empty
    assert stacks.get(77) == Stack((), LOST)
    assert stacks.get(0, 99) == Stack((), "unknown problem 99")


def test_a_function_that_has_not_begun() -> None:
    assert fed(code(100), stack(9, 100, lasti=-1)).get(9) == Stack((Frame("f", "/a.py", 10),))


def test_an_instruction_without_a_line_is_no_problem() -> None:
    none = bytes([0x80 | 15 << 3 | 7])
    assert fed(code(100, table=none), stack(9, 100)).get(9) == Stack((Frame("f", "/a.py", None),))


def test_behind_a_cut_table_no_line_is_known() -> None:
    stacks = fed(code(100, table_length=20_000), stack(8, 100), stack(9, 100, lasti=40))
    assert stacks.get(8) == Stack((Frame("f", "/a.py", 11),))
    assert stacks.get(9) == Stack((Frame("f", "/a.py", None),), LINES_CUT)


@pytest.mark.parametrize(
    ("name", "kind"), [("naïve", 1), ("日本", 2), ("𠀀", 4), ("a\udc80", 2), ("\udc80𠀀", 4)]
)
def test_text_of_all_widths(name: str, kind: int) -> None:
    stacks = fed(code(100, name, f"/{name}.py", kinds=(kind, kind)), stack(9, 100))
    assert stacks.get(9) == Stack((Frame(name, f"/{name}.py", 11),))


@pytest.mark.parametrize(("kind", "fits"), [(1, 256), (2, 128), (4, 64)])
def test_a_cut_text_shows_it(kind: int, fits: int) -> None:
    whole = fed(code(100, "x" * fits, kinds=(kind, 1)), stack(9, 100)).get(9)
    cut = fed(code(100, "x" * (fits + 1), kinds=(kind, 1)), stack(9, 100)).get(9)
    assert whole is not None
    assert cut is not None
    assert whole.frames[0].function == "x" * fits
    assert cut.frames[0].function == "x" * fits + ELLIPSIS


def test_the_interpreters_own_frames_are_left_out() -> None:
    stacks = fed(
        code(1, "C.__init__"),
        code(2, "__init__", "__init__", minor=13),
        code(3, "<interpreter trampoline>", "<interpreter trampoline>", minor=12),
        code(4, "f", "f"),
        stack(9, 1, 2, 3, 4),
    )
    found = stacks.get(9)
    assert found is not None
    assert [each.function for each in found.frames] == ["C.__init__", "f"]


def test_qualified_names_are_asked_for_before_3_11() -> None:
    asked = []

    def qualified(lineage: int, file: str, first: int, name: str) -> Optional[str]:
        asked.append((lineage, file, first, name))
        return f"C.{name}" if name == "f" else None

    stacks = Stacks(qualified)
    lnotab = b""
    stacks.feed(code(100, minor=8, table=lnotab))
    stacks.feed(code(200, "g", minor=10, table=bytes([8, 0])))
    stacks.feed(code(300, "h", minor=11))
    stacks.feed(code(400, file="x" * 1025, minor=8, table=lnotab))
    stacks.feed(stack(9, 100, 200, 300))
    found = stacks.get(9)
    assert found is not None
    assert [each.function for each in found.frames] == ["C.f", "g", "h"]
    assert asked == [(1, "/a.py", 10, "f"), (1, "/a.py", 10, "g")]


def test_memory_is_bounded() -> None:
    stacks = Stacks(codes=10, stacks=5)
    for number in range(100):
        stacks.feed(code(number, f"f{number}"))
        stacks.feed(stack(number + 1, number))
    for number in range(95, 100):
        found = stacks.get(number + 1)
        assert found == Stack((Frame(f"f{number}", "/a.py", 11),))
    assert stacks.get(50) == Stack((), LOST)
    stacks.feed(stack(500, 85))
    assert stacks.get(500) == Stack((), FUNCTION_LOST)
    assert len(stacks._codes) <= 10
    assert len(stacks._stacks) <= 5


def test_equal_stacks_are_one_object_while_somebody_has_it() -> None:
    frames = (Frame("f", "/a.py", 1), Frame("g", "/a.py", 2))
    one = Stack(frames)
    assert Stack((Frame("f", "/a.py", 1), frames[1])) is one
    assert Stack(frames, LOST) is not one
    assert Stack(frames, LOST) != one
    gone = weakref.ref(one)
    del one
    assert gone() is None


def test_what_is_used_is_not_forgotten() -> None:
    stacks = Stacks(codes=10, stacks=5)
    stacks.feed(code(1000, "kept"))
    stacks.feed(stack(1, 1000))
    for number in range(100):
        stacks.feed(code(number))
        stacks.feed(stack(number + 2, number, 1000))
        assert stacks.get(1) == Stack((Frame("kept", "/a.py", 11),))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"", "0 bytes"),
        (b"\1\0\0", "3 bytes"),
        (struct.pack("<II", 3, 0), "kind 3"),
        (struct.pack("<II", 1, 0), "stack's record of 8"),
        (stack(9, 1, 2)[:-1], "2 frames in"),
        (struct.pack("<IIQII", 1, 65, 9, 1, 0) + bytes(65 * 24), "65 frames"),
        (struct.pack("<IIQII", 1, 0xFFFFFFFF, 9, 1, 0), "4294967295 frames"),
        (code(1)[:1000], "function's record of 1000"),
        (code(1)[:-1], "line table"),
        (code(1, table_length=1), "line table"),
        (code(1, kinds=(1, 1)).replace(struct.pack("<II", 1, 1), struct.pack("<II", 1, 3)), "of 3"),
        (code(1, "ab", kinds=(1, 1), minor=11)[:36] + b"\4" + code(1)[37:], "no text"),
    ],
)
def test_what_is_no_record_is_refused(record: bytes, reason: str) -> None:
    stacks = fed(code(100), stack(9, 100))
    with pytest.raises(RecordError, match=reason):
        stacks.feed(record)
    assert stacks.get(9) == Stack((Frame("f", "/a.py", 11),))
