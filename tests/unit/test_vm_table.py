# SPDX-License-Identifier: Apache-2.0
"""The matrix of kernels: its rows, its steps, and the table that a run writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.vm import results, table
from tests.vm.rows import ROWS
from tests.vm.steps import steps

ROOT = Path(__file__).resolve().parents[2]
Outcome = dict[str, Any]
PAGE = "before\n{begin}\nold\n{end}\nafter\n"


FACTS = {"kernel": "6.1.0", "machine": "x86_64", "bcc": "0.26.0", "python": "3.11.2"}
DOCTOR: dict[str, Any] = {"name": "doctor", "code": 0, "hooks": {"reap": "kmem_cache_free"}}


def outcome(name: str, code: Optional[int], commit: str = "aaaaaaa", **more: object) -> Outcome:
    return {"name": name, "code": code, "commit": commit, **more}


def test_only_what_is_between_the_marks_is_written(tmp_path: Path) -> None:
    page = tmp_path / "kernels.md"
    page.write_text(PAGE.format(begin=table.BEGIN, end=table.END))
    (tmp_path / "bookworm").mkdir()
    steps = [outcome(**DOCTOR), outcome("zoo", 1, counts="2 passed, 1 failed")]
    results.add(tmp_path / "bookworm", FACTS, [*steps, outcome("oracle", None)])
    (tmp_path / "trixie").mkdir()
    results.add(tmp_path / "trixie", FACTS, [outcome(**DOCTOR), outcome("attach", 124)])
    table.write(page, tmp_path)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    assert "| bookworm | 6.1.0 | x86_64 | 0.26.0 | 3.11.2 | aaaaaaa |" in lines
    assert "| bookworm | ok | FAILED (2 passed, 1 failed) | not tried | not reached |" in lines
    assert "| trixie | ok | not tried | time limit | not tried |" in lines
    assert lines.count("| trixie | kmem_cache_free |") == 1


def test_a_row_that_was_not_run_here_stays_in_the_page(tmp_path: Path) -> None:
    page = tmp_path / "kernels.md"
    page.write_text(PAGE.format(begin=table.BEGIN, end=table.END))
    for place, row in ((tmp_path / "there", "bookworm"), (tmp_path / "here", "sid")):
        (place / row).mkdir(parents=True)
        results.add(place / row, FACTS, [outcome(**DOCTOR)])
    table.write(page, tmp_path / "there")
    before = page.read_text().splitlines()
    table.write(page, tmp_path / "here")
    after = page.read_text().splitlines()
    assert set(before) < set(after)
    assert sum(line.startswith("| sid |") for line in after) == 3


def test_a_run_of_some_steps_leaves_the_others(tmp_path: Path) -> None:
    results.add(tmp_path, FACTS, [outcome("doctor", 0), outcome("zoo", 1)])
    results.add(tmp_path, FACTS, [outcome("zoo", 0, "bbbbbbb")])
    known = results.read(tmp_path)["steps"]
    assert (known["doctor"]["code"], known["doctor"]["commit"]) == (0, "aaaaaaa")
    assert (known["zoo"]["code"], known["zoo"]["commit"]) == (0, "bbbbbbb")


def test_what_another_kernel_gave_is_forgotten(tmp_path: Path) -> None:
    results.add(tmp_path, FACTS, [outcome("doctor", 0)])
    results.add(tmp_path, {**FACTS, "kernel": "6.1.1"}, [outcome("zoo", 0)])
    assert list(results.read(tmp_path)["steps"]) == ["zoo"]


def test_an_older_outcome_names_its_commit(tmp_path: Path) -> None:
    page = tmp_path / "kernels.md"
    page.write_text(PAGE.format(begin=table.BEGIN, end=table.END))
    (tmp_path / "sid").mkdir()
    new = [outcome("doctor", 0, "bbbbbbb"), outcome("zoo", 0, "bbbbbbb")]
    results.add(tmp_path / "sid", FACTS, [*new, outcome("attach", 0)])
    table.write(page, tmp_path)
    lines = page.read_text().splitlines()
    assert "| sid | 6.1.0 | x86_64 | 0.26.0 | 3.11.2 | bbbbbbb |" in lines
    assert "| sid | ok | ok | ok [aaaaaaa] |" in lines


def test_what_a_step_left_is_told_in_short(tmp_path: Path) -> None:
    (tmp_path / "zoo.xml").write_text(
        '<testsuites><testsuite tests="5" failures="1" errors="1" skipped="1"/></testsuites>'
    )
    (tmp_path / "scenarios.json").write_text('{"runs": [{"verdict": "held"}, {"verdict": "x"}]}')
    (tmp_path / "doctor.json").write_text('{"hooks": [{"fact": "reap", "chosen": "release_task"}]}')
    assert results.detail(tmp_path, "zoo") == {"counts": "2 passed, 2 failed, 1 skipped"}
    assert results.detail(tmp_path, "scenarios") == {"counts": "1 of 2 runs held"}
    assert results.detail(tmp_path, "doctor") == {"hooks": {"reap": "release_task"}}
    results.forget_detail(tmp_path, "zoo")
    assert results.detail(tmp_path, "zoo") == {}


GIT = """#!/bin/sh
[ "$1 $3 $4" = "-c -C {root}" ] || exit 128
shift 4
case $* in
"rev-parse --short=7 HEAD") echo 1234567 ;;
"status --porcelain -- a b") cat "{root}/changed" ;;
*) exit 129 ;;
esac
"""


def test_what_was_changed_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    (tmp_path / "bin").mkdir()
    git, changed = tmp_path / "bin" / "git", tmp_path / "changed"
    git.write_text(GIT.format(root=tmp_path))
    git.chmod(0o755)
    changed.write_text("")
    assert results.commit(tmp_path, ["a", "b"]) == "1234567"
    changed.write_text(" M a\n")
    assert results.commit(tmp_path, ["a", "b"]) == "1234567+"
    assert results.commit(tmp_path / "other", ["a", "b"]) == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert results.commit(tmp_path, ["a", "b"]) == "unknown"


def test_how_functions_are_hooked_and_how_far_apart_the_instants_lie(tmp_path: Path) -> None:
    page = tmp_path / "kernels.md"
    page.write_text(PAGE.format(begin=table.BEGIN, end=table.END))
    row = tmp_path / "bookworm"
    row.mkdir()
    hook = {"fact": "reap", "chosen": "release_task", "hook": "fentry release_task"}
    (row / "doctor.json").write_text(json.dumps({"hooks": [hook]}))
    apart = {"reap": {"count": 9, "median": -1.23, "p99": 4.56, "max": 7.0}}
    sets = {"kprobe": {"different": 0, "by_one": 1, "apart_us": apart}}
    (row / "hooks.json").write_text(json.dumps({"lives": 404, "sets": sets}))
    done = [{**outcome(name, 0), **results.detail(row, name)} for name in ("doctor", "hooks")]
    results.add(row, FACTS, done)
    for _ in range(2):  # what stands there is read again
        table.write(page, tmp_path)
    lines = page.read_text().splitlines()
    assert lines.count("| bookworm | release_task (fentry) |") == 1
    assert lines.count("| row | lives | kprobe: verdicts that differ | kprobe: reap |") == 1
    assert lines.count("| bookworm | 404 | 0 | -1.2, 4.6, 7.0 |") == 1


def test_a_page_without_marks_stays(tmp_path: Path) -> None:
    page = tmp_path / "kernels.md"
    page.write_text("mine\n")
    with pytest.raises(ValueError, match="no marks"):
        table.write(page, tmp_path)
    assert page.read_text() == "mine\n"


def test_the_page_of_the_documentation_has_marks() -> None:
    text = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
    assert text.index(table.BEGIN) < text.index(table.END)


def test_each_row_has_steps_with_names_of_their_own() -> None:
    assert {"bullseye", "bookworm", "trixie", "sid", "arm64"} == set(ROWS)
    for row in ROWS.values():
        names = [step.name for step in steps(row)]
        assert len(names) == len(set(names))
        assert any(step.in_ci for step in steps(row))
        for step in steps(row):
            named = [word for word in step.command.split() if word.startswith("tests/")]
            for word in named:
                assert (ROOT / word.partition("::")[0]).exists(), word


def test_a_step_that_a_row_does_not_have_is_not_one_that_was_not_tried(tmp_path: Path) -> None:
    page = tmp_path / "kernels.md"
    page.write_text(PAGE.format(begin=table.BEGIN, end=table.END))
    for row in ("trixie", "sid"):
        (tmp_path / row).mkdir()
        results.add(tmp_path / row, FACTS, [outcome("zoo", 0), outcome("zoo-tracepoints", 1)])
    results.add(tmp_path / "trixie", FACTS, [outcome("oracle", 0)])
    for _ in range(2):
        table.write(page, tmp_path)
    lines = page.read_text().splitlines()
    assert "| trixie | ok | FAILED | ok |" in lines
    assert "| sid | ok | - | not tried |" in lines
