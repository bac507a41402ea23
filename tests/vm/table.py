# SPDX-License-Identifier: Apache-2.0
"""docs/kernels.md: what the last run of each row gave, between two marks in the page.

Rows that were not run here stay as they stand there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.vm import results
from tests.vm.rows import ROWS
from tests.vm.steps import steps

BEGIN = "<!-- written by `make test-vm VM_ARGS=--table` from here -->"
END = "<!-- to here -->"
FACTS = {"kernel": "kernel", "machine": "machine", "bcc": "bcc", "Python": "python"}
COMMIT = "commit"
NOT_TRIED = "not tried"
_EMPTY = ("", "-", NOT_TRIED)
_UNKNOWN = {COMMIT: "?"}  # in tables written before they had it
Cells = dict[str, str]  # by the column's title
Table = dict[str, Cells]  # by the row's name


def write(page: Path, place: Path) -> None:
    """Replace what stands between the marks. ValueError if the page has none."""
    text = page.read_text("utf-8")
    before, found, rest = text.partition(BEGIN)
    old, found_end, after = rest.partition(END)
    if not found or not found_end:
        raise ValueError(f"{page} has no marks")
    tables = _read(old)
    for name in ROWS:
        known = results.read(place / name)
        if known["steps"]:
            for table, cells in zip(tables, _cells(name, known)):
                if cells:
                    table[name] = cells
    body = "\n\n".join("\n".join(_lines(table)) for table in tables if table)
    page.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", "utf-8")


def _read(text: str) -> list[Table]:
    """The tables that stand there: machines, steps, hooks, their agreement."""
    tables: list[Table] = []
    for block in text.strip().split("\n\n"):
        lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        tables.append(
            {row[0]: dict(zip(lines[0][1:], row[1:])) for row in lines[2:] if row[0] in ROWS}
        )
    return [*tables, {}, {}, {}, {}][:4]


def _cells(row: str, known: Mapping[str, Any]) -> tuple[Cells, Cells, Cells, Cells]:
    """Of one row, a line in each table."""
    done: Mapping[str, Mapping[str, Any]] = known["steps"]
    commits = Counter(step["commit"] for step in done.values())
    latest = commits.most_common(1)[0][0]
    machine = {title: known["facts"].get(key, "?") for title, key in FACTS.items()}
    titles = {step.name: step.title for step in steps(ROWS[row])}
    verdicts = {
        titles[name]: _verdict(step) + f" [{step['commit']}]" * (step["commit"] != latest)
        for name, step in done.items()
        if name in titles
    }
    hooks = done.get("doctor", {}).get("hooks", {})
    agreement = done.get("hooks", {}).get("agreement", {})
    return {**machine, COMMIT: latest}, verdicts, dict(hooks), dict(agreement)


def _verdict(step: Mapping[str, Any]) -> str:
    verdict = {0: "ok", 124: "time limit", None: "not reached"}.get(step["code"], "FAILED")
    return f"{verdict} ({step['counts']})" if step.get("counts") else verdict


def _lines(table: Table) -> Iterator[str]:
    titles = _titles(list(table.values()))
    yield f"| row | {' | '.join(titles)} |"
    yield "|---" * (len(titles) + 1) + "|"
    for name in sorted(table, key=list(ROWS).index):
        empty = {**_UNKNOWN, **{step.title: NOT_TRIED for step in steps(ROWS[name])}}
        known = {title: cell for title, cell in table[name].items() if cell not in _EMPTY}
        cells = [known.get(title, empty.get(title, "-")) for title in titles]
        yield f"| {' | '.join([name, *cells])} |"


def _titles(rows: Sequence[Cells]) -> list[str]:
    """The columns that say something, in the steps' order."""
    used = {title for row in rows for title, cell in row.items() if cell not in _EMPTY}
    order = [*FACTS, COMMIT, *(step.title for row in ROWS.values() for step in steps(row))]
    order += [title for row in rows for title in row]
    return [title for title in dict.fromkeys(order) if title in used]
