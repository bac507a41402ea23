# SPDX-License-Identifier: Apache-2.0
"""The layout that suits a stream: its width, colour, and whether it takes Unicode.

The caller of a report finds this out and passes it on as `TextOptions`.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable, Optional, TextIO

from zombiebpf.model.stack import Frame

DEFAULT_WIDTH = 80

SourceReader = Callable[[Frame], Optional[str]]  # the text of a frame's line; None: unavailable


@dataclass(frozen=True)
class TextOptions:
    """The layout of a report for people, and where it gets source text."""

    width: int = DEFAULT_WIDTH  # columns
    color: bool = False
    unicode: bool = True  # False: ASCII only
    source: SourceReader = lambda frame: None


def terminal_shape(stream: TextIO, environ: Mapping[str, str]) -> tuple[int, bool]:
    """Return the width in columns, and whether to use colour.

    The width is the terminal's own, else COLUMNS, else 80. Only a terminal gets colour,
    unless NO_COLOR is set and not empty (https://no-color.org) or TERM is "dumb".
    """
    terminal_width = _terminal_width(stream)
    if terminal_width is None:
        return _columns(environ), False
    color = not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return terminal_width or _columns(environ), color


def text_options(stream: TextIO, environ: Mapping[str, str]) -> TextOptions:
    """Return the layout for a stream; `unicode` is whether its encoding is UTF."""
    width, color = terminal_shape(stream, environ)
    return TextOptions(width=width, color=color, unicode=_takes_unicode(stream))


def _terminal_width(stream: TextIO) -> Optional[int]:
    """Return None if the stream is not a terminal, 0 if the terminal does not know its width."""
    try:
        if not stream.isatty():
            return None
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # closed, or without a descriptor
        return None


def _columns(environ: Mapping[str, str]) -> int:
    columns = environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) > 0 else DEFAULT_WIDTH


def _takes_unicode(stream: TextIO) -> bool:
    encoding: Optional[str] = getattr(stream, "encoding", None)
    if encoding is None:
        return True  # kept in memory as text
    try:
        return codecs.lookup(encoding).name.startswith("utf")
    except LookupError:
        return False
