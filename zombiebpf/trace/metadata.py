# SPDX-License-Identifier: Apache-2.0
"""Write and read the tables `meta`, `hook` and `lost`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Optional

from zombiebpf.model.analysis import Meta
from zombiebpf.trace.decode import (
    DamagedTraceError,
    boolean,
    integer,
    real,
    required,
    string_array,
    text,
)

_LATEST = 253_402_300_800  # the year 10000, in seconds since the epoch


def boot_id() -> Optional[str]:
    """Return the id of this boot (proc(5)), with which CLOCK_MONOTONIC starts; None if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def meta_rows(meta: Meta, own: Mapping[str, Any]) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of each table; `own` is what the table `meta` says of the file itself."""
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


class PartInfo(NamedTuple):
    """What a trace file says of itself."""

    observation: str  # an id, the same in all parts of one observation
    boot: Optional[str]  # see boot_id()
    part: int  # from 1
    closed: bool  # whether it is complete
    last: bool  # whether no part follows; meaningless if it is not closed
    joins: bool  # whether joins were observed


def read_meta(db: sqlite3.Connection, being_written: bool) -> tuple[Meta, PartInfo]:
    """Return what the file says of the observation and of itself.

    Raise DamagedTraceError if that is invalid.
    """
    found = {required(text(key)): value for key, value in db.execute("SELECT key, value FROM meta")}
    get = found.get
    info = PartInfo(
        observation=required(text(get("observation"))),
        boot=text(get("boot")),
        part=required(integer(get("part"), 1)),
        closed=boolean(get("closed")),
        last=boolean(get("last")),
        joins=boolean(get("joins")),
    )
    hooks = [tuple(map(text, row)) for row in db.execute("SELECT fact, hook, precision FROM hook")]
    lost = db.execute("SELECT cause, records FROM lost").fetchall()
    wall = get("started_wall")
    if type(wall) is int:
        wall = float(wall)
    began = real(wall)
    if began is not None and not 0 <= began < _LATEST:
        raise DamagedTraceError("it began at no time of day")
    meta = Meta(
        version=required(text(get("version"))),
        kernel=required(text(get("kernel"))),
        hooks={required(fact): hook for fact, hook, _ in hooks if hook is not None},
        precision={required(fact): kind for fact, _, kind in hooks if kind is not None},
        started_ns=required(integer(get("started_ns"))),
        ended_ns=required(integer(get("ended_ns"))),
        command=string_array(get("command")),
        lost_events=required(integer(get("lost_events"))),
        lost_by={required(text(cause)): required(integer(count)) for cause, count in lost},
        clock=required(text(get("clock"))),
        started_wall=began,
        boottime_offset_ns=required(integer(get("boottime_offset_ns"))),
        not_collected=string_array(get("not_collected")),
        cut=text(get("cut")),
    )
    if info.closed or meta.cut is not None:
        return meta, info
    problem = text(get("problem"))
    if problem is not None:
        why = f"it could not be written on: {problem}"
    elif being_written:
        why = "it is still being written"
    else:
        why = "the observer ended without closing it"
    return replace(meta, cut=why), info
