# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fcntl
import io
import os
import struct
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest

from zombiebpf.reports import TextOptions, terminal_shape, text_options


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    """The program's end of a pseudo-terminal, 132 columns wide."""
    controller, end = os.openpty()
    resize(end, 132)
    with open(end, "w", encoding="utf-8") as stream:
        yield stream
    os.close(controller)


def resize(fd: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))


@pytest.mark.parametrize(
    ("environ", "shape"),
    [
        ({}, (132, True)),
        ({"COLUMNS": "99"}, (132, True)),
        ({"NO_COLOR": "1"}, (132, False)),
        ({"NO_COLOR": ""}, (132, True)),
        ({"TERM": "dumb"}, (132, False)),
    ],
)
def test_a_terminal(terminal: TextIO, environ: dict[str, str], shape: tuple[int, bool]) -> None:
    assert terminal_shape(terminal, environ) == shape


def test_a_terminal_that_does_not_know_its_width(terminal: TextIO) -> None:
    resize(terminal.fileno(), 0)
    assert terminal_shape(terminal, {}) == (80, True)
    assert terminal_shape(terminal, {"COLUMNS": "99"}) == (99, True)


@pytest.mark.parametrize(
    ("environ", "width"),
    [({}, 80), ({"COLUMNS": "99"}, 99), ({"COLUMNS": "0"}, 80), ({"COLUMNS": "wide"}, 80)],
)
def test_a_pipe_has_no_colour(environ: dict[str, str], width: int) -> None:
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8"), open(writing, "w", encoding="utf-8") as stream:
        assert terminal_shape(stream, environ) == (width, False)


def test_a_closed_stream() -> None:
    stream = io.StringIO()
    stream.close()
    assert terminal_shape(stream, {}) == (80, False)


@pytest.mark.parametrize(
    ("encoding", "unicode"), [("utf-8", True), ("ascii", False), ("latin-1", False)]
)
def test_characters_that_the_stream_can_take(encoding: str, unicode: bool) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert text_options(stream, {}) == TextOptions(80, False, unicode)


def test_text_in_memory_takes_anything() -> None:
    assert text_options(io.StringIO(), {}).unicode is True
