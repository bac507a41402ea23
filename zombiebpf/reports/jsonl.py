# SPDX-License-Identifier: Apache-2.0
"""The JSON lines report: the contract "zombiebpf/1", a process a line, the meta line last.

A file without the meta line was cut off. docs/json.md describes the format.
"""

from __future__ import annotations

from typing import TextIO

from zombiebpf.model.analysis import SCHEMA, Meta
from zombiebpf.model.life import Life
from zombiebpf.model.observation import Observation
from zombiebpf.reports.json import encode, meta_object, meta_of, process_object


def write(observation: Observation, out: TextIO) -> None:
    """Write the lines in the order in which a live observation writes them.

    Reaped processes come first, in the order of their reaps, then the others in fork order,
    then the meta line.
    """
    for life in observation.lives_by_end():
        out.write(process_line(life))
    out.write(encode({"schema": SCHEMA, "meta": meta_of(observation)}) + "\n")


def process_line(life: Life) -> str:
    """Return the line of a process, with its newline."""
    return encode({"schema": SCHEMA, **process_object(life)}) + "\n"


def meta_line(meta: Meta) -> str:
    """Return the last line, with its newline."""
    return encode({"schema": SCHEMA, "meta": meta_object(meta)}) + "\n"
