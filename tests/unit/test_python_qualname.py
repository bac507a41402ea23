# SPDX-License-Identifier: Apache-2.0
"""Qualified names from sources, hand-made ones; test_python_linetable.py has the real ones."""

from __future__ import annotations

from typing import Optional

import pytest

from zombiebpf.python.qualname import MAX_CHARACTERS, Qualnames, names_in

SOURCE = """\
def plain(a=lambda: 0):
    return [x for x in (y for y in a)]
class C(object):
    @property
    @staticmethod
    def decorated(self):
        class Inner:
            async def method(self): return {k: (lambda: k) for k in ()}
        global made
        def made():
            def within(): pass
        if made:
            def other(): pass
    class D:
        def f(self): pass
        def g(self): pass; h = lambda: 1
def two(): return (lambda: 1), [lambda: 2 for _ in ()]
"""
EXPECTED = {
    (1, "plain"): "plain",
    (1, "<lambda>"): "<lambda>",
    (2, "<listcomp>"): "plain.<locals>.<listcomp>",
    (2, "<genexpr>"): "plain.<locals>.<genexpr>",
    (3, "C"): "C",
    (4, "decorated"): "C.decorated",
    (7, "Inner"): "C.decorated.<locals>.Inner",
    (8, "method"): "C.decorated.<locals>.Inner.method",
    (8, "<dictcomp>"): "C.decorated.<locals>.Inner.method.<locals>.<dictcomp>",
    (8, "<lambda>"): "C.decorated.<locals>.Inner.method.<locals>.<dictcomp>.<lambda>",
    (10, "made"): "made",
    (11, "within"): "made.<locals>.within",
    (13, "other"): "C.decorated.<locals>.other",
    (14, "D"): "C.D",
    (15, "f"): "C.D.f",
    (16, "g"): "C.D.g",
    (16, "<lambda>"): "C.D.g.<locals>.<lambda>",
    (17, "two"): "two",
    (17, "<lambda>"): None,  # two, and nothing tells which
    (17, "<listcomp>"): "two.<locals>.<listcomp>",
}


def test_names_are_those_of_the_compiler() -> None:
    assert names_in(SOURCE) == EXPECTED


def test_a_source_is_read_and_parsed_once() -> None:
    asked = []

    def reader(lineage: int, file: str) -> Optional[str]:
        asked.append((lineage, file))
        return SOURCE if file == "/a.py" else None

    names = Qualnames(reader)
    assert names.of(1, "/a.py", 15, "f") == "C.D.f"
    assert names.of(1, "/a.py", 15, "g") is None
    assert names.of(1, "/a.py", 17, "<lambda>") is None
    assert names.of(2, "/a.py", 15, "f") == "C.D.f"
    assert names.of(1, "/gone.py", 15, "f") is None
    assert names.of(1, "/gone.py", 16, "f") is None
    assert names.of(1, "<string>", 1, "f") is None
    assert names.of(1, "/gone.py", 1, "<module>") == "<module>"
    assert asked == [(1, "/a.py"), (2, "/a.py"), (1, "/gone.py")]


@pytest.mark.parametrize(
    "source",
    [
        "def f(:",
        "\0",
        "def f(): pass\n" + "a" + ".b" * 200_000,
        "def f(): pass\n" + "a" + "()" * 200_000,
        "def f(): pass\n" + "1" + "+1" * 200_000,
        "def f(): pass\n" + "a" + "[(0,)]" * 100_000,
        "def f(): pass\n" + "(" * 100 + ")" * 100,
        "def f(): pass\n" + "-" * 200_000 + "1",
        "def f(): pass\n" + "not " * 100_000 + "1",
    ],
    ids=["syntax", "nul", "attributes", "calls", "sums", "items", "brackets", "signs", "nots"],
)
def test_what_the_parser_cannot_take_tells_nothing(source: str) -> None:
    """Some of these crash Python 3.9 and 3.10 if they are parsed."""
    assert names_in(source) == {}


def test_long_tables_are_no_chains() -> None:
    numbers = ", ".join(["(1, 2.5)"] * 20_000)
    words = ", ".join(["'a.b.c' + 'd'"] * 5_000)
    long_text = '"""' + "a.b+c()" * 10_000 + '"""'
    source = f"X = [{numbers}]\nY = {{{words}}}\nZ = {long_text}\ndef f(): pass  # {'.' * 9000}\n"
    assert names_in(source) == {(4, "f"): "f"}


def test_a_file_too_long_is_left_alone() -> None:
    names = Qualnames(lambda lineage, file: "def f(): pass\n" + "#" * MAX_CHARACTERS)
    assert names.of(1, "/a.py", 1, "f") is None


def test_warnings_of_others_sources_are_not_ours() -> None:
    assert names_in("def f(): return '\\d' is 1\n") == {(1, "f"): "f"}
