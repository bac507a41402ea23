# SPDX-License-Identifier: Apache-2.0
"""A trace may hold anything: one line for what cannot be read, never a traceback or a hang."""

from __future__ import annotations

import random
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Callable, Optional

import pytest

from tests.unit.life_builders import S, crowd, life, rows
from tests.unit.random_analyses import Maker
from zombiebpf.cli.report import report
from zombiebpf.errors import UsageError
from zombiebpf.model.analysis import Analysis
from zombiebpf.reports import FORMATS
from zombiebpf.trace import TraceWriter
from zombiebpf.trace.schema import TABLES

LONGEST_S = 10.0  # of one report of a trace of some dozen lives

Mutation = Callable[[random.Random, Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A trace with something in each of its tables."""
    odd = Maker(3)
    lives = [*crowd().lives, *(odd.life(number) for number in range(90, 102))]
    meta = replace(crowd().meta, started_wall=1e9, lost_events=2, lost_by={"full": 2})
    analysis = Analysis(meta, lives, [odd.join() for _ in range(8)])
    path = tmp_path_factory.mktemp("trace") / "t.db"
    with TraceWriter(str(path), meta) as trace:
        trace.add(rows(analysis.lives), analysis.joins)
        trace.close(meta)
    db = sqlite3.connect(path)
    assert all(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES)
    db.close()
    return path.read_bytes()


def hang(number: int, frame: Optional[FrameType]) -> None:
    raise AssertionError("it hangs")


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, hang)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def outcome(path: Path, *options: str) -> str:
    """What `report` comes to: "read", or the one line of its refusal."""
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    target = path.parent / "report"
    try:
        report.main([str(path), "--report", str(target), *options], standalone_mode=False)
    except UsageError as refusal:
        error = refusal
    else:
        return "read"
    assert str(path) in error.what or error.what.startswith("no report can be made")
    assert str(error).isprintable()
    assert error.exit_code == 2
    return error.what.replace(str(path), "t.db")


# bytes


def flip(chance: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 5, 50])):
        data[chance.randrange(100, len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def flip_header(chance: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(100)] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def flip_page_heads(chance: random.Random, path: Path) -> None:
    """Where SQLite keeps what points to other places."""
    data = bytearray(path.read_bytes())
    for _ in range(3):
        data[chance.randrange(len(data) // 4096) * 4096 + chance.randrange(60)] = chance.randrange(
            256
        )
    path.write_bytes(data)


def truncate(chance: random.Random, path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def shuffle(chance: random.Random, path: Path) -> None:
    data = path.read_bytes()
    pages = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    one, two = chance.randrange(1, len(pages)), chance.randrange(1, len(pages))
    if chance.random() < 0.5:
        pages[one] = pages[two]
    else:
        pages[one], pages[two] = pages[two], pages[one]
    path.write_bytes(b"".join(pages))


def blank(chance: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes())
    start = chance.randrange(100, len(data))
    size = chance.randrange(1, 5000)
    data[start : start + size] = chance.choice([bytes(size), chance.randbytes(size)])
    path.write_bytes(data)


def garbage_beside(chance: random.Random, path: Path) -> None:
    side = chance.choice(["-wal", "-journal"])
    path.with_name(path.name + side).write_bytes(chance.randbytes(chance.randrange(9000)))


# values

HOSTILE = (
    None, -1, 0, 1, 7, 2**31, 2**62, 2**63 - 1, -(2**63), 1.5, float("inf"), -1e308, "", "x", "12",
    "\0", "[", "[[[[" * 5000, '["a", 1]', "{}", '"a"', "9" * 5000, b"", b"\xff\xfe\x00\x00\x00",
    b"\xff\xfe\x00\x00\xff\xff\xff\xff", b"9" * 39, b"-1", b"1" * 100, b"\x80", "a" * 100_000,
    "reaped", "\x1b[2J", "kernel", "thread",
)  # fmt: skip


def hurried(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA journal_mode = OFF")
    return db


def poison(chance: random.Random, path: Path) -> None:
    """A value of whatever type in a column."""
    db = hurried(path)
    for _ in range(chance.choice([1, 1, 1, 4])):
        table = chance.choice(list(TABLES))
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        column, value = chance.choice(columns), chance.choice(HOSTILE)
        rows = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        key = columns[0]
        among = "" if chance.random() < 0.3 else (
            f" WHERE {key} IN (SELECT {key} FROM {table} LIMIT 1 OFFSET {chance.randrange(rows)})"
        )  # fmt: skip
        try:
            db.execute(f"UPDATE OR REPLACE {table} SET {column} = ?{among}", (value,))
        except sqlite3.Error:
            continue  # what its key cannot be
    db.commit()
    db.close()


def lose_rows(chance: random.Random, path: Path) -> None:
    db = hurried(path)
    table = chance.choice(list(TABLES))
    db.execute(f"DELETE FROM {table}" + chance.choice(["", " WHERE random() > 0"]))
    db.commit()
    db.close()


def other_table(chance: random.Random, path: Path) -> None:
    """An endless view, or a table of other columns, where ours was."""
    db = hurried(path)
    table = chance.choice(list(TABLES))
    db.execute(f"DROP TABLE {table}")
    endless = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x FROM r) SELECT x AS id FROM r"
    db.execute(chance.choice([f"CREATE VIEW {table} AS {endless}", f"CREATE TABLE {table} (id)"]))
    db.commit()
    db.close()


MUTATIONS: tuple[tuple[Mutation, int], ...] = (
    (flip, 150), (flip_header, 100), (flip_page_heads, 150), (truncate, 75), (shuffle, 75),
    (blank, 100), (garbage_beside, 20), (poison, 300), (lose_rows, 20), (other_table, 10),
)  # fmt: skip


def test_there_are_a_thousand() -> None:
    assert sum(count for _, count in MUTATIONS) == 1000


@pytest.mark.parametrize(
    ("mutate", "count"), MUTATIONS, ids=[mutate.__name__ for mutate, _ in MUTATIONS]
)
def test_mutations(mutate: Mutation, count: int, whole: bytes, tmp_path: Path) -> None:
    formats = list(FORMATS)
    outcomes = set()
    for number in range(count):
        chance = random.Random(f"{mutate.__name__} {number}")
        path = tmp_path / "t.db"
        for each in tmp_path.iterdir():
            each.unlink()
        path.write_bytes(whole)
        mutate(chance, path)
        outcomes.add(outcome(path, "--format", formats[number % len(formats)]))
    if mutate is not garbage_beside:
        assert outcomes - {"read"}, "nothing was damaged"


# what is no trace


def test_refusals(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    newer = whole[:60] + (2).to_bytes(4, "big") + whole[64:]
    foreign = whole[:68] + b"\0\0\0\7" + whole[72:]
    for content, line in (
        (b"", "t.db: is empty"),
        (b"garbage" * 100, "t.db: is no trace of zombiebpf"),
        (foreign, "t.db: is no trace of zombiebpf"),
        (newer, "t.db: was written by a newer zombiebpf (trace schema 2, this one reads up to 1)"),
        (whole[:50], "t.db: ends within its first 100 bytes"),
        (whole[:4096], "t.db: database disk image is malformed"),
    ):
        path.write_bytes(content)
        assert outcome(path) == line
    path.write_bytes(whole)
    assert outcome(path) == "read"
    path.unlink()
    assert outcome(path) == "t.db: No such file or directory"
    path.mkdir()
    assert outcome(path) == "t.db: is a directory"


def test_a_stack_without_its_frames_is_told(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    path.write_bytes(whole)
    db = sqlite3.connect(path)
    db.execute("DELETE FROM frame")
    db.commit()
    db.close()
    assert outcome(path).startswith("t.db: frame ")


def test_a_clock_that_no_observation_has(tmp_path: Path) -> None:
    """`still zombie` counts to the end, which may be before the beginning."""
    path = tmp_path / "t.db"
    meta = replace(crowd().meta, ended_ns=0)
    with TraceWriter(str(path), meta) as trace:
        trace.add(rows([life(1, zombie_ns=5 * S, exit_ns=4 * S)]))
        trace.close(meta)
    assert outcome(path) == "read"
