# SPDX-License-Identifier: Apache-2.0
"""Reports: one module a format. Each has a function that writes an analysis to a stream.

To add a format, write a module with a `write` function and add a line to FORMATS.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Callable, TextIO

from zombiebpf.model.analysis import Analysis
from zombiebpf.reports import csv, html, json, jsonl, perfetto, text
from zombiebpf.reports.terminal import TextOptions, terminal_shape, text_options

Report = Callable[[Analysis, TextIO, TextOptions], None]


def without_options(write: Callable[[Analysis, TextIO], None]) -> Report:
    """Return a report in a machine-readable format, which has no layout."""
    return lambda analysis, out, options: write(analysis, out)


FORMATS: Mapping[str, Report] = MappingProxyType(
    {
        "text": text.write,
        "tree": text.write_tree,
        "json": without_options(json.write),
        "jsonl": without_options(jsonl.write),
        "csv": without_options(csv.write),
        "html": html.write,
        "perfetto": without_options(perfetto.write),
    }
)

__all__ = ["FORMATS", "Report", "TextOptions", "terminal_shape", "text_options"]
