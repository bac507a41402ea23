# SPDX-License-Identifier: Apache-2.0
"""The text report: the fork tree, then the figures, then how it was observed.

If there are more than WHOLE processes, the tree has the outliers and a line for all others that
one line of the user's code forked.

A pipe gets the same lines as a terminal, without colour. PIDs, numbers and durations are
never cut; only a command can be.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TextIO

from rich.cells import cell_len

from zombiebpf.model.analysis import Meta
from zombiebpf.model.life import Life, ReapedBy
from zombiebpf.model.observation import Branch, Group, Observation
from zombiebpf.reports.summary import write_summary
from zombiebpf.reports.terminal import TextOptions
from zombiebpf.reports.text_page import Piece, TextPage, left, right
from zombiebpf.reports.timeline import write_timeline
from zombiebpf.reports.tree import DEEPEST, OUTLIERS, WHOLE, group_name, margin, prefix
from zombiebpf.wording.wording import Wording, count_of

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


def write(observation: Observation, out: TextIO, options: TextOptions) -> None:
    """Write the whole report."""
    page = TextPage(out, options)
    branches = observation.tree(WHOLE, OUTLIERS)
    _write_processes(page, observation.meta, branches)
    write_timeline(page, observation, branches)
    write_summary(page, observation)


def write_tree(observation: Observation, out: TextIO, options: TextOptions) -> None:
    """Write the fork tree with the fate of each process, without the figures."""
    page = TextPage(out, options)
    _write_processes(page, observation.meta, observation.tree(WHOLE, OUTLIERS))
    page.line()
    page.line(f"lost records: {observation.meta.lost_events}")


def _write_processes(page: TextPage, meta: Meta, branches: Sequence[Branch]) -> None:
    words = page.wording
    command = " ".join(words.printable(each) for each in meta.command)
    name = f"zombiebpf {meta.version}"
    page.line((page.cut(f"{name}: {command}" if command else name, page.width), "bold"))
    span = words.duration(max(meta.ended_ns - meta.started_ns, 0))
    page.line(f"observed for {span}, kernel {words.printable(meta.kernel)}")
    if meta.cut is not None:
        page.wrapped("CUT: ", [words.printable(meta.cut)], "bold red")
    page.line()
    if not branches:
        page.line("No process was seen.")
        return
    columns = _choose_columns(page, branches, meta)
    inline = columns.forker > 0
    limit = min(DEEPEST, columns.command // 4)
    _write_row(page, columns, TITLES, TITLES.command, "bold")
    for branch in branches:
        before = " " * columns.pid + GAP
        below = before + margin(branch, page.glyphs, limit)
        if branch.group is not None:
            first = before + prefix(branch, page.glyphs, limit)
            page.wrapped(first, _group_phrases(branch.group, words), "bold", "; ", below)
        if branch.life is None:
            continue
        row = _row(branch.life, words, meta)
        command = _fitted(page, prefix(branch, page.glyphs, limit), row.command, columns.command)
        _write_row(page, columns, row, command)
        if not inline:
            phrases = _details(row, branch.life)
            doing = words.meanwhile(branch.life)
            page.wrapped(below, [*phrases, doing] if doing else phrases, "dim")
        else:
            hidden = "" if columns.reparented else row.reparented
            more = [each for each in (hidden, words.meanwhile(branch.life)) if each]
            page.wrapped(below, more, "dim")


def _group_phrases(group: Group, words: Wording) -> list[str]:
    """Return what the siblings have in common, and how long they were zombies."""
    phrases = [group_name(group, words)]
    times = group.intervals
    if times is not None:
        p50, p99, most = map(words.duration, (times.p50_ns, times.p99_ns, times.max_ns))
        phrases.append(f"zombies for p50 {p50}, p99 {p99}, max {most}")
    if group.zombies:
        phrases.append(count_of(group.zombies, "still zombie"))
    if group.running:
        phrases.append(f"{group.running} running")
    return phrases


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


def _choose_columns(page: TextPage, branches: Sequence[Branch], meta: Meta) -> Columns:
    """Return the widths that all processes need; the command gets at most what remains."""
    widest = [cell_len(title) for title in TITLES]
    reparented = False
    for branch in branches:
        if branch.life is None:
            continue
        row = _row(branch.life, page.wording, meta)
        reparented = reparented or bool(row.reparented)
        cells = row._replace(command=prefix(branch, page.glyphs, DEEPEST) + row.command)
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
