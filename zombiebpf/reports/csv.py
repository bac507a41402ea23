# SPDX-License-Identifier: Apache-2.0
"""One row a life, for spreadsheets and data frames. Columns: docs/reports.md.

Instants count from the start of the observation: so they keep all their digits in
spreadsheets, which round beyond fifteen. An empty cell is "not seen" or "none".
"""

from __future__ import annotations

import csv
from typing import Optional, TextIO, Union

from zombiebpf.analysis import Analysis, Meta
from zombiebpf.attribution.sites import found_dead, kind_of
from zombiebpf.life import Actor, Life
from zombiebpf.reports.terminal import TextOptions
from zombiebpf.reports.wording import Wording, printable
from zombiebpf.stack import Frame

Cell = Union[str, int, None]

COLUMNS = (
    "pid", "start_ns", "pidns_inum", "pidns_pid", "comm", "command", "argv_cut", "cgroup",
    "state", "forker_pid", "forker_tid", "forker_comm", "parent_pid", "parent_comm",
    "fork_function", "fork_file", "fork_line", "fork_offset_ns", "exec_filename", "exec_count",
    "exit_offset_ns", "exit_status", "signal",
    "core_dumped", "zombie_offset_ns", "zombie_exact", "was_zombie", "reap_offset_ns", "reap_exact",
    "zombie_interval_ns", "reap_latency_ns", "orphaned", "adopter_pid", "adopter_comm",
    "adopter_kind", "adopted_while_zombie", "reaped_by", "reaper_pid", "reaper_tid", "reaper_comm",
    "reap_kind", "reap_syscall", "reap_options", "reap_blocked_ns", "reap_function", "reap_file",
    "reap_line", "unseen",
)  # fmt: skip

# What a spreadsheet takes for a formula, the full-width forms too.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # noqa: RUF001


def write(analysis: Analysis, out: TextIO, options: TextOptions) -> None:
    """Write a line of names and a line a life, in UTF-8."""
    del options
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)
    words = Wording()
    rows.writerows(
        [_cell(each) for each in _row(life, analysis.meta, words)] for life in analysis.lives
    )


def text_cell(text: str) -> str:
    """`text` as it cannot do harm: printable, and with ' before what would be a formula."""
    safe = printable(text)
    return "'" + safe if safe.lstrip().startswith(FORMULA) else safe


def _cell(value: Cell) -> Cell:
    """Numbers stay numbers, negative ones too; truths are 0 and 1."""
    if isinstance(value, bool):
        return int(value)
    return text_cell(value) if isinstance(value, str) else value


def _row(life: Life, meta: Meta, words: Wording) -> list[Cell]:
    call, pidns = life.reap_call, life.pidns
    adoption = life.reparents[-1] if life.reparents else None

    def offset(ns: Optional[int]) -> Optional[int]:
        return None if ns is None else ns - meta.started_ns

    return [
        life.pid or None,
        life.start_ns,
        pidns.inum if pidns else None,
        (pidns.pid or None) if pidns else None,
        life.comm,
        words.command(life) if life.argv else None,
        life.argv_cut,
        life.cgroup,
        life.state.value,
        *_actor(life.forker),
        (life.parent.pid or None) if life.parent else None,
        life.parent.comm if life.parent else None,
        *_frame(life.fork_site),
        offset(life.fork_ns),
        life.execs[-1].filename if life.execs else None,
        len(life.execs),
        offset(life.exit_ns),
        life.exit_status,
        life.signal,
        life.core_dumped,
        offset(life.zombie_ns),
        None if life.zombie_ns is None else life.zombie_exact,
        found_dead(life),
        offset(life.reap_ns),
        None if life.reap_ns is None else life.reap_exact,
        life.zombie_interval_ns,
        life.reap_latency_ns,
        life.orphaned,
        adoption.to.pid if adoption else None,
        adoption.to.comm if adoption else None,
        adoption.kind.value if adoption else None,
        adoption.while_zombie if adoption else None,
        life.reaped_by.value if life.reaped_by else None,
        *_actor(life.reaper),
        kind_of(life),
        call.syscall if call else None,
        call.options if call else None,
        call.blocked_ns if call else None,
        *_frame(call.site if call else None),
        "; ".join(f"{field}: {reason}" for field, reason in life.unseen.items()) or None,
    ]


def _actor(actor: Optional[Actor]) -> tuple[Cell, Cell, Cell]:
    return (None, None, None) if actor is None else (actor.pid or None, actor.tid, actor.comm)


def _frame(frame: Optional[Frame]) -> tuple[Cell, Cell, Cell]:
    return (None, None, None) if frame is None else (frame.function, frame.file, frame.line)
