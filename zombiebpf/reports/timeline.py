# SPDX-License-Identifier: Apache-2.0
"""The text report's timeline: one line a process, scaled to the width.

Zombies are letters, so that they stand out without colour too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

from rich.cells import cell_len

from zombiebpf.analysis import Analysis, Join
from zombiebpf.attribution.sites import found_dead
from zombiebpf.life import Life
from zombiebpf.reports.page import Page, Piece, left
from zombiebpf.reports.tree import fork_tree
from zombiebpf.reports.who import Who

MOST = 200  # lines; a longer list is no picture any more
NAME = 0.3  # of the width, at the most
DEEPEST = 6

RUNS, WAITS, ZOMBIE, ENDS, ADOPTED = "runs", "waits", "zombie", "ends", "adopted"
BEFORE, DEAD = "before", "dead"  # it began before the observation: running, or as a zombie
STYLES = {
    RUNS: "cyan", WAITS: "blue", ZOMBIE: "bold red", ENDS: "", ADOPTED: "green", BEFORE: "cyan",
    DEAD: "bold red",
}  # fmt: skip


class Signs(NamedTuple):
    runs: str
    waits: str
    zombie: str
    ends: str
    adopted: str
    before: str
    dead: str


UNICODE = Signs("─", "═", "Z", "┤", "┴", "«", "«")
ASCII = Signs("-", "=", "Z", "|", "^", "<", "<")


def write_timeline(page: Page, analysis: Analysis) -> None:
    """A title, a scale, a line for each of the first MOST lives, and what the signs mean."""
    nodes = list(fork_tree(analysis.lives))
    if not nodes:
        return
    words, signs = page.wording, UNICODE if page.wording.unicode else ASCII
    shown = nodes[:MOST]
    labels = [
        node.prefix(page.glyphs, DEEPEST) + f"{words.pid(node.life)} {words.command(node.life)}"
        for node in shown
    ]
    width = min(max(map(cell_len, labels)), int(page.width * NAME))
    cells = page.width - width - 4
    span = _span(analysis)
    waits = _waits(analysis)
    page.heading("Timeline")
    begin, end = (
        words.duration(span[0] - analysis.meta.started_ns),
        words.duration(span[1] - analysis.meta.started_ns),
    )
    begin = "0" if span[0] == analysis.meta.started_ns else begin
    page.line("  " + left("", width) + "  " + left(begin, cells - cell_len(end)) + end)
    before = False
    for node, label in zip(shown, labels):
        name = left(page.cut(label, width), width)
        marks = row(node.life, waits.get(id(node.life), ()), span, cells)
        before = before or BEFORE in marks or DEAD in marks
        page.line(f"  {name}  ", *_pieces(marks, signs))
    if len(nodes) > MOST:
        page.line(f"  and {len(nodes) - MOST} more processes: the HTML report draws them all")
    meaning = [
        f"{signs.runs} runs",
        f"{signs.waits} waits for a child",
        f"{signs.zombie} zombie",
        f"{signs.adopted} reparented",
        f"{signs.ends} reaped",
    ]
    if not waits:
        del meaning[1]
    if before:
        meaning.append(f"{signs.before} since before we looked")
    page.wrapped("  ", meaning, "dim", gap="   ")


def row(
    life: Life, joins: Sequence[Join], span: tuple[int, int], cells: int
) -> list[Optional[str]]:
    """What each cell shows. None: the process was not there.

    A zombie interval is seen if it fills half a cell; the end mark is always.
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
    if found_dead(life):
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
    if found_dead(life):
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
    """The joins of each life, by its id()."""
    found: dict[int, list[Join]] = {}
    who = Who(analysis.lives)
    for join in analysis.joins or ():
        index = who.had(join.pid, join.began_ns if join.began_ns is not None else join.ended_ns)
        if index is not None:
            found.setdefault(id(analysis.lives[index]), []).append(join)
    return found


def _pieces(marks: Sequence[Optional[str]], signs: Signs) -> list[Piece]:
    """Neighbours of one kind together."""
    pieces: list[Piece] = []
    place = 0
    while place < len(marks):
        mark, begin = marks[place], place
        while place < len(marks) and marks[place] == mark:
            place += 1
        count = place - begin
        sign = " " if mark is None else getattr(signs, mark)
        pieces.append((sign * count, "" if mark is None else STYLES[mark]))
    return pieces


def _first(*instants: Optional[int]) -> int:
    """The first that was seen; the last one always is."""
    return next(ns for ns in instants if ns is not None)
