# SPDX-License-Identifier: Apache-2.0
"""Lines of instructions: hand-made tables, and each installed Python's own word."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.unit.installed_pythons import Installed, readable
from zombiebpf.python.linetable import line_of, spans
from zombiebpf.python.qualname import names_in

DUMP = Path(__file__).parent / "data" / "python_codes.py"
FILES = [
    *("subprocess.py", "argparse.py", "typing.py", "_pydecimal.py", "multiprocessing/pool.py"),
    *("multiprocessing/process.py", "multiprocessing/util.py", "concurrent/futures/process.py"),
    *("asyncio/unix_events.py", "dataclasses.py", "inspect.py"),
]
IDS = [each.label for each in readable()]


@cache
def said_by(python: Installed) -> tuple[dict[str, Any], ...]:
    """What the interpreter says of the code objects of its own standard library."""
    files = [f"{python.stdlib}/{each}" for each in FILES]
    done = subprocess.run(
        [python.program, "-I", str(DUMP), *files], capture_output=True, text=True, check=True
    )
    return tuple(json.loads(line) for line in done.stdout.splitlines())


def lines(minor: int, first: int, table: bytes, units: int) -> Iterator[Optional[int]]:
    """The line at each second byte."""
    at = 0
    for start, end, line in spans(minor, first, table):
        assert start == 2 * at
        while 2 * at < min(end, 2 * units):
            yield line
            at += 1
    assert at == units, "the table ends before the bytecode"


@pytest.mark.parametrize("python", readable(), ids=IDS)
def test_each_line_is_the_interpreters(python: Installed) -> None:
    said = said_by(python)
    minor = python.version[1]
    assert len(said) > 800
    assert sum(len(code["lines"]) for code in said) > 30_000
    for code in said:
        table = bytes.fromhex(code["table"])
        got = list(lines(minor, code["first"], table, len(code["lines"])))
        assert got == code["lines"], f"{code['file']}: {code['qualname']}"


@pytest.mark.parametrize("python", readable(), ids=IDS)
def test_line_of_is_of_the_same_mind(python: Installed) -> None:
    minor = python.version[1]
    looked_at = 0
    for code in said_by(python)[::50]:
        table = bytes.fromhex(code["table"])
        for unit, line in enumerate(code["lines"]):
            assert line_of(minor, code["first"], table, 2 * unit) == line
            looked_at += 1
        assert line_of(minor, code["first"], table, -1) == code["first"]
    assert looked_at > 500


# Later ones have type parameters, and comprehensions that are no code objects.
PARSED = [each for each in readable() if each.version < (3, 12)]


@pytest.mark.parametrize("python", PARSED, ids=[each.label for each in PARSED])
def test_each_qualified_name_is_the_interpreters(python: Installed) -> None:
    """From the source, as 3.11 and later have it in co_qualname."""
    names: dict[str, Any] = {}
    known = 0
    for code in said_by(python):
        if code["name"] == "<module>":
            continue
        file = code["file"]
        if file not in names:
            names[file] = names_in(Path(file).read_text(encoding="utf-8"))
        # None: two on one line. Not there: within an f-string of several lines, Pythons
        # differ about the line.
        found = names[file].get((code["first"], code["name"]))
        assert found in (code["qualname"], None), f"{file}:{code['first']}"
        known += found is not None
    assert known > 0.99 * (len(said_by(python)) - len(FILES))


def test_lnotab_goes_back_and_far() -> None:
    """Negative deltas from 3.6 on; a step of 0 adds to what was before it."""
    table = bytes([4, 1, 6, 0xFE, 0, 127, 2, 127, 255, 0, 2, 1])
    expected = {0: 10, 3: 10, 4: 11, 9: 11, 10: 136, 11: 136, 12: 263, 268: 263, 269: 264, 900: 264}
    assert {at: line_of(9, 10, table, at) for at in expected} == expected


def test_lnotab_without_its_end() -> None:
    table = bytes([4, 1, 6, 1])
    assert line_of(8, 10, table, 8, cut=True) == 11
    assert line_of(8, 10, table, 10, cut=True) is None
    assert line_of(8, 10, b"", 0, cut=True) is None
    assert line_of(8, 10, b"", 0) == 10


def test_pep_626_has_instructions_without_a_line() -> None:
    table = bytes([4, 0, 2, 0x80, 4, 2, 0, 100, 2, 0xFF])
    expected = {0: 10, 2: 10, 4: None, 6: 12, 8: 12, 10: 111, 12: None}
    assert {at: line_of(10, 10, table, at) for at in expected} == expected


def test_location_table_has_all_kinds() -> None:
    entries = [
        [0x80 | 0 << 3 | 1, 0x11],  # short: two units on the first line
        [0x80 | 11 << 3 | 0, 3, 4],  # one unit, one line on
        [0x80 | 15 << 3 | 0],  # no location
        [0x80 | 13 << 3 | 0, 0x05],  # -2
        [0x80 | 14 << 3 | 7, 0x40 | 0x08, 0x03, 1, 2, 3],  # eight units, +100
        [0x80 | 12 << 3 | 0, 0, 0],
    ]
    table = b"".join(map(bytes, entries))
    expected = {0: 50, 2: 50, 4: 51, 6: None, 8: 49, 10: 149, 24: 149, 26: 151, 28: None}
    assert {at: line_of(13, 50, table, at) for at in expected} == expected


@pytest.mark.parametrize("table", [b"\x00", b"\x7f\x7f", b"\xe8", b"\xe8\x7f\x7f", b"\xf0\xff"])
def test_a_damaged_location_table_tells_nothing(table: bytes) -> None:
    assert line_of(12, 1, table, 0) is None


@pytest.mark.parametrize("minor", [7, 10, 11])
def test_a_function_that_has_not_begun_is_on_its_first_line(minor: int) -> None:
    assert line_of(minor, 7, b"", -1) == 7
