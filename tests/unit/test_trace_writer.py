# SPDX-License-Identifier: Apache-2.0
"""A trace while it is written: cut at any moment, without room, read by others, in parts."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sized
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.life_builders import BEGAN, S, analysis, ended, life, rows
from zombiebpf.errors import UsageError
from zombiebpf.model.join import Join
from zombiebpf.model.life import Life
from zombiebpf.trace import Rotation, TraceWriter, open_traces, read_trace
from zombiebpf.trace.writer import _execute_locking, _LockedError

META = analysis([]).meta


def pids(path: Path) -> list[int]:
    return [each.pid for each in read_trace(str(path)).lives]


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


# a cut

WRITES_ON = """
    import sys
    sys.path[:0] = {path!r}
    from tests.unit.life_builders import analysis, ended, life, rows
    from zombiebpf.trace import TraceWriter
    trace = TraceWriter({file!r}, analysis([]).meta)
    batch = 0
    while True:
        batch += 1
        trace.add(rows([ended(batch * 100 + each, batch) for each in range(100)]), ())
        if batch == 1:
            trace.flush(rows([life(5, fork_ns=1)]))
        else:
            trace.flush()
        print(batch, flush=True)
"""


def test_killed_while_it_writes(tmp_path: Path) -> None:
    """What was flushed is there, whenever the end comes."""
    for moment in range(1, 11):
        file = tmp_path / f"{moment}.db"
        script = textwrap.dedent(WRITES_ON.format(path=sys.path, file=str(file)))
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(moment):
                flushed = int(writer.stdout.readline())
            writer.kill()
            flushed = max([flushed, *map(int, writer.stdout.read().split())])
        assert writer.returncode == -signal.SIGKILL
        read = read_trace(str(file))
        assert read.meta.cut == "the observer ended without closing it"
        found = [each.pid for each in read.lives if each.pid != 5]
        assert len(found) % 100 == 0
        assert flushed * 100 <= len(found) <= (flushed + 1) * 100
        assert [each.state.value for each in read.lives if each.pid == 5] == ["running"]


def test_without_close_it_is_cut(tmp_path: Path) -> None:
    with TraceWriter(str(tmp_path / "t.db"), META) as trace:
        trace.add(rows([ended(1)]))
    read = read_trace(str(tmp_path / "t.db"))
    assert [each.pid for each in read.lives] == [1]
    assert read.meta.cut == "the observer ended without closing it"
    assert names(tmp_path) == ["t.db"]


def test_a_cut_told_by_the_observer_is_kept(tmp_path: Path) -> None:
    with TraceWriter(str(tmp_path / "t.db"), META) as trace:
        trace.close(replace(META, cut="reading failed"))
    assert read_trace(str(tmp_path / "t.db")).meta.cut == "reading failed"


# what lives on


def test_a_life_that_goes_on_is_told_as_of_the_last_batch(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    changing = life(7, fork_ns=1)
    with TraceWriter(str(path), META) as trace:
        trace.flush(rows([changing]))
        assert [(each.pid, each.state.value) for each in read_trace(str(path)).lives] == [
            (7, "running")
        ]
        before = changes(path)
        trace.flush()
        assert changes(path) == before  # nothing of it is written again
        changing = changing._replace(zombie_ns=BEGAN + S, exit_ns=BEGAN + S)
        trace.flush(rows([changing]))
        assert [(each.pid, each.state.value) for each in read_trace(str(path)).lives] == [
            (7, "zombie")
        ]
        changing = changing._replace(reap_ns=BEGAN + 2 * S)
        trace.add(rows([changing]))
        trace.flush([])
        assert read_trace(str(path)).lives == [changing]
        assert read_trace(str(path)).meta.cut == "it is still being written"
        trace.close(META)
    assert read_trace(str(path)).lives == [changing]


def changes(path: Path) -> int:
    db = sqlite3.connect(path)
    found = int(db.execute("SELECT max(id) FROM life").fetchone()[0])
    db.close()
    return found


def test_it_is_due_by_its_rows(tmp_path: Path) -> None:
    with TraceWriter(str(tmp_path / "t.db"), META) as trace:
        trace.add(rows(ended(number) for number in range(1, 10_001)))
        assert trace.due
        trace.flush()
        assert len(pids(tmp_path / "t.db")) == 10_000
        trace.close(META)
        assert not trace.due
        trace.add(rows([ended(1)]))  # after its end it takes nothing, and says nothing
        trace.flush()
        trace.close(META)


def test_joins_looked_for_and_none_found(tmp_path: Path) -> None:
    for joins in (None, ()):
        path = tmp_path / f"{joins}.db"
        with TraceWriter(str(path), META) as trace:
            trace.add([], joins)
            trace.close(META)
        assert read_trace(str(path)).joins == (None if joins is None else [])


# no room


@pytest.fixture
def little_room() -> Iterator[int]:
    """No file of this process can grow beyond it."""
    limit = 400_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_without_room_the_observation_goes_on(tmp_path: Path, little_room: int) -> None:
    path = tmp_path / "t.db"
    said: list[str] = []
    written = 0
    with TraceWriter(str(path), META, warn=said.append) as trace:
        for batch in range(100):
            trace.add(rows([ended(batch * 100 + each, batch) for each in range(1, 101)]))
            trace.flush()
            written += 100 * (trace.problem is None)
        assert trace.problem is not None
        trace.add(rows([ended(1)]))
        trace.close(META)
    assert said == [trace.problem]
    assert said[0].startswith(f"{path}: ")
    assert said[0].endswith("; the trace ends here, the observation goes on")
    read = read_trace(str(path))
    assert 0 < len(read.lives) == written < 10_000
    assert read.meta.cut is not None
    assert path.stat().st_size <= little_room


def test_no_room_to_begin(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import resource, sys
        sys.path[:0] = {sys.path!r}
        from tests.unit.life_builders import analysis
        from zombiebpf.trace import TraceWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            TraceWriter({str(tmp_path / "t.db")!r}, analysis([]).meta)
        except Exception as error:
            print(type(error).__name__, error)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith(f"UsageError {tmp_path}/t.db: cannot be written: ")
    assert names(tmp_path) == []


# others beside us


def test_somebody_else_has_locked_it(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    said: list[str] = []
    with TraceWriter(str(path), META, warn=said.append) as trace:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        trace.add(rows([ended(1)]))
        trace.flush()
        assert pids(path) == []
        other.execute("ROLLBACK")
        trace.add(rows([ended(2, 1)]))
        trace.flush()
        assert pids(path) == [1, 2]
        other.close()
        trace.close(META)
    assert (said, trace.problem) == ([], None)
    assert pids(path) == [1, 2]


def test_a_lock_is_told_from_other_errors(tmp_path: Path) -> None:
    """By the code of the error, or before Python 3.11 by whether the transaction is open."""
    path = tmp_path / "t.db"
    one, other = (sqlite3.connect(path, timeout=0, isolation_level=None) for _ in range(2))
    one.execute("CREATE TABLE t (x)")
    one.execute("INSERT INTO t VALUES (1), (2)")
    _execute_locking(one, "BEGIN IMMEDIATE")
    with pytest.raises(_LockedError):
        _execute_locking(other, "BEGIN IMMEDIATE")
    one.execute("INSERT INTO t VALUES (3)")
    reader = other.execute("SELECT x FROM t")
    assert reader.fetchone() == (1,)  # a shared lock, which a COMMIT without WAL has to wait for
    with pytest.raises(_LockedError):
        _execute_locking(one, "COMMIT")
    reader.close()
    _execute_locking(one, "COMMIT")
    with pytest.raises(sqlite3.OperationalError, match="no transaction is active"):
        _execute_locking(one, "COMMIT")
    one.close()
    other.close()


def test_a_reader_at_the_end_is_no_failure(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with TraceWriter(str(path), META) as trace:
        trace.add(rows([ended(1)]))
        trace.flush()
        with open_traces([str(path)]) as reader:
            trace.add(rows([ended(2, 1)]))
            trace.close(META)
            assert [each.pid for each in reader.analysis().lives] == [1]  # one state of it
    assert trace.problem is None
    assert pids(path) == [1, 2]
    assert read_trace(str(path)).meta.cut is None


def test_reading_our_own_trace_keeps_its_locks(tmp_path: Path) -> None:
    """Else another program that reads it takes itself for the last, and removes the WAL file."""
    path = tmp_path / "t.db"
    look = (
        "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone())"
    )
    with TraceWriter(str(path), META) as trace:
        trace.add(rows([ended(1)]))
        trace.flush()
        assert pids(path) == [1]
        script = [sys.executable, "-c", look, str(path), "SELECT count(*) FROM life"]
        assert subprocess.run(script, capture_output=True, text=True).stdout == "1\n"
        assert (tmp_path / "t.db-wal").exists()
        trace.add(rows([ended(2, 1)]))
        trace.flush()
        assert subprocess.run(script, capture_output=True, text=True).stdout == "2\n"
        trace.close(META)


def test_another_process_writes_it(tmp_path: Path) -> None:
    file = tmp_path / "t.db"
    script = textwrap.dedent(WRITES_ON.format(path=sys.path, file=str(file)))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert read_trace(str(file)).meta.cut == "it is still being written"
        with pytest.raises(UsageError, match="another observer is writing it"):
            TraceWriter(str(file), META, force=True)
        writer.kill()


# many lives


def test_memory_is_of_those_alive(tmp_path: Path) -> None:
    """What is remembered to store it once is limited, too."""
    with TraceWriter(str(tmp_path / "t.db"), META) as trace:
        for start in range(0, 60_000, 5_000):
            lives = [
                ended(number, argv=("job", str(number))) for number in range(start, start + 5_000)
            ]
            trace.add(rows(lives))
            trace.flush()
            buffer = trace._rows
            assert len(buffer) == 0
            kept: list[Sized] = [
                buffer._argvs, buffer._strings, buffer._stacks, buffer._frames
            ]  # fmt: skip
            assert max(map(len, kept)) <= 20_000
            assert not trace._provisional
        trace.close(META)


def test_joins_and_lives_of_two_observers_of_one_boot(tmp_path: Path) -> None:
    join = Join(1, 1, 7, None, BEGAN, BEGAN + S, "reaped")
    for number, lives in enumerate(([ended(7), life(8)], [ended(8), ended(9, 1)])):
        with TraceWriter(str(tmp_path / f"{number}.db"), META) as trace:
            trace.add(rows(lives), [join] if number == 0 else None)
            trace.close(replace(META, started_ns=BEGAN + number, lost_by={"x": 2}, lost_events=2))
    with open_traces([str(tmp_path / "1.db"), str(tmp_path / "0.db")]) as both:
        merged = both.analysis()
    assert [(each.pid, each.state.value) for each in merged.lives] == [
        (7, "reaped"), (8, "reaped"), (9, "reaped"),
    ]  # fmt: skip
    assert merged.joins == [join]
    assert (merged.meta.lost_events, merged.meta.lost_by) == (4, {"x": 4})
    assert merged.meta.started_ns == BEGAN


def all_of(path: Path) -> list[Life]:
    return list(read_trace(str(path)).lives)


def test_nothing_is_left_open(tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with TraceWriter(str(tmp_path / "t.db"), META, rotate=Rotation(None, 1)) as trace:
        trace.add(rows([ended(1)]))
        trace.flush()
        trace.close(META)
    all_of(tmp_path / "t.db")
    assert sorted(os.listdir("/proc/self/fd")) == before
