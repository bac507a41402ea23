# SPDX-License-Identifier: Apache-2.0
"""The reports of a comparison of two observations: text, JSON and HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Callable, NamedTuple, Optional, TextIO

from rich.cells import cell_len

from zombiebpf.diagnosis.comparison import (
    BETTER,
    FEW,
    GONE,
    MIXED,
    NEW,
    WORSE,
    Comparison,
    Row,
    Side,
)
from zombiebpf.model.life import LATE_NS
from zombiebpf.model.stack import Frame
from zombiebpf.reports.html import render
from zombiebpf.reports.terminal import TextOptions
from zombiebpf.reports.text_page import TextPage, left, right
from zombiebpf.wording.text import printable
from zombiebpf.wording.wording import UNICODE_WORDS, Wording, full_line_name

SCHEMA = "zombiebpf-compare/1"
STYLES = {WORSE: "bold red", MIXED: "yellow", NEW: "yellow", BETTER: "green"}

Names = tuple[str, str]  # of the two files
ComparisonReport = Callable[[Comparison, Names, TextIO, TextOptions], None]


class Cells(NamedTuple):
    """A row in words; a change is written `before -> after`."""

    site: str
    lives: str
    late: str
    p50: str
    p99: str
    max: str
    verdict: str


TITLES = Cells("FORKED AT", "CHILDREN", "LATE", "ZOMBIE P50", "P99", "MAX", "VERDICT")


def write_text(found: Comparison, names: Names, out: TextIO, options: TextOptions) -> None:
    """Write the text report."""
    page = TextPage(out, options)
    words = page.wording
    page.line((f"zombiebpf compare: {_pair(words, *names)}", "bold"))
    page.line()
    page.line((sentence(found, words), STYLES.get(found.whole.verdict, "bold")))
    page.line()
    rows = [found.whole, *found.sites]
    cells = [TITLES, *(_cells(row, words, row is found.whole) for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells)]
    columns = list(range(6))
    for least in (4, 5, 3):  # dropped in this order on a narrow terminal
        if sum(widths[each] + 2 for each in columns) + widths[6] > page.width:
            columns.remove(least)
    for row, each in zip([None, *rows], cells):
        pieces = [left(each.site, widths[0])]
        pieces += [right(each[column], widths[column]) for column in columns[1:]]
        style = "bold" if row is None else STYLES.get(row.verdict, "")
        page.line("  ".join(pieces), ("  " + each.verdict, style))
    page.line()
    page.wrapped("", [_explanation(words)], gap=" ")
    for name, complete in zip(names, found.complete):
        if not complete:
            page.line((f"INCOMPLETE: records were lost in {words.printable(name)}", "bold red"))


def sentence(found: Comparison, words: Wording) -> str:
    """Return the answer: the verdict, the counts, and the lines that became worse or better."""
    row, long = found.whole, words.duration(LATE_NS)
    parts = [
        f"{row.verdict}: {row.before.late} of {row.before.lives} processes were zombies for {long}"
        f" or more, then {row.after.late} of {row.after.lives}"
    ]
    for name, verdicts in (("worse", (WORSE, MIXED)), ("better", (BETTER,))):
        sites = [_site(each, words) for each in found.sites if each.verdict in verdicts]
        if sites:
            parts.append(f"{name} at {', '.join(sites[:3])}")
    return "; ".join(parts)


def _explanation(words: Wording) -> str:
    return (
        f"LATE: zombies for {words.duration(LATE_NS)} or more, of all that were zombies. A verdict"
        " is given from 5 zombies on each side on, where chance makes such a difference less than"
        " once in 100."
    )


def write_json(found: Comparison, names: Names, out: TextIO) -> None:
    """Write one JSON document; an unknown value is null."""
    document = {
        "schema": SCHEMA,
        "before": {"name": printable(names[0]), "complete": found.complete[0]},
        "after": {"name": printable(names[1]), "complete": found.complete[1]},
        "whole": _object(found.whole),
        "fork_sites": [_object(each) for each in found.sites],
    }
    out.write(json.dumps(document, ensure_ascii=True, allow_nan=False, indent=1) + "\n")


def write_html(found: Comparison, names: Names, out: TextIO) -> None:
    """Write one page without scripts."""
    words = UNICODE_WORDS
    rows = [found.whole, *found.sites]
    out.writelines(
        render(
            "compare.html.j2",
            (),
            names=[printable(each) for each in names],
            sentence=sentence(found, words),
            verdict=found.whole.verdict,
            titles=[each.capitalize() for each in TITLES],
            rows=[(_cells(each, words, each is found.whole), _full(each)) for each in rows],
            explanation=_explanation(words),
            incomplete=[printable(n) for n, whole in zip(names, found.complete) if not whole],
        )
    )


def _cells(row: Row, words: Wording, whole: bool) -> Cells:
    before, after = row.before, row.after

    def late(side: Side) -> str:
        return f"{side.late}/{side.zombies}"

    def time(which: str) -> str:
        pair = [
            getattr(side.intervals, which) if side.intervals else None for side in (before, after)
        ]
        return _pair(words, *("-" if ns is None else words.duration(ns) for ns in pair))

    verdict = row.verdict
    if row.median_ratio is not None and verdict not in (FEW, NEW, GONE):
        verdict += f", {_times(row.median_ratio)}"
    return Cells(
        "all" if whole else _site(row, words),
        _pair(words, str(before.lives), str(after.lives)),
        _pair(words, late(before), late(after)),
        time("p50_ns"),
        time("p99_ns"),
        time("max_ns"),
        verdict,
    )


def _times(ratio: float) -> str:
    if not 0 < ratio < 1e9:
        return "median 0"
    longer = ratio >= 1
    times = three_digits(ratio if longer else 1 / ratio)
    return f"median {times} times {'longer' if longer else 'shorter'}"


def three_digits(ratio: float) -> str:
    """Return a ratio of 1 or more, rounded: `1.25`, `12`, `1,250`."""
    if ratio < 9.995:
        return f"{ratio:.2f}"
    digits = len(str(int(ratio)))
    return f"{round(ratio, 3 - digits):,.0f}"


def _site(row: Row, words: Wording) -> str:
    """Return `app.py:42`, or `app.py:42 -> app.py:45` if the line has moved."""
    names = [words.line(each) for each in (row.before_at, row.after_at) if each]
    if not names:
        return "not seen"
    return names[0] if len(set(names)) == 1 else _pair(words, *names)


def _full(row: Row) -> str:
    lines = [each for each in (row.before_at, row.after_at) if each]
    full = [f"{full_line_name(each)} in {each.function}" for each in lines]
    return printable(" → ".join(dict.fromkeys(full)))


def _pair(words: Wording, one: str, two: str) -> str:
    one, two = words.printable(one), words.printable(two)
    return one if one == two else f"{one} {words.glyphs.arrow} {two}"


def _object(row: Row) -> dict[str, Any]:
    return {
        "before_at": _line(row.before_at),
        "after_at": _line(row.after_at),
        "verdict": row.verdict,
        "median_ratio": row.median_ratio,
        "chance": row.p_value,
        "late_chance": row.late_p_value,
        "before": _side(row.before),
        "after": _side(row.after),
    }


def _line(line: Optional[Frame]) -> Optional[dict[str, Any]]:
    if line is None:
        return None
    return {
        "file": printable(line.file),
        "line": line.line,
        "function": printable(line.function),
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "processes": side.lives,
        "zombies": side.zombies,
        "late": side.late,
        "still_zombies": side.still,
        "zombie_interval_ns": asdict(side.intervals) if side.intervals else None,
        "reap_latency_ns": asdict(side.latency) if side.latency else None,
        "reaped_by": {printable(kind): count for kind, count in side.kinds.items()},
    }


COMPARISONS: Mapping[str, ComparisonReport] = MappingProxyType(
    {
        "text": write_text,
        "json": lambda found, names, out, options: write_json(found, names, out),
        "html": lambda found, names, out, options: write_html(found, names, out),
    }
)
