# SPDX-License-Identifier: Apache-2.0
"""Reports: one module a format. Each has a function that writes an analysis to a stream.

To add a format, write a module with a `write` function and add it to FORMATS. A format's
module is imported when a report is written in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Callable, TextIO

from zombiebpf.model.analysis import Analysis
from zombiebpf.reports.terminal import TextOptions, terminal_shape, text_options

Report = Callable[[Analysis, TextIO, TextOptions], None]


def _text(analysis: Analysis, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import text

    text.write(analysis, out, options)


def _tree(analysis: Analysis, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import text

    text.write_tree(analysis, out, options)


def _json(analysis: Analysis, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import json

    json.write(analysis, out)


def _jsonl(analysis: Analysis, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import jsonl

    jsonl.write(analysis, out)


def _csv(analysis: Analysis, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import csv

    csv.write(analysis, out)


def _html(analysis: Analysis, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import html

    html.write(analysis, out, options)


def _perfetto(analysis: Analysis, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import perfetto

    perfetto.write(analysis, out)


FORMATS: Mapping[str, Report] = MappingProxyType(
    {
        "text": _text,
        "tree": _tree,
        "json": _json,
        "jsonl": _jsonl,
        "csv": _csv,
        "html": _html,
        "perfetto": _perfetto,
    }
)

__all__ = ["FORMATS", "Report", "TextOptions", "terminal_shape", "text_options"]
