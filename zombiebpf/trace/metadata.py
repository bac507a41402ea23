# SPDX-License-Identifier: Apache-2.0
"""Meta <-> the tables `meta`, `hook` and `lost`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Optional

from zombiebpf.analysis import Meta
from zombiebpf.trace.values import Damaged, integer, number, text, texts, there, truth

LATEST = 253_402_300_800  # the year 10000


def boot_id() -> Optional[str]:
    """Names the time on CLOCK_MONOTONIC: it begins anew with each boot (proc(5))."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def meta_rows(meta: Meta, own: Mapping[str, Any]) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of each of the three tables. `own` is what the trace says of itself."""
    facts = list(meta.hooks) + [fact for fact in meta.precision if fact not in meta.hooks]
    values = {
        "version": meta.version,
        "kernel": meta.kernel,
        "clock": meta.clock,
        "started_ns": meta.started_ns,
        "started_wall": meta.started_wall,
        "ended_ns": meta.ended_ns,
        "boottime_offset_ns": meta.boottime_offset_ns,
        "not_collected": json.dumps(list(meta.not_collected)),
        "command": json.dumps(list(meta.command)),
        "lost_events": meta.lost_events,
        "cut": meta.cut,
        **own,
    }
    return {
        "meta": list(values.items()),
        "hook": [(fact, meta.hooks.get(fact), meta.precision.get(fact)) for fact in facts],
        "lost": list(meta.lost_by.items()),
    }


class Own(NamedTuple):
    """What a trace says of itself."""

    observation: str  # the same in all parts of one observation
    boot: Optional[str]
    part: int  # from 1 on
    closed: bool
    last: bool  # no part comes after it; meaningless if it is not closed
    joins: bool  # whether joins were looked for


def read_meta(db: sqlite3.Connection, being_written: bool) -> tuple[Meta, Own]:
    """Raises Damaged."""
    found = {there(text(key)): value for key, value in db.execute("SELECT key, value FROM meta")}
    get = found.get
    own = Own(
        observation=there(text(get("observation"))),
        boot=text(get("boot")),
        part=there(integer(get("part"), 1)),
        closed=truth(get("closed")),
        last=truth(get("last")),
        joins=truth(get("joins")),
    )
    hooks = [tuple(map(text, row)) for row in db.execute("SELECT fact, hook, precision FROM hook")]
    lost = db.execute("SELECT cause, records FROM lost").fetchall()
    wall = get("started_wall")
    if type(wall) is int:
        wall = float(wall)
    began = number(wall)
    if began is not None and not 0 <= began < LATEST:
        raise Damaged("it began at no time of day")
    meta = Meta(
        version=there(text(get("version"))),
        kernel=there(text(get("kernel"))),
        hooks={there(fact): hook for fact, hook, _ in hooks if hook is not None},
        precision={there(fact): kind for fact, _, kind in hooks if kind is not None},
        started_ns=there(integer(get("started_ns"))),
        ended_ns=there(integer(get("ended_ns"))),
        command=texts(get("command")),
        lost_events=there(integer(get("lost_events"))),
        lost_by={there(text(cause)): there(integer(count)) for cause, count in lost},
        clock=there(text(get("clock"))),
        started_wall=began,
        boottime_offset_ns=there(integer(get("boottime_offset_ns"))),
        not_collected=texts(get("not_collected")),
        cut=text(get("cut")),
    )
    if own.closed or meta.cut is not None:
        return meta, own
    problem = text(get("problem"))
    if problem is not None:
        why = f"it could not be written on: {problem}"
    elif being_written:
        why = "it is still being written"
    else:
        why = "the observer ended without closing it"
    return replace(meta, cut=why), own
