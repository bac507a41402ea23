# SPDX-License-Identifier: Apache-2.0
"""A trace in parts: by size or age, each whole by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.unit.life_builders import MS, analysis, ended, life, rows, zombie
from zombiebpf.trace import Rotation, TraceWriter, open_traces, read_trace

META = analysis([]).meta


def pids(path: Path) -> list[int]:
    return [each.pid for each in read_trace(str(path)).lives]


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def test_parts_by_size(tmp_path: Path) -> None:
    path = tmp_path / "night.db"
    everlasting = life(5, fork_ns=1)
    rotate = Rotation(size_bytes=150_000, age_ns=None)
    with TraceWriter(str(path), META, rotate=rotate) as trace:
        trace.flush(rows([everlasting]))
        for batch in range(40):
            trace.add(rows([ended(batch * 100 + each, batch * MS) for each in range(100, 200)]), ())
            trace.flush()
        trace.add(rows([everlasting, zombie(6)]))
        trace.close(META)
    parts = names(tmp_path)
    assert parts[0] == "night.0001.db"
    assert parts[-1] == "night.db"
    assert len(parts) > 3
    assert set(pids(path)) >= {5, 6}
    for part in parts[:-1]:
        assert not {5, 6} & set(pids(tmp_path / part))
        assert (tmp_path / part).stat().st_size < 300_000
        cut = read_trace(str(tmp_path / part)).meta.cut
        assert cut is not None
        assert "was not given" in cut
    with open_traces([str(tmp_path / part) for part in reversed(parts)]) as whole:
        assert whole.count == 4002
        assert whole.meta == replace(META, command=tuple(META.command))
        with whole.observation() as observation:
            streamed = [each.pid for each in observation.lives_by_end()]
        ended_pids = [each + batch * 100 for batch in range(40) for each in range(100, 200)]
        assert streamed == [*ended_pids, 5, 6]
    with open_traces([str(tmp_path / part) for part in parts if part != "night.0002.db"]) as some:
        assert some.meta.cut == "part 2 of it was not given"


def test_parts_by_age(tmp_path: Path) -> None:
    path = tmp_path / "night"
    with TraceWriter(str(path), META, rotate=Rotation(None, age_ns=1)) as trace:
        for number in range(1, 4):
            trace.add(rows([ended(number, number)]))
            trace.flush()
        trace.close(META)
    assert names(tmp_path) == ["night", "night.0001", "night.0002", "night.0003"]
    assert [pids(tmp_path / part) for part in names(tmp_path)] == [[], [1], [2], [3]]


def test_earlier_parts_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "night.db"
    rotate = Rotation(None, age_ns=1)
    with TraceWriter(str(path), META, rotate=rotate) as trace:
        trace.flush()
        (tmp_path / "night.0002.db").write_text("somebody's")  # made in the meantime
        trace.add(rows([ended(1)]))
        trace.flush()
        trace.close(META)
    assert (tmp_path / "night.0002.db").read_text() == "somebody's"
    assert pids(tmp_path / "night.0003.db") == [1]
