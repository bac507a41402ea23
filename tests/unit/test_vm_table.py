# SPDX-License-Identifier: Apache-2.0
"""The matrix of kernels: its rows, its steps, and the table that a run writes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = "before\n{begin}\nold\n{end}\nafter\n"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("tests.vm.table")


def results(place: Path, code: int, not_reached: list[str]) -> None:
    place.mkdir()
    facts = {"kernel": "6.1.0", "machine": "x86_64", "bcc": "0.26.0", "python": "3.11.2"}
    steps = [{"name": "doctor", "code": 0}, {"name": "zoo", "code": code}]
    told = {"facts": facts, "steps": steps, "not_reached": not_reached}
    (place / "results.json").write_text(json.dumps(told))
    hooks = [{"fact": "reap", "chosen": "kmem_cache_free"}]
    (place / "doctor.json").write_text(json.dumps({"hooks": hooks}))
    (place / "zoo.xml").write_text(
        '<testsuites><testsuite tests="5" failures="1" errors="1" skipped="1"/></testsuites>'
    )


def test_only_what_is_between_the_marks_is_written(table: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "kernels.md"
    page.write_text(PAGE.format(begin=table.BEGIN, end=table.END))
    results(tmp_path / "bookworm", 1, ["oracle"])
    results(tmp_path / "trixie", 0, [])
    table.write(page, tmp_path)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    assert "| bookworm | 6.1.0 | x86_64 | 0.26.0 | 3.11.2 |" in lines
    assert "| bookworm | ok | FAILED (2 passed, 2 failed, 1 skipped) |" in lines
    assert "| trixie | ok | ok (2 passed, 2 failed, 1 skipped) |" in lines
    assert lines.count("| trixie | kmem_cache_free |") == 1


def test_how_functions_are_hooked_and_how_far_apart_the_instants_lie(
    table: ModuleType, tmp_path: Path
) -> None:
    page = tmp_path / "kernels.md"
    page.write_text(PAGE.format(begin=table.BEGIN, end=table.END))
    results(tmp_path / "bookworm", 0, [])
    results(tmp_path / "trixie", 0, [])
    hook = {"fact": "reap", "chosen": "release_task", "hook": "fentry release_task"}
    (tmp_path / "bookworm" / "doctor.json").write_text(json.dumps({"hooks": [hook]}))
    apart = {"reap": {"count": 9, "median": -1.23, "p99": 4.56, "max": 7.0}}
    sets = {"kprobe": {"different": 0, "by_one": 1, "apart_us": apart}}
    told = json.dumps({"lives": 404, "sets": sets})
    (tmp_path / "bookworm" / "hooks.json").write_text(told)
    table.write(page, tmp_path)
    lines = page.read_text().splitlines()
    assert "| bookworm | release_task (fentry) |" in lines
    assert "| trixie | kmem_cache_free |" in lines
    assert "| bookworm | kprobe | 404 | 0 | -1.2, 4.6, 7.0 | - | - | - |" in lines
    assert not any(line.startswith("| trixie | kprobe") for line in lines)


def test_a_page_without_marks_stays(table: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "kernels.md"
    page.write_text("mine\n")
    with pytest.raises(ValueError, match="no marks"):
        table.write(page, tmp_path)
    assert page.read_text() == "mine\n"


def test_the_page_of_the_documentation_has_marks(table: ModuleType) -> None:
    text = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
    assert text.index(table.BEGIN) < text.index(table.END)


def test_each_row_has_steps_with_names_of_their_own(table: ModuleType) -> None:
    rows = importlib.import_module("tests.vm.rows").ROWS
    steps = importlib.import_module("tests.vm.steps").steps
    assert {"bullseye", "bookworm", "trixie", "sid", "arm64"} == set(rows)
    for row in rows.values():
        names = [step.name for step in steps(row)]
        assert len(names) == len(set(names))
        assert any(step.in_ci for step in steps(row))
        for step in steps(row):
            named = [word for word in step.command.split() if word.startswith("tests/")]
            for word in named:
                assert (ROOT / word.partition("::")[0]).exists(), word
