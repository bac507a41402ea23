# SPDX-License-Identifier: Apache-2.0
"""What is written to a trace is read from it: the same values, none less."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path

import pytest

from tests.unit.life_builders import crowd, ended, rows
from tests.unit.random_analyses import TEXTS, Maker
from zombiebpf.errors import UsageError
from zombiebpf.model.analysis import Analysis, Meta
from zombiebpf.model.join import Join
from zombiebpf.model.life import Activity, Life, ReapCall, Reparenting
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.trace import TraceWriter, open_traces, read_trace
from zombiebpf.trace.encode import bytes_text, text_bytes
from zombiebpf.trace.schema import COLUMNS, TABLES


def written(path: Path, analysis: Analysis) -> Path:
    with TraceWriter(str(path), analysis.meta) as trace:
        trace.add(rows(analysis.lives), analysis.joins)
        trace.close(analysis.meta)
        assert trace.problem is None
    return path


@pytest.mark.parametrize("seed", range(100))
def test_random_analyses(seed: int, tmp_path: Path) -> None:
    analysis = Maker(seed).analysis()
    read = read_trace(str(written(tmp_path / "t.db", analysis)))
    assert read.meta == analysis.meta
    assert read.lives == analysis.lives
    assert read.joins == analysis.joins
    assert [each.name for each in tmp_path.iterdir()] == ["t.db"]  # one file, no side files


def test_every_field_is_thought_of() -> None:
    """A new field has to go into the trace, and into this list."""
    fields = set(Life._fields)
    assert len(fields) == 26
    direct = fields & set(COLUMNS["life"])
    assert fields - direct == {"forker", "parent", "reaper", "execs", "reparents", "meanwhile",
                               "unseen"}  # fmt: skip
    assert len(dataclasses.fields(Meta)) == 14
    assert len(Join._fields) == 13
    assert len(Activity._fields) == 6
    assert len(ReapCall._fields) == 7
    assert len(Reparenting._fields) == 6
    assert len(Frame._fields) == 3
    assert set(Stack.__slots__) == {"frames", "problem", "__weakref__"}


def test_the_columns_are_those_of_the_table(tmp_path: Path) -> None:
    path = written(tmp_path / "t.db", crowd())
    with sqlite3.connect(path) as db:
        for table, columns in COLUMNS.items():
            info = db.execute(f"PRAGMA table_info({table})")
            assert tuple(row[1] for row in info) == columns
        found = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    db.close()
    assert found == set(TABLES)


def test_integers_beyond_64_bits(tmp_path: Path) -> None:
    odd = ended(7, pidns=None)
    assert odd.forker is not None
    odd = odd._replace(start_ns=2**64 - 1, forker=odd.forker._replace(comm="\udcff"))
    analysis = Analysis(crowd().meta, [odd])
    assert read_trace(str(written(tmp_path / "t.db", analysis))).lives == [odd]


def test_a_late_zombie_instant_after_the_reap(tmp_path: Path) -> None:
    """It is an upper bound: that of the zombie's last context switch, say."""
    late = ended(7, zombie_exact=False)
    assert late.reap_ns is not None
    late = late._replace(zombie_ns=late.reap_ns + 500)
    analysis = Analysis(crowd().meta, [late])
    assert read_trace(str(written(tmp_path / "t.db", analysis))).lives == [late]
    exact = Analysis(crowd().meta, [late._replace(zombie_exact=True)])
    with pytest.raises(UsageError, match="PID 7 was reaped before it died"):
        read_trace(str(written(tmp_path / "exact.db", exact)))


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_texts(text: str) -> None:
    assert bytes_text(text_bytes(text)) == text


def test_stacks_are_stored_once_and_read_as_one(tmp_path: Path) -> None:
    def stack(line: int) -> Stack:
        inner = Frame("Popen.__init__", "/usr/lib/python3.11/subprocess.py", 1026)
        return Stack((inner, Frame("main", "/srv/app.py", line)))

    lives = [
        ended(number, number * 1000, fork_stack=stack(number % 2), fork_site=stack(1).frames[1])
        for number in range(1, 11)
    ]
    path = written(tmp_path / "t.db", Analysis(crowd().meta, lives))
    read = read_trace(str(path)).lives
    assert read == lives
    assert read[0].fork_stack is read[2].fork_stack
    db = sqlite3.connect(path)
    counts = [db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES]
    db.close()
    assert dict(zip(TABLES, counts))["stack"] == 2
    assert dict(zip(TABLES, counts))["frame"] == 3
    assert dict(zip(TABLES, counts))["text"] == 2  # one argv, one cgroup


def test_views(tmp_path: Path) -> None:
    site = Frame("main", "/srv/app.py", 42)
    analysis = crowd()
    lives = [life._replace(fork_site=site) for life in analysis.lives[:5]]
    meta = dataclasses.replace(analysis.meta, started_wall=1_777_600_000.25)
    path = written(
        tmp_path / "t.db",
        dataclasses.replace(analysis, meta=meta, lives=[*lives, *analysis.lives[5:]]),
    )
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    sites = [tuple(row) for row in db.execute("SELECT site, function, forks FROM fork_sites")]
    assert sites == [(None, None, 15), ("/srv/app.py:42", "main", 5)]
    life = db.execute("SELECT * FROM lives WHERE pid = 41232").fetchone()
    assert (life["state"], life["signal"], life["exit_status"]) == ("reaped", 9, None)
    assert life["forked_at"] == "2026-05-01T01:46:40.252Z"
    assert (life["zombie_ms"], life["argv"]) == (1.24, '["python3", "app.py"]')
    zombies = [row["pid"] for row in db.execute("SELECT pid FROM zombies")]
    assert zombies == [41235, 41237]
    figures = {row["what"]: dict(row) for row in db.execute("SELECT * FROM latencies")}
    assert figures["reap latency"]["count"] == 17
    assert figures["reap latency"]["p50_ms"] == 0.131
    for view in ("joins", "stacks"):
        assert db.execute(f"SELECT * FROM {view}").fetchall() == []
    db.close()


def test_lives_stream_in_the_order_of_their_reaps(tmp_path: Path) -> None:
    analysis = crowd()
    shuffled = dataclasses.replace(analysis, lives=list(reversed(analysis.lives)))
    with open_traces([str(written(tmp_path / "t.db", shuffled))]) as trace:
        with trace.observation() as observation:
            streamed = [life.pid for life in observation.lives_by_end()]
        assert trace.count == len(analysis.lives)
    reaped = sorted(
        (life for life in analysis.lives if life.reap_ns is not None),
        key=lambda life: life.reap_ns or 0,
    )
    assert streamed == [*(life.pid for life in reaped), 41235, 41237, 41242]
