# SPDX-License-Identifier: Apache-2.0
"""Reports: one module a format. Each has a function that writes an observation to a stream.

To add a format, write a module with a `write` function and add it to FORMATS. A format's
module is imported when a report is written in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Callable, TextIO

from zombiebpf.model.observation import Observation
from zombiebpf.reports.terminal import TextOptions, terminal_shape, text_options

Report = Callable[[Observation, TextIO, TextOptions], None]


def _text(observation: Observation, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import text

    text.write(observation, out, options)


def _tree(observation: Observation, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import text

    text.write_tree(observation, out, options)


def _json(observation: Observation, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import json

    json.write(observation, out)


def _jsonl(observation: Observation, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import jsonl

    jsonl.write(observation, out)


def _csv(observation: Observation, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import csv

    csv.write(observation, out)


def _html(observation: Observation, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import html

    html.write(observation, out, options)


def _perfetto(observation: Observation, out: TextIO, options: TextOptions) -> None:
    from zombiebpf.reports import perfetto

    perfetto.write(observation, out)


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
