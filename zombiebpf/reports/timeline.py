# SPDX-License-Identifier: Apache-2.0
"""The timeline of the text report: a line for each place in the fork tree, scaled to the width.

Zombies are drawn as letters, so that they are visible without colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Optional

from rich.cells import cell_len

from zombiebpf.model.join import Join
from zombiebpf.model.life import Life
from zombiebpf.model.observation import Branch, Group, Observation
from zombiebpf.reports.text_page import Piece, TextPage, left
from zombiebpf.reports.tree import group_name, prefix
from zombiebpf.wording.wording import Wording

MAX_JOINS = 2_000  # that are drawn; if there are more, the longest ones
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


def write_timeline(page: TextPage, observation: Observation, branches: Sequence[Branch]) -> None:
    """Write a title, a scale, a line for each place in the fork tree, and a legend."""
    if not branches:
        return
    words, signs = page.wording, UNICODE if page.wording.unicode else ASCII
    labels = [prefix(each, page.glyphs, DEEPEST) + _label(each, words) for each in branches]
    width = min(max(map(cell_len, labels)), int(page.width * NAME_SHARE))
    cells = page.width - width - 4
    span = observation.span()
    waits = _waits(observation)
    zombies = _zombies(observation, span, cells)
    page.heading("Timeline")
    begin, end = (words.duration(ns - observation.meta.started_ns) for ns in span)
    begin = "0" if span[0] == observation.meta.started_ns else begin
    page.line("  " + left("", width) + "  " + left(begin, cells - cell_len(end)) + end)
    before = False
    for branch, label in zip(branches, labels):
        name = left(page.cut(label, width), width)
        if branch.life is not None and branch.n is not None:
            marks = row(branch.life, waits.get(branch.n, ()), span, cells)
        else:
            assert branch.group is not None
            marks = together(branch.group, zombies.get(branch.group.number, ()), span, cells)
        before = before or BEFORE in marks or DEAD in marks
        page.line(f"  {name}  ", *_pieces(marks, signs))
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


def _label(branch: Branch, words: Wording) -> str:
    if branch.life is not None:
        return f"{words.pid(branch.life)} {words.command(branch.life)}"
    assert branch.group is not None
    return group_name(branch.group, words)


def together(
    group: Group, zombies: Iterable[int], span: tuple[int, int], cells: int
) -> list[Optional[str]]:
    """Return the state that each cell shows of several processes.

    They run from the first fork to the last reap; `zombies` are the cells in which one was a
    zombie.
    """
    marks: list[Optional[str]] = [None] * cells
    begin = _cell(_first(group.first_ns, span[0]), span, cells)
    for place in range(begin, _cell(_first(group.last_ns, span[1]), span, cells) + 1):
        marks[place] = RUNS
    for place in zombies:
        marks[place] = ZOMBIE
    return marks


def _zombies(observation: Observation, span: tuple[int, int], cells: int) -> dict[int, set[int]]:
    """Return the cells in which groups had zombies that fill at least half a cell."""
    found: dict[int, set[int]] = {}
    least_ns = -(-(span[1] - span[0]) // (2 * cells))
    for number, begin, end in observation.grouped_zombies(least_ns):
        places = range(_cell(begin, span, cells), _cell(end, span, cells) + 1)
        found.setdefault(number, set()).update(places)
    return found


def _cell(ns: int, span: tuple[int, int], cells: int) -> int:
    first, last = span
    return min(max((ns - first) * cells // (last - first), 0), cells - 1)


def row(
    life: Life, joins: Sequence[Join], span: tuple[int, int], cells: int
) -> list[Optional[str]]:
    """Return the state that each cell shows; None: the process did not exist.

    A zombie interval is shown if it fills at least half a cell, a reap always.
    """
    first, last = span
    marks: list[Optional[str]] = [None] * cells

    def cell(ns: int) -> int:
        return _cell(ns, span, cells)

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


def _waits(observation: Observation) -> dict[int, list[Join]]:
    """Return the joins of each process, by its number."""
    found: dict[int, list[Join]] = {}
    for each in observation.placed_joins(MAX_JOINS):
        if each.waiter is not None:
            found.setdefault(each.waiter, []).append(each.join)
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
