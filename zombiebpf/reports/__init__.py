# SPDX-License-Identifier: Apache-2.0
"""Reports: one file a format, each takes an analysis and an output.

A new format is one file with a `write` of this shape, and one line in FORMATS.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Callable, TextIO

from zombiebpf.analysis import Analysis
from zombiebpf.reports import csv, html, json, jsonl, perfetto, text
from zombiebpf.reports.terminal import TextOptions, terminal_shape, text_options

Report = Callable[[Analysis, TextIO, TextOptions], None]

FORMATS: Mapping[str, Report] = MappingProxyType(
    {
        "text": text.write,
        "tree": text.write_tree,
        "json": json.write,
        "jsonl": jsonl.write,
        "csv": csv.write,
        "html": html.write,
        "perfetto": perfetto.write,
    }
)

__all__ = ["FORMATS", "Report", "TextOptions", "terminal_shape", "text_options"]
