# SPDX-License-Identifier: Apache-2.0
"""The trace's file: made new by us; nothing that is there is followed or lost."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.unit.life_builders import analysis, ended, rows
from zombiebpf.errors import UsageError
from zombiebpf.trace import Rotation, TraceWriter, read_trace

META = analysis([]).meta


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        TraceWriter(str(path), META, **options)
    return str(caught.value).replace(str(path.parent), "")


def make(path: Path, **options: Any) -> None:
    with TraceWriter(str(path), META, **options) as trace:
        trace.add(rows([ended(1)]))
        trace.close(META)


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    with TraceWriter(str(tmp_path / "t.db"), META) as trace:
        trace.add(rows([ended(1)]))
        trace.flush()
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
        trace.close(META)
    assert modes == {"t.db": 0o600, "t.db-wal": 0o600, "t.db-shm": 0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_under_sudo_it_is_the_callers(tmp_path: Path) -> None:
    sudo = {"SUDO_UID": "4321", "SUDO_GID": "4322"}
    with TraceWriter(str(tmp_path / "t.db"), META, environ=sudo) as trace:
        trace.add(rows([ended(1)]))
        trace.flush()
        owners = {(each.stat().st_uid, each.stat().st_gid) for each in tmp_path.iterdir()}
        assert len(list(tmp_path.iterdir())) == 3
        trace.close(META)
    assert owners == {(4321, 4322)}


def test_a_trace_is_not_overwritten_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    make(path)
    assert refusal(path) == "/t.db: is there already (--force replaces it)"
    with TraceWriter(str(path), META, force=True) as trace:
        trace.close(META)
    assert read_trace(str(path)).lives == []


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_trace_stays(tmp_path: Path, force: bool) -> None:
    path = tmp_path / "t.db"
    for content in (b"", b"mine", b"SQLite format 3\0" + bytes(200)):
        path.write_bytes(content)
        assert refusal(path, force=force) == (
            "/t.db: is there, and no trace of zombiebpf (choose another file for -o)"
        )
        assert path.read_bytes() == content
    path.unlink()
    path.mkdir()
    assert refusal(path, force=force) == "/t.db: is a directory (choose a file in it for -o)"
    path.rmdir()
    os.mkfifo(path)
    assert refusal(path, force=force).startswith("/t.db: is no regular file")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_a_planted_link_is_not_followed(tmp_path: Path, force: bool, there: bool) -> None:
    path, target = tmp_path / "t.db", tmp_path / "target"
    if there:
        make(target)
    path.symlink_to(target)
    assert refusal(path, force=force).startswith("/t.db: is a symbolic link")
    assert path.is_symlink()
    assert target.exists() == there


@pytest.mark.parametrize("side", ["-wal", "-shm", "-journal"])
def test_planted_side_files(tmp_path: Path, side: str) -> None:
    path, target = tmp_path / "t.db", tmp_path / "target"
    (tmp_path / f"t.db{side}").symlink_to(target)
    assert refusal(path) == (
        f"/t.db{side} is there without its /t.db (remove it or choose another name)"
    )
    assert not target.exists()
    assert not path.exists()


def test_replaced_while_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our making the file and SQLite's opening it by its name."""
    path, target = tmp_path / "t.db", tmp_path / "target"
    target.write_bytes(b"")
    connect: Any = sqlite3.connect

    def replacing(*arguments: object, **options: object) -> object:
        path.unlink()
        path.symlink_to(target)
        return connect(*arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", replacing)
    with pytest.raises(Exception, match="was replaced while it was made"):
        TraceWriter(str(path), META)
    assert target.read_bytes() == b""


def test_another_observer_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with TraceWriter(str(path), META) as trace:
        assert refusal(path, force=True).startswith("/t.db: is being written")
        trace.add(rows([ended(1)]))
        trace.close(META)
    assert len(read_trace(str(path)).lives) == 1


def test_old_parts_are_asked_about_too(tmp_path: Path) -> None:
    make(tmp_path / "t.0003.db")
    rotate = Rotation(None, 1)
    with pytest.raises(UsageError, match=r"t\.0003\.db: is there already"):
        TraceWriter(str(tmp_path / "t.db"), META, rotate=rotate)
    with TraceWriter(str(tmp_path / "t.db"), META, rotate=rotate, force=True) as trace:
        trace.close(META)
    assert [each.name for each in tmp_path.iterdir()] == ["t.db"]


def test_where_nothing_can_be_made(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no" / "t.db") == (
        "/t.db: its directory is not there (make it first)"
    )
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file" / "t.db").startswith("/t.db: cannot be written: Not a dir")
    assert "File name too long" in refusal(tmp_path / ("x" * 300))
    with pytest.raises(UsageError, match="null byte"):
        TraceWriter("a\0b", META)


@pytest.mark.parametrize("name", ["a b.db", "ü?#%.db", "file:x", "\udcff.db", ":memory:", "-x"])
def test_odd_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path(name))
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert len(read_trace(name).lives) == 1
