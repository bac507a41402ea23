# SPDX-License-Identifier: Apache-2.0
"""Lines of a text report: colour, cells, wrapping. It knows nothing about processes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TextIO, Union

from rich.cells import cell_len, get_character_cell_size
from rich.color import ColorSystem
from rich.style import Style

from zombiebpf.reports.terminal import TextOptions
from zombiebpf.wording.wording import Wording

NARROWEST = 60

# A piece of a line: text, or text and its style as rich writes styles.
Piece = Union[str, tuple[str, str]]


class TextPage:
    """Writes lines that are no longer than the width, as far as nothing has to be cut."""

    def __init__(self, out: TextIO, options: TextOptions) -> None:
        """`wording` and `glyphs` follow the options. The width is at least NARROWEST."""
        self._out = out
        self._options = options
        self.width = max(options.width, NARROWEST)
        self.wording = Wording(options.unicode)
        self.glyphs = self.wording.glyphs

    def worded(self, wording: Wording) -> TextPage:
        """Return a page on the same stream with another wording of facts."""
        page = TextPage(self._out, self._options)
        page.wording = wording
        return page

    def line(self, *pieces: Piece) -> None:
        """Write a line of pieces, without blanks at its end."""
        texts = [piece if isinstance(piece, str) else piece[0] for piece in pieces]
        styles = ["" if isinstance(piece, str) else piece[1] for piece in pieces]
        while texts and not texts[-1].rstrip(" "):
            texts.pop()
        if texts:
            texts[-1] = texts[-1].rstrip(" ")
        self._out.write("".join(map(self._paint, texts, styles)) + "\n")

    def heading(self, text: str) -> None:
        """Write an empty line and a title."""
        self.line()
        self.line((text, "bold"))

    def wrapped(
        self, margin: str, phrases: Sequence[str], style: str = "", gap: str = "; ", hang: str = ""
    ) -> None:
        """Write phrases after a margin, broken between phrases if possible.

        Further lines begin with `hang`, or with the same margin.
        """
        room = self.width - max(cell_len(margin), cell_len(hang))
        rows = [""]
        for number, phrase in enumerate(phrases):
            text = phrase + (gap.rstrip() if number < len(phrases) - 1 else "")
            longer = rows[-1] + gap[len(gap.rstrip()) :] + text
            if rows[-1] and cell_len(longer) <= room:
                rows[-1] = longer
            else:
                rows += _words(text, room)
        for row in filter(None, rows):
            self.line((margin, "dim"), (row, style))
            margin = hang or margin

    def cut(self, text: str, width: int) -> str:
        """Return `text`, cut with an ellipsis if it is wider than `width` columns."""
        if cell_len(text) <= width:
            return text
        room = width - cell_len(self.glyphs.ellipsis)
        kept = ""
        for char in text:
            room -= get_character_cell_size(char)
            if room < 0:
                break
            kept += char
        return kept.rstrip(" ") + self.glyphs.ellipsis

    def _paint(self, text: str, style: str) -> str:
        if not self._options.color or not style or not text:
            return text
        return _style(style).render(text, color_system=ColorSystem.STANDARD)


def left(text: str, width: int) -> str:
    """Return `text` at the left of a cell of at least `width` columns."""
    return text + " " * (width - cell_len(text))


def right(text: str, width: int) -> str:
    """Return `text` at the right of a cell of at least `width` columns."""
    return " " * (width - cell_len(text)) + text


def _words(text: str, room: int) -> list[str]:
    rows = [""]
    for word in text.split(" "):
        longer = f"{rows[-1]} {word}" if rows[-1] else word
        if cell_len(longer) <= room:
            rows[-1] = longer
        elif rows[-1]:
            rows.append(word)
        else:
            rows[-1] = word
    return rows


@cache
def _style(style: str) -> Style:
    return Style.parse(style)
