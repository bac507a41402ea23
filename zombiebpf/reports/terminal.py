# SPDX-License-Identifier: Apache-2.0
"""What may be written to a stream: how wide, in colour or not, which characters.

Only the caller of a report asks this; a report itself is told by `TextOptions`.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable, Optional, TextIO

from zombiebpf.stack import Frame

DEFAULT_WIDTH = 80


Source = Callable[[Frame], Optional[str]]  # the text of a frame's line; None: not to be had


def no_source(frame: Frame) -> Optional[str]:
    """No text of any line."""
    del frame
    return None


@dataclass(frozen=True)
class TextOptions:
    """How a report that people read is laid out, and what it may show beside facts."""

    width: int = DEFAULT_WIDTH  # columns
    color: bool = False
    unicode: bool = True  # False: ASCII only
    source: Source = no_source


def terminal_shape(stream: TextIO, environ: Mapping[str, str]) -> tuple[int, bool]:
    """Width in columns, and whether to use colour.

    A terminal tells its width itself; anything else gets COLUMNS, or else 80.
    Only a terminal gets colour, unless NO_COLOR is set and not empty
    (https://no-color.org) or TERM is "dumb".
    """
    terminal_width = _terminal_width(stream)
    if terminal_width is None:
        return _columns(environ), False
    color = not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return terminal_width or _columns(environ), color


def text_options(stream: TextIO, environ: Mapping[str, str]) -> TextOptions:
    """`terminal_shape`, and whether the stream can take more than ASCII."""
    width, color = terminal_shape(stream, environ)
    return TextOptions(width=width, color=color, unicode=_takes_unicode(stream))


def _terminal_width(stream: TextIO) -> Optional[int]:
    """None if it is no terminal; 0 if it is one that does not know its width."""
    try:
        if not stream.isatty():
            return None
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # closed, or a terminal that is no file
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
