# SPDX-License-Identifier: Apache-2.0
"""The timeline of the text report: one line a process, scaled to the width.

Zombies are drawn as letters, so that they are visible without colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Optional

from rich.cells import cell_len

from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Join
from zombiebpf.model.life import Life
from zombiebpf.reports.pid_index import PidIndex
from zombiebpf.reports.text_page import Piece, TextPage, left
from zombiebpf.reports.tree import fork_tree

MAX_LINES = 200
NAME_SHARE = 0.3  # of the width, at most
DEEPEST = 6  # levels of the fork tree that are drawn

RUNS, WAITS, ZOMBIE, ENDS, ADOPTED = "runs", "waits", "zombie", "ends", "adopted"
BEFORE, DEAD = "before", "dead"  # existed before the observation: running, or as a zombie
STYLES = {
    RUNS: "cyan", WAITS: "blue", ZOMBIE: "bold red", ENDS: "", ADOPTED: "green", BEFORE: "cyan",
    DEAD: "bold red",
}  # fmt: skip


# The character of each state, in the order of STYLES.
UNICODE, ASCII = dict(zip(STYLES, "─═Z┤┴««")), dict(zip(STYLES, "-=Z|^<<"))


def write_timeline(page: TextPage, analysis: Analysis) -> None:
    """Write a title, a scale, a line for each of the first MAX_LINES processes, and a legend."""
    nodes = list(fork_tree(analysis.lives))
    if not nodes:
        return
    words, signs = page.wording, UNICODE if page.wording.unicode else ASCII
    shown = nodes[:MAX_LINES]
    labels = [
        node.prefix(page.glyphs, DEEPEST) + f"{words.pid(node.life)} {words.command(node.life)}"
        for node in shown
    ]
    width = min(max(map(cell_len, labels)), int(page.width * NAME_SHARE))
    cells = page.width - width - 4
    span = _span(analysis)
    waits = _waits(analysis)
    page.heading("Timeline")
    begin, end = (words.duration(ns - analysis.meta.started_ns) for ns in span)
    begin = "0" if span[0] == analysis.meta.started_ns else begin
    page.line("  " + left("", width) + "  " + left(begin, cells - cell_len(end)) + end)
    before = False
    for node, label in zip(shown, labels):
        name = left(page.cut(label, width), width)
        marks = row(node.life, waits.get(id(node.life), ()), span, cells)
        before = before or BEFORE in marks or DEAD in marks
        page.line(f"  {name}  ", *_pieces(marks, signs))
    if len(nodes) > MAX_LINES:
        page.line(f"  and {len(nodes) - MAX_LINES} more processes: the HTML report draws them all")
    meaning = [
        f"{signs[RUNS]} runs",
        f"{signs[WAITS]} waits for a child",
        f"{signs[ZOMBIE]} zombie",
        f"{signs[ADOPTED]} reparented",
        f"{signs[ENDS]} reaped",
    ]
    if not waits:
        del meaning[1]
    if before:
        meaning.append(f"{signs[BEFORE]} since before we looked")
    page.wrapped("  ", meaning, "dim", gap="   ")


def row(
    life: Life, joins: Sequence[Join], span: tuple[int, int], cells: int
) -> list[Optional[str]]:
    """Return the state that each cell shows; None: the process did not exist.

    A zombie interval is shown if it fills at least half a cell, a reap always.
    """
    first, last = span
    marks: list[Optional[str]] = [None] * cells

    def cell(ns: int) -> int:
        return min(max((ns - first) * cells // (last - first), 0), cells - 1)

    def fill(begin: int, end: int, mark: str) -> None:
        for place in range(cell(begin), cell(end) + 1):
            marks[place] = mark

    begin = first if life.fork_ns is None else life.fork_ns
    dead = _first(life.exit_ns, life.zombie_ns, life.reap_ns, last)
    if life.already_zombie:
        dead = first
        fill(first, _first(life.reap_ns, last), ZOMBIE)
    else:
        fill(begin, max(dead, begin), RUNS)
    for join in joins:
        from_ = _first(join.began_ns, join.ended_ns, begin)
        to = _first(join.ended_ns, dead)
        if (to - from_) * cells * 2 >= last - first:
            fill(max(from_, begin), min(to, dead), WAITS)
    if life.zombie_ns is not None:
        gone = _first(life.reap_ns, last)
        if (gone - life.zombie_ns) * cells * 2 >= last - first:
            fill(life.zombie_ns, gone, ZOMBIE)
    for each in life.reparents:
        marks[cell(each.ns)] = ADOPTED
    if life.reap_ns is not None:
        marks[cell(life.reap_ns)] = ENDS
    if life.already_zombie:
        marks[0] = DEAD
    elif life.parent is not None and life.fork_ns is None:
        marks[0] = BEFORE
    return marks


def _span(analysis: Analysis) -> tuple[int, int]:
    begins = [life.fork_ns for life in analysis.lives if life.fork_ns is not None]
    ends = [life.reap_ns for life in analysis.lives if life.reap_ns is not None]
    first = min([analysis.meta.started_ns, *begins])
    return first, max([analysis.meta.ended_ns, *ends, first + 1])


def _waits(analysis: Analysis) -> dict[int, list[Join]]:
    """Return the joins of each process, by the id() of its record."""
    found: dict[int, list[Join]] = {}
    index = PidIndex(analysis.lives)
    for join in analysis.joins or ():
        instant = join.began_ns if join.began_ns is not None else join.ended_ns
        waiter = index.find(join.pid, instant)
        if waiter is not None:
            found.setdefault(id(analysis.lives[waiter]), []).append(join)
    return found


def _pieces(marks: Sequence[Optional[str]], signs: Mapping[str, str]) -> list[Piece]:
    """Return a piece for each run of equal cells."""
    pieces: list[Piece] = []
    for mark, run in groupby(marks):
        sign, style = (" ", "") if mark is None else (signs[mark], STYLES[mark])
        pieces.append((sign * sum(1 for _ in run), style))
    return pieces


def _first(*instants: Optional[int]) -> int:
    """Return the first that is known; the last one always is."""
    return next(ns for ns in instants if ns is not None)
