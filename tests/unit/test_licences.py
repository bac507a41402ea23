# SPDX-License-Identifier: Apache-2.0
"""Each source file names its licence: GPL-2.0-only in probes/, Apache-2.0 elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parents[2]
SOURCE_DIRECTORIES = ("bench", "docs", "probes", "scenarios", "tests", "tools", "zombiebpf", ".ci")
SOURCE_SUFFIXES = {".bt", ".c", ".css", ".h", ".j2", ".js", ".py", ".sh", ".toml", ".yaml", ".yml"}
SOURCE_NAMES = {"Makefile", "Vagrantfile", ".clang-format", ".editorconfig", "run"}


def source_files() -> list[Path]:
    """Every file of ours that can carry a comment."""
    files = [path for path in ROOT.iterdir() if path.is_file()]
    for directory in SOURCE_DIRECTORIES:
        files += (path for path in (ROOT / directory).rglob("*") if path.is_file())
    files = [path for path in files if path.parent.name != "vendor"]  # others', with their licence
    return [path for path in files if path.suffix in SOURCE_SUFFIXES or path.name in SOURCE_NAMES]


def licence_of(path: Path) -> Optional[str]:
    """What the SPDX line among the first three names, if there is one."""
    for line in path.read_text(encoding="utf-8").splitlines()[:3]:
        _, tag, licence = line.partition("SPDX-License-Identifier: ")
        if tag:
            return licence.replace("*/", "").replace("#}", "").strip()
    return None


def test_each_source_file_names_its_licence() -> None:
    files = source_files()
    assert ROOT / "pyproject.toml" in files
    assert Path(__file__).resolve() in files
    wrong = {}
    for path in files:
        relative = path.relative_to(ROOT)
        expected = "GPL-2.0-only" if relative.parts[0] == "probes" else "Apache-2.0"
        if licence_of(path) != expected:
            wrong[str(relative)] = licence_of(path)
    assert not wrong


def test_the_licence_texts_are_there() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in ROOT.glob("LICENSES/*.txt")}
    assert sorted(texts) == ["Apache-2.0.txt", "GPL-2.0-only.txt"]
    assert "Version 2.0, January 2004" in texts["Apache-2.0.txt"]
    assert "Version 2, June 1991" in texts["GPL-2.0-only.txt"]
