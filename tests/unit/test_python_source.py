# SPDX-License-Identifier: Apache-2.0
"""Source files, as a process sees them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zombiebpf.python.source import MAX_BYTES, read_source


def test_the_declared_encoding_counts(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_bytes("# -*- coding: latin-1 -*-\r\nx = 'é'\r".encode("latin-1"))
    assert read_source(str(file)) == "# -*- coding: latin-1 -*-\nx = 'é'\n"
    file.write_bytes(b"\xef\xbb\xbfx = 1\n")
    assert read_source(str(file)) == "x = 1\n"


@pytest.mark.parametrize(
    "content", [b"x = '\xff'", b"# coding: no-such\n", b"# coding: hex\n", b"#" * (MAX_BYTES + 1)]
)
def test_what_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.py"
    file.write_bytes(content)
    assert read_source(str(file)) is None


def test_other_names_are_of_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("<string>", "a.py", "", "/\0", str(tmp_path), str(tmp_path / "fifo"), "/gone.py"):
        assert read_source(name) is None


def test_a_name_starts_at_the_root_of_the_process(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "a.py").write_text("first\n  second  \n\n")
    assert read_source("/app/a.py", str(tmp_path)) == "first\n  second  \n\n"
    assert read_source("/app/b.py", str(tmp_path)) is None
