# SPDX-License-Identifier: Apache-2.0
"""Characters that a terminal can show, and those that must not reach it."""

from __future__ import annotations

from typing import NamedTuple

_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


class Glyphs(NamedTuple):
    """Characters that are not available everywhere."""

    microsecond: str
    arrow: str
    ellipsis: str
    branch: str  # before a child with younger siblings
    last: str  # before the youngest child
    through: str  # beside the descendants of a child with younger siblings
    blank: str  # beside the descendants of the youngest child
    bar: str  # from a full cell of a bar to an eighth of one, if available


UNICODE = Glyphs("µs", "→", "…", "├ ", "└ ", "│ ", "  ", "█▉▊▋▌▍▎▏")
ASCII = Glyphs("us", "->", "...", "|- ", "`- ", "|  ", "   ", "#")


def printable(text: str, unicode: bool = True) -> str:
    r"""Return `text` with everything that a terminal might act upon escaped.

    Control characters, escape sequences, direction overrides and other characters
    without a shape become `\n`, `\x1b`, `\u202e`... A byte that was not UTF-8
    (a lone surrogate of "surrogateescape") becomes `\xNN`. Without `unicode`
    everything beyond ASCII is escaped too. Backslashes stay as they are.
    """
    if text.isprintable() and (unicode or text.isascii()):
        return text
    return "".join(
        char if char.isprintable() and (unicode or char.isascii()) else _escape(char)
        for char in text
    )


def _escape(char: str) -> str:
    code = ord(char)
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
