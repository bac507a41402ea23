# SPDX-License-Identifier: Apache-2.0
"""Source text is read only from files that the reader of the report may read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import pytest

from zombiebpf.model.stack import Frame
from zombiebpf.reports.output import source_lines
from zombiebpf.reports.output.source_lines import read_source_line

STRANGER = "4242"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as root, called by the files' owner through sudo, with an empty cache."""
    source_lines._lines.cache_clear()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", str(os.getuid()))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "app.py"
    file.write_text("import os\n\n    p.start()  # é\n", encoding="utf-8")
    return file


def line(file: object, number: Optional[int] = 3) -> object:
    return read_source_line(Frame("main", str(file), number))


def test_a_line_is_told_without_its_indent(source: Path) -> None:
    assert line(source) == "p.start()  # é"
    assert line(source, 1) == "import os"


@pytest.mark.parametrize("number", [None, 0, -1, 2, 4, 10**9])
def test_no_such_line_no_text(source: Path, number: Optional[int]) -> None:
    assert line(source, number) is None


@pytest.mark.parametrize(
    "name", ["", "<string>", "<frozen posixpath>", "app.py", "/nowhere/app.py", "/etc/shadow",
             "/proc/self/mem", "/\0.py", "/" + "x" * 5000 + ".py", "/\udcff.py"]
)  # fmt: skip
def test_what_is_no_source_file_is_left_alone(name: str) -> None:
    assert line(name, 1) is None


def test_a_secret_of_roots_stays_one(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.chmod(0o600)
    assert line(source) is not None  # its owner called sudo
    source_lines._lines.cache_clear()
    monkeypatch.setenv("SUDO_UID", STRANGER)
    assert line(source) is None


def test_nor_is_a_closed_directory_entered(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.chmod(0o644)
    source.parent.chmod(0o700)
    monkeypatch.setenv("SUDO_UID", STRANGER)
    assert line(source) is None


def test_a_link_is_judged_by_what_it_leads_to(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password\n")
    secret.chmod(0o600)
    link = tmp_path / "innocent.py"
    link.symlink_to(secret)
    monkeypatch.setenv("SUDO_UID", STRANGER)
    assert line(link, 1) is None


def test_who_is_not_root_reads_what_he_can(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("SUDO_UID")
    assert line(source) == "p.start()  # é"


def test_a_fifo_a_directory_and_a_giant_are_refused(tmp_path: Path) -> None:
    fifo, directory, giant = (tmp_path / name for name in ("a.py", "b.py", "c.py"))
    os.mkfifo(fifo)
    directory.mkdir()
    with open(giant, "wb") as file:
        file.truncate(source_lines.MOST_BYTES + 1)
    for each in (fifo, directory, giant):
        assert line(each, 1) is None


def test_bytes_that_are_no_utf8_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "latin.py"
    file.write_bytes(b"# caf\xe9 " + b"x" * 1000)
    text = line(file, 1)
    assert isinstance(text, str)
    assert text.startswith("# caf\ufffd x")
    assert len(text) == source_lines.LONGEST
