# SPDX-License-Identifier: Apache-2.0
"""The text report: the fork tree, then the figures, then how it was observed.

A pipe gets the same lines as a terminal, without colour. PIDs, numbers and durations are
never cut; only a command can be.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TextIO

from rich.cells import cell_len

from zombiebpf.model.analysis import Analysis, Meta
from zombiebpf.model.life import Life, ReapedBy
from zombiebpf.reports.summary import write_summary
from zombiebpf.reports.terminal import TextOptions
from zombiebpf.reports.text_page import Piece, TextPage, left, right
from zombiebpf.reports.timeline import write_timeline
from zombiebpf.reports.tree import DEEPEST, fork_tree
from zombiebpf.wording.wording import Wording

GAP = "  "
ROOMY = 30  # if the command column would be narrower, processes take more lines instead
SMALLEST = 12  # columns of a command

_DIRECTORIES = re.compile(r"(?<!\S)/\S*/(?=[^/\s])")  # of a word that is an absolute path
_ENDING_STYLES = {"running": "cyan", "exit 0": "", "-": "dim"}


class Row(NamedTuple):
    """A process in words."""

    pid: str
    command: str
    forker: str
    ended: str
    zombie: str
    latency: str
    still: str  # of a zombie: replaces zombie and latency
    reaper: str
    reparented: str
    origin: str  # forker or parent, as a phrase


class Columns(NamedTuple):
    """Widths. 0: no such column, its facts go into lines below."""

    pid: int
    command: int
    forker: int
    ended: int
    zombie: int
    latency: int
    reaper: int
    reparented: int


TITLES = Row(
    "PID", "COMMAND", "FORKED BY", "ENDED", "ZOMBIE FOR", "REAP LATENCY", "", "REAPED BY",
    "REPARENTED", "",
)  # fmt: skip


def write(analysis: Analysis, out: TextIO, options: TextOptions) -> None:
    """Write the whole report."""
    page = TextPage(out, options)
    _write_processes(page, analysis)
    write_timeline(page, analysis)
    write_summary(page, analysis)


def write_tree(analysis: Analysis, out: TextIO, options: TextOptions) -> None:
    """Write the fork tree with the fate of each process, without the figures."""
    page = TextPage(out, options)
    _write_processes(page, analysis)
    page.line()
    page.line(f"lost records: {analysis.meta.lost_events}")


def _write_processes(page: TextPage, analysis: Analysis) -> None:
    meta = analysis.meta
    words = page.wording
    command = " ".join(words.printable(each) for each in meta.command)
    name = f"zombiebpf {meta.version}"
    page.line((page.cut(f"{name}: {command}" if command else name, page.width), "bold"))
    span = words.duration(max(meta.ended_ns - meta.started_ns, 0))
    page.line(f"observed for {span}, kernel {words.printable(meta.kernel)}")
    if meta.cut is not None:
        page.wrapped("CUT: ", [words.printable(meta.cut)], "bold red")
    page.line()
    if not analysis.lives:
        page.line("No process was seen.")
        return
    columns = _choose_columns(page, analysis)
    inline = columns.forker > 0
    _write_row(page, columns, TITLES, TITLES.command, "bold")
    for node in fork_tree(analysis.lives):
        row = _row(node.life, page.wording, analysis.meta)
        limit = min(DEEPEST, columns.command // 4)
        prefix = node.prefix(page.glyphs, limit)
        command = _fitted(page, prefix, row.command, columns.command)
        _write_row(page, columns, row, command)
        margin = " " * columns.pid + GAP + node.margin(page.glyphs, limit)
        if not inline:
            phrases = _details(row, node.life)
            doing = page.wording.meanwhile(node.life)
            page.wrapped(margin, [*phrases, doing] if doing else phrases, "dim")
        else:
            hidden = "" if columns.reparented else row.reparented
            below = [each for each in (hidden, page.wording.meanwhile(node.life)) if each]
            page.wrapped(margin, below, "dim")


def _fitted(page: TextPage, prefix: str, command: str, width: int) -> str:
    """Return the command; if it is too long, without directories, then without its end."""
    shorter = command
    while cell_len(prefix + shorter) > width:
        command = shorter
        shorter = _DIRECTORIES.sub(f"{page.glyphs.ellipsis}/", command, count=1)
        if shorter == command:
            break
    return page.cut(prefix + shorter, width)


def _row(life: Life, words: Wording, meta: Meta) -> Row:
    return Row(
        pid=words.pid(life),
        command=words.command(life),
        forker=words.forker(life) if life.parent is None else words.origin(life),
        ended=words.ending(life),
        zombie=words.zombie_interval(life),
        latency=words.reap_latency(life),
        still=words.still_zombie(life, meta.ended_ns, meta.boottime_offset_ns),
        reaper=words.reaper(life),
        reparented=words.reparentings(life),
        origin=words.origin(life),
    )


def _details(row: Row, life: Life) -> list[str]:
    """Return the facts without a column, in the order of their events."""
    phrases = [row.origin]
    if row.reparented:
        phrases.append(row.reparented)
    if row.reaper == "-":
        phrases.append("reaper -")
    elif life.reaped_by is ReapedBy.KERNEL:
        phrases.append("released by the kernel, nobody waited")
    elif row.reaper:
        phrases.append(f"reaped by {row.reaper}")
    return phrases


def _choose_columns(page: TextPage, analysis: Analysis) -> Columns:
    """Return the widths that all processes need; the command gets at most what remains."""
    widest = [cell_len(title) for title in TITLES]
    reparented = False
    for node in fork_tree(analysis.lives):
        row = _row(node.life, page.wording, analysis.meta)
        reparented = reparented or bool(row.reparented)
        cells = row._replace(command=node.prefix(page.glyphs, DEEPEST) + row.command)
        widest = [max(width, cell_len(cell)) for width, cell in zip(widest, cells)]
    pid, command_need, forker, ended, zombie, latency, still, reaper, reparenting, _ = widest
    zombie = max(zombie, still - len(GAP) - latency)

    always = pid + ended + zombie + latency + 4 * len(GAP)
    inline = always + forker + reaper + 2 * len(GAP)
    full = inline + reparenting + len(GAP)
    enough = min(command_need, ROOMY)
    if not reparented:
        full, reparenting = inline, 0
    if full + enough > page.width:
        full, reparenting = inline, 0
    if full + enough > page.width:
        full, forker, reaper = always, 0, 0
    command = max(min(command_need, page.width - full), SMALLEST)
    return Columns(pid, command, forker, ended, zombie, latency, reaper, reparenting)


def _write_row(page: TextPage, columns: Columns, row: Row, command: str, style: str = "") -> None:
    pieces: list[Piece] = [
        (right(row.pid, columns.pid) + GAP, style),
        (left(command, columns.command) + GAP, style),
    ]
    if columns.forker:
        pieces.append((left(row.forker, columns.forker) + GAP, style))
    ending_style = style or _ENDING_STYLES.get(row.ended, "yellow")
    pieces.append((left(row.ended, columns.ended) + GAP, ending_style))
    if row.still:
        both = columns.zombie + len(GAP) + columns.latency
        pieces.append((left(row.still, both) + GAP, "bold red"))
    else:
        pieces.append((right(row.zombie, columns.zombie) + GAP, style))
        pieces.append((right(row.latency, columns.latency) + GAP, style))
    if columns.reaper:
        pieces.append((left(row.reaper, columns.reaper) + GAP, style))
    if columns.reparented:
        pieces.append((row.reparented, style))
    page.line(*pieces)
