# SPDX-License-Identifier: Apache-2.0
"""The destination of a report: complete or missing, and never lost."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Optional, TextIO

import pytest

from zombiebpf import reports
from zombiebpf.errors import UsageError, ZombiebpfError
from zombiebpf.model.analysis import Analysis, Meta
from zombiebpf.model.observation import Observation
from zombiebpf.reports.output import destination
from zombiebpf.reports.output.destination import Output
from zombiebpf.trace import observe

_META = Meta("0", "6.1.0", {"fork": "a hook"}, {"fork": "exact"}, 1_000, 2_000, ["true"])
_OPEN = ExitStack()  # while the tests run
NOTHING = _OPEN.enter_context(observe(Analysis(_META, [])))


@pytest.fixture
def stderr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextIO]:
    path = tmp_path_factory.mktemp("stderr") / "stderr"
    with path.open("w+", encoding="utf-8") as stream:
        yield stream


def content(stream: TextIO) -> str:
    stream.seek(0)
    return stream.read()


def test_stream(stderr: TextIO) -> None:
    Output(None, stderr).write(NOTHING, "text")
    assert content(stderr).startswith("zombiebpf 0: true\n")
    assert not stderr.closed


def test_new_file_obeys_the_umask(tmp_path: Path, stderr: TextIO) -> None:
    before = os.umask(0o027)
    try:
        Output(str(tmp_path / "report"), stderr).write(NOTHING, "json")
    finally:
        os.umask(before)
    assert json.loads((tmp_path / "report").read_text())["schema"] == "zombiebpf/1"
    assert (tmp_path / "report").stat().st_mode & 0o777 == 0o640
    assert content(stderr) == ""


def test_file_is_replaced_when_the_new_one_is_whole(
    tmp_path: Path, stderr: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report"
    report.write_text("old")
    report.chmod(0o604)
    seen = []

    def write(observation: Observation, file: TextIO, options: object) -> None:
        file.write("new")
        file.flush()
        seen.append(report.read_text())

    monkeypatch.setattr(destination, "FORMATS", {**reports.FORMATS, "text": write})
    Output(str(report), stderr).write(NOTHING, "text")
    assert (seen, report.read_text()) == (["old"], "new")
    assert report.stat().st_mode & 0o777 == 0o604
    assert list(tmp_path.iterdir()) == [report]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyError("x")])
def test_half_a_file_is_never_left(
    failure: Exception, tmp_path: Path, stderr: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report"
    report.write_text("old")
    written: list[bool] = []

    def write(observation: Observation, file: TextIO, options: object) -> None:
        file.write("half")
        if not written:
            written.append(True)
            file.flush()
            raise failure

    monkeypatch.setattr(destination, "FORMATS", {**reports.FORMATS, "text": write})
    with pytest.raises((ZombiebpfError, KeyError)) as caught:
        Output(str(report), stderr).write(NOTHING, "text")
    assert report.read_text() == "old"
    assert list(tmp_path.iterdir()) == [report]
    if isinstance(failure, OSError):
        assert str(caught.value) == (
            f"{report}: No space left on device; the report stands above instead"
        )
        assert content(stderr) == "half"


def test_device_without_room(stderr: TextIO) -> None:
    with pytest.raises(ZombiebpfError, match="/dev/full: No space left on device; the report"):
        Output("/dev/full", stderr).write(NOTHING, "text")
    assert content(stderr).startswith("zombiebpf 0: true\n")


@pytest.mark.parametrize("path", [None, "/dev/full"])
def test_no_room_on_stderr_either(path: Optional[str]) -> None:
    with open("/dev/full", "w") as full, pytest.raises(ZombiebpfError, match="there is no report"):
        Output(path, full).write(NOTHING, "text")


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_descriptor_is_held_and_shares_its_position(
    name: str, tmp_path: Path, stderr: TextIO
) -> None:
    out = tmp_path / "out"
    with out.open("w") as file:
        file.write("before\n")
        file.flush()
        chosen = Output(name.format(file.fileno()), stderr)
    chosen.write(NOTHING, "text")
    assert out.read_text().startswith("before\nzombiebpf 0: true\n")


def test_nobody_reads(stderr: TextIO) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe, pytest.raises(BrokenPipeError):
        Output(f"/dev/fd/{pipe.fileno()}", stderr).write(NOTHING, "text")


def test_fifo_is_written_in_place(tmp_path: Path, stderr: TextIO) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    Output(str(fifo), stderr).write(NOTHING, "text")
    assert os.read(reading, 65536).startswith(b"zombiebpf 0: true\n")
    os.close(reading)
    assert fifo.is_fifo()


def test_a_file_that_cannot_be_replaced_is_written(
    tmp_path: Path, stderr: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report"
    report.write_text("old" * 10_000)

    def busy(source: Any, target: Any) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(os, "replace", busy)
    Output(str(report), stderr).write(NOTHING, "json")
    assert json.loads(report.read_text())["schema"] == "zombiebpf/1"
    assert list(tmp_path.iterdir()) == [report]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{}", "Is a directory"),
        ("{}/none/report", "No such file or directory"),
        ("{}/file/report", "Not a directory"),
        ("/dev/fd/987", "Bad file descriptor"),
        ("", "Is a directory"),
    ],
)
def test_refused_at_once(path: str, words: str, tmp_path: Path, stderr: TextIO) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=words):
        Output(path.format(tmp_path), stderr)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_trying_leaves_no_trace(tmp_path: Path) -> None:
    Output(str(tmp_path / "report"), io.StringIO())
    assert list(tmp_path.iterdir()) == []
