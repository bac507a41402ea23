# SPDX-License-Identifier: Apache-2.0
"""The contract "zombiebpf/1" as JSON lines: a process a line, the meta line last.

A file without the meta line was cut off. Described in docs/json.md.
"""

from __future__ import annotations

from typing import TextIO

from zombiebpf.analysis import SCHEMA, Analysis, Meta
from zombiebpf.life import Life
from zombiebpf.reports.json import encode, meta_object, meta_of, process_object
from zombiebpf.reports.terminal import TextOptions


def write(analysis: Analysis, out: TextIO, options: TextOptions) -> None:
    """Write what writing each life as it ended would have given.

    First the reaped ones in the order of their reaps, then the others in the
    order of the analysis, then the meta line.
    """
    del options
    for life in sorted(analysis.lives, key=_ended):
        out.write(process_line(life))
    out.write(encode({"schema": SCHEMA, "meta": meta_of(analysis)}) + "\n")


def process_line(life: Life) -> str:
    """One process, newline included."""
    return encode({"schema": SCHEMA, **process_object(life)}) + "\n"


def meta_line(meta: Meta) -> str:
    """The last line, newline included."""
    return encode({"schema": SCHEMA, "meta": meta_object(meta)}) + "\n"


def _ended(life: Life) -> tuple[bool, int]:
    return life.reap_ns is None, life.reap_ns or 0
