# SPDX-License-Identifier: Apache-2.0
"""The temporary trace of a run: nobody else's files are touched, nothing stays behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.life_builders import MS, analysis, ended, life, rows
from zombiebpf.trace import TemporaryTrace, temporary
from zombiebpf.trace.temporary import NAME

META = analysis([]).meta
RUNNING = life(2, fork_ns=1)  # since before the first flush()


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary traces go. The directories above it are as pytest makes them."""
    place = tmp_path / "state"
    place.mkdir(mode=0o700)
    monkeypatch.setattr(temporary, "_ROOT_STATE", str(place))
    monkeypatch.setenv("XDG_STATE_HOME", str(place))
    return place


def environ(base: Path) -> Mapping[str, str]:
    return {"TMPDIR": str(base)}


def files(base: Path) -> list[str]:
    return sorted(str(each.relative_to(base)) for each in base.rglob("*"))


def pids(trace: TemporaryTrace) -> list[int]:
    with trace.open() as read:
        return [each.pid for each in read.analysis().lives]


def test_it_is_read_and_deleted(base: Path) -> None:
    said: list[str] = []
    with TemporaryTrace(META, said.append, environ(base)) as trace:
        (directory,) = base.iterdir()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / NAME).stat().st_mode) == 0o600
        trace.add(rows([ended(1), ended(2, MS)]), ())
        trace.flush()
        trace.add(rows([ended(3, 2 * MS)]), ())
        assert not trace.due  # nobody reads it meanwhile: many rows may wait
        trace.close(META)
        assert pids(trace) == [1, 2, 3]
        assert pids(trace) == [1, 2, 3]
    assert files(base) == []
    assert said == []


def test_a_report_in_the_middle(base: Path) -> None:
    with TemporaryTrace(META, environ=environ(base)) as trace:
        trace.add(rows([ended(1)]), ())
        trace.flush()
        trace.flush(rows([RUNNING]))
        with trace.open() as read:
            found = read.analysis()
        assert [(each.pid, each.state.value) for each in found.lives] == [
            (2, "running"), (1, "reaped"),
        ]  # fmt: skip
        trace.add(rows([ended(2)._replace(start_ns=RUNNING.start_ns)]), ())
        trace.close(META)
        assert pids(trace) == [1, 2]


def test_after_a_failure_it_is_deleted(base: Path) -> None:
    def fail() -> None:
        with TemporaryTrace(META, environ=environ(base)) as trace:
            trace.add(rows([ended(1)]), ())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert files(base) == []


def test_where_there_is_no_room_it_is_in_memory(base: Path) -> None:
    said: list[str] = []
    with TemporaryTrace(META, said.append, environ(base), least_free=1 << 62) as trace:
        assert files(base) == []
        trace.add(rows([ended(1)]), ())
        trace.flush(rows([RUNNING]))
        trace.add(rows([ended(3, 2 * MS)]), ())
        trace.close(META)
        assert pids(trace) == [2, 1, 3]
    (line,) = said
    assert line.startswith("no temporary trace: no room in ")
    assert line.endswith("; what follows is kept in memory, some 500 bytes a process")


def test_when_room_runs_out_it_goes_on_in_memory(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    third = life(3, fork_ns=2)
    with TemporaryTrace(META, said.append, environ(base)) as trace:
        trace.add(rows([ended(1)]), ())
        trace.flush()
        trace.flush(rows([RUNNING, third]))
        monkeypatch.setattr(temporary, "_free_bytes", lambda directory: 0)
        trace.add(rows([ended(4, 2 * MS)]), ())
        trace.flush()
        assert len(said) == 1
        trace.add(rows([ended(2)._replace(start_ns=RUNNING.start_ns), ended(5, 3 * MS)]), ())
        trace.flush()
        trace.add(rows([ended(6, 4 * MS), third]), ())
        trace.close(META)
        with trace.open() as read:
            found = read.analysis()
        assert [(each.pid, each.state.value) for each in found.lives] == [
            (3, "running"), (1, "reaped"), (2, "reaped"), (4, "reaped"), (5, "reaped"),
            (6, "reaped"),
        ]  # fmt: skip
        assert found.meta.cut is None
    assert files(base) == []
    assert len(said) == 1


KILLED = """
import os, signal, sys
from tests.unit.life_builders import analysis, ended, rows
from zombiebpf.trace import TemporaryTrace
trace = TemporaryTrace(analysis([]).meta, environ={"TMPDIR": sys.argv[1]})
trace.add(rows([ended(1)]), ())
trace.flush()
if sys.argv[2] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
print("ready", flush=True)
sys.stdin.read()
"""


def observer(base: Path, end: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(base), end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )


def test_the_next_start_deletes_what_a_killed_one_left_and_nothing_else(base: Path) -> None:
    with observer(base, "die") as dead:
        assert dead.wait() == -signal.SIGKILL
    left = {each.name for each in base.iterdir()}
    assert len(left) == 1
    assert len(files(base)) > 1
    somebodys = base / f"zombiebpf-{'0' * 16}"  # as one of ours, but others may enter it
    somebodys.mkdir(mode=0o755)
    (somebodys / NAME).write_text("mine")
    named = base / "zombiebpf-mine"
    named.mkdir(mode=0o700)
    target = base.parent / "target"
    target.mkdir(mode=0o700)
    (target / NAME).write_text("mine")
    (base / f"zombiebpf-{'1' * 16}").symlink_to(target)
    kept = base / f"zombiebpf-{'2' * 16}"
    kept.mkdir(mode=0o700)
    (kept / "other").write_text("mine")
    with observer(base, "live") as living:
        assert living.stdout is not None
        assert living.stdout.readline() == "ready\n"
        names = {each.name for each in base.iterdir()}
        assert not names & left
        with TemporaryTrace(META, environ=environ(base)) as trace:
            trace.add(rows([ended(7)]), ())
            trace.close(META)
            assert pids(trace) == [7]
        assert {each.name for each in base.iterdir()} == names  # also that of the living one
        assert living.stdin is not None
        living.stdin.close()
    assert (somebodys / NAME).read_text() == "mine"
    assert named.is_dir()
    assert (target / NAME).read_text() == "mine"
    assert (kept / "other").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_another_users_leavings_stay(base: Path) -> None:
    theirs = base / f"zombiebpf-{'3' * 16}"
    theirs.mkdir(mode=0o700)
    (theirs / NAME).write_text("theirs")
    os.chown(theirs, 65534, 65534)
    with TemporaryTrace(META, environ=environ(base)):
        pass
    assert (theirs / NAME).read_text() == "theirs"


def test_a_directory_in_which_others_can_replace_it_is_not_used(base: Path) -> None:
    """Anybody could put a link in the place of SQLite's side files."""
    shared = base.parent / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with TemporaryTrace(META, environ={"TMPDIR": str(shared)}):
        assert files(shared) == []
        assert files(base) != []
    shared.chmod(0o1777)
    with TemporaryTrace(META, environ={"TMPDIR": str(shared)}):
        assert files(shared) != []
    assert files(shared) == files(base) == []


def test_memory_does_not_grow_with_the_number_of_processes(base: Path) -> None:
    with TemporaryTrace(META, environ=environ(base)) as trace:

        def observe(first: int, count: int) -> int:
            for start in range(first, first + count, 1000):
                trace.add(rows([ended(start + n, start + n) for n in range(1000)]), ())
                if trace.due:
                    trace.flush()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            before = observe(0, 20_000)
            after = observe(20_000, 100_000)
        finally:
            tracemalloc.stop()
        assert after - before < 2 << 20
        trace.close(META)
        with trace.open() as read:
            assert read.count == 120_000
