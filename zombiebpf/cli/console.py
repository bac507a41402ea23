# SPDX-License-Identifier: Apache-2.0
"""Print to standard output and standard error, even if nobody reads them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO

import click

from zombiebpf.errors import ZombiebpfError

STDOUT, STDERR = 1, 2

HELP_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def discard(descriptor: int) -> None:
    """Send what is written to `descriptor` nowhere: Python flushes it once more at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def say(line: str) -> None:
    """Print a line for the user on standard error, if that can be written."""
    try:
        click.echo(f"zombiebpf: {line}", err=True)
    except OSError:
        discard(STDERR)


class TerminalLine:
    """A line on a terminal that is overwritten; nothing on any other stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.is_terminal = stream.isatty()

    def show(self, text: str) -> None:
        """Show the text instead of what the line shows."""
        if self.is_terminal:
            with suppress(OSError):
                self._stream.write(f"\r\x1b[2K{text}")
                self._stream.flush()

    def clear(self) -> None:
        """Remove the line, so that something else can be printed there."""
        self.show("")


def print_lines(lines: Iterable[str]) -> None:
    """Print to standard output until nobody reads it. Raise ZombiebpfError if it fails."""
    try:
        for line in lines:
            click.echo(line)
    except BrokenPipeError:
        discard(STDOUT)
    except OSError as error:
        discard(STDOUT)
        raise ZombiebpfError(f"standard output: {error.strerror}") from None
