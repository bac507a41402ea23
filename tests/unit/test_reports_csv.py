# SPDX-License-Identifier: Apache-2.0
"""The CSV report: a row a process, numbers as numbers, no cell that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.hostile_analysis import HOSTILE, hostile
from tests.unit.life_builders import (
    BEGAN,
    MS,
    analysis,
    app,
    crowd,
    ended,
    found_dead,
    life,
    rendered,
)
from zombiebpf.reports.csv import COLUMNS, FORMULA, text_cell

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reports.md"


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_row_a_life_by_column() -> None:
    found = rows(rendered(crowd(), format_="csv"))
    assert [int(each["pid"]) for each in found] == [each.pid for each in crowd().lives]
    by_pid = {each["pid"]: each for each in found}
    killed = by_pid["41232"]
    assert (killed["signal"], killed["exit_status"]) == ("9", "")
    assert killed["zombie_interval_ns"] == str(1_284_000 - 44_000)
    adopted = by_pid["41235"]
    assert (adopted["adopter_comm"], adopted["adopter_kind"]) == ("containerd-shim", "subreaper")
    assert (adopted["state"], adopted["reap_offset_ns"]) == ("zombie", "")
    assert by_pid["41238"]["reaped_by"] == "kernel"
    assert by_pid["41239"]["unseen"] == "zombie_ns: no hook saw it: exit_signal 0"


def test_unknown_is_empty_never_zero() -> None:
    unknown = life(7, fork_ns=None, forker=None, comm=None, argv=None, cgroup=None, pidns=None)
    (row,) = rows(rendered(analysis([unknown]), format_="csv"))
    filled = {name: cell for name, cell in row.items() if cell != ""}
    assert filled == {"pid": "7", "start_ns": str(BEGAN + 7), "argv_cut": "0", "exec_count": "0",
                    "state": "running", "orphaned": "0", "was_zombie": "0"}  # fmt: skip


def test_negative_numbers_stay_numbers() -> None:
    early = life(7, -5 * MS)
    (row,) = rows(rendered(analysis([early]), format_="csv"))
    assert row["fork_offset_ns"] == "-5000000"


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_is_a_formula_or_breaks_the_line(text: str) -> None:
    cell = text_cell(text)
    assert not cell.lstrip().startswith(FORMULA)
    assert cell.isprintable()


def test_hostile_texts_come_back_whole() -> None:
    text = rendered(hostile(), format_="csv")
    text.encode("utf-8")
    found = rows(text)
    assert len(found) == len(hostile().lives) > len(HOSTILE)
    assert len(text.splitlines()) == len(found) + 1  # no line within a cell
    for row in found:
        assert set(row) == set(COLUMNS)
        for name, cell in row.items():
            number = name.endswith(("_ns", "pid", "tid", "_line", "_options", "_inum"))
            assert number or not cell.startswith(FORMULA), name


def test_instants_count_from_the_start() -> None:
    (row,) = rows(rendered(analysis([app()]), format_="csv"))
    assert row["fork_offset_ns"] == "0"
    later = analysis([app()], started_ns=BEGAN - 1)
    assert rows(rendered(later, format_="csv"))[0]["fork_offset_ns"] == "1"


def test_each_column_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name in COLUMNS if f"`{name}`" not in text] == []


def test_truths_are_numbers() -> None:
    late = ended(7, reap_exact=False)
    (row,) = rows(rendered(replace(analysis([late])), format_="csv"))
    assert (row["reap_exact"], row["zombie_exact"], row["core_dumped"]) == ("0", "1", "0")


def test_who_is_its_parent_where_the_forker_is_not_known() -> None:
    (row,) = rows(rendered(analysis([found_dead(7)]), format_="csv"))
    assert (row["forker_pid"], row["parent_pid"], row["parent_comm"]) == ("", "41230", "python3")
    assert (row["state"], row["was_zombie"]) == ("zombie", "1")
    assert (row["zombie_offset_ns"], row["zombie_interval_ns"]) == ("", "")
