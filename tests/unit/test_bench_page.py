# SPDX-License-Identifier: Apache-2.0
"""docs/performance.md and its plot, from a bench's results."""

from __future__ import annotations

import re
import xml.etree.ElementTree
from typing import Any

import pytest

from bench import page
from tests.unit import bench_results

SVG = "{http://www.w3.org/2000/svg}"


def written(document: Any) -> str:
    return page.files(document)["performance.md"]


def test_the_page_has_every_table_and_names_what_failed() -> None:
    document = bench_results.document()
    document["parts"]["tools"]["tools"]["forkstat"] = {
        "name": "forkstat", "sees": "the machine", "version": "", "error": "no proc connector",
    }  # fmt: skip
    text = written(document)
    assert "Not measured in this run" not in text
    assert "- Not measured: forkstat: no proc connector\n" in text
    assert "| `zombiebpf run` | 1.2 | yes | wrong | no | 2.0 | 2.0 | 0.10 | 1 |" in text
    assert "| `perf trace true` | no perf here | - |" in text
    assert "| smaller ones together | 0.1 |" in text
    assert "| SQLite | 2.0 | 9.0 |\n| all | **2.0** | **9.0** |" in text
    assert "| `zb_fork` | 1.50 (1.0 x 1500 ns) |" in text


def test_tables_are_tables_of_markdown() -> None:
    lines = written(bench_results.document()).splitlines()
    for before, line, after in zip(lines, lines[1:], lines[2:]):
        if re.fullmatch(r"[| -]+", line) and "---" in line:
            assert before.count(" | ") == line.count(" | ") == after.count(" | ")
    cells = page.markdown(page.Table(("a", "b"), [("x|y", "1\n2")]))
    assert cells == "| a | b |\n| --- | --- |\n| x\\|y | 1 2 |"


@pytest.mark.parametrize("part", sorted(bench_results.document()["parts"]))
def test_a_part_that_was_not_measured_is_named(part: str) -> None:
    document = bench_results.document()
    del document["parts"][part]
    document["errors"][part] = "it broke"
    text = written(document)
    assert f"- Not measured: the part `{part}`: it broke\n" in text
    if part not in ("storm",):  # one column of a table
        assert "Not measured in this run." in text


def test_a_terminal_gets_what_was_measured() -> None:
    document = bench_results.document()
    text = page.terminal(document)
    assert text.splitlines()[0].split() == ["budget", "target", "measured", "verdict"]
    assert "agent" not in text
    assert "`" not in text


def test_the_plot_is_an_image_with_a_bar_a_tool_and_panel() -> None:
    document = bench_results.document()
    document["parts"]["tools"]["tools"]["perf-record"]["name"] = "perf <record>"
    plot = page.files(document)["performance.svg"]
    root = xml.etree.ElementTree.fromstring(plot)
    assert root.tag == f"{SVG}svg"
    bars = [each for each in root.iter(f"{SVG}rect") if each.get("class") in ("own", "other")]
    assert len(bars) == 2 * 5
    assert "perf &lt;record&gt;" in plot


def test_bars_are_as_long_as_their_values() -> None:
    panel = page.logarithmic("cost", [("a", "zombiebpf-a", 1.0), ("b", "b", 100.0)])
    assert [bar.share for bar in panel.bars] == [pytest.approx(1 / 3), 1.0]
    assert [bar.own for bar in panel.bars] == [True, False]
    assert [text for _, text in panel.ticks] == ["0.1", "1", "10", "100"]
    assert page.logarithmic("cost", [("none", "x", 0.0)]).bars[0].share == 0.0
    panel = page.linear("slow", [("a", "a", 1.0), ("b", "b", 2.4)])
    assert [bar.share for bar in panel.bars] == [pytest.approx(0.4), pytest.approx(0.96)]
    assert panel.ticks[-1] == (1.0, "2.5")
