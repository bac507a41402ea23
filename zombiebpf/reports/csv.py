# SPDX-License-Identifier: Apache-2.0
"""The CSV report: one row a process, for spreadsheets and data frames.

docs/reports.md describes the columns. Instants count from the start of the observation,
because spreadsheets round numbers of more than fifteen digits. An empty cell means "not
observed" or "none".
"""

from __future__ import annotations

import csv
from typing import Optional, TextIO, Union

from zombiebpf.model.analysis import Meta
from zombiebpf.model.life import Actor, Life
from zombiebpf.model.observation import Observation
from zombiebpf.model.stack import Frame
from zombiebpf.wording.text import printable
from zombiebpf.wording.wording import Wording

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

# Spreadsheets take text that begins so for a formula, also the full-width forms.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # noqa: RUF001


def write(observation: Observation, out: TextIO) -> None:
    """Write the report: a line of column names and a line a process."""
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)
    words = Wording()
    rows.writerows(
        [_cell(each) for each in _row(life, observation.meta, words)]
        for life in observation.lives()
    )


def text_cell(text: str) -> str:
    """Return printable text, with ' before what a spreadsheet would take for a formula."""
    safe = printable(text)
    return "'" + safe if safe.lstrip().startswith(FORMULA) else safe


def _cell(value: Cell) -> Cell:
    """Return a cell that is safe in a spreadsheet; booleans become 0 and 1."""
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
        life.already_zombie,
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
        life.reap_kind,
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
