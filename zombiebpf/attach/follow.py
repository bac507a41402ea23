# SPDX-License-Identifier: Apache-2.0
"""While it runs: a line for each life as it ends, or one line that tells how it stands."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Optional, TextIO

from zombiebpf.analysis import Meta
from zombiebpf.life import Life, State
from zombiebpf.reports.jsonl import meta_line, process_line
from zombiebpf.reports.wording import Wording

_PROGRESS_S = 1.0


class NobodyReads(Exception):
    """The pipe that we write to has lost its reader: the user has enough."""


class Lines:
    """Lives as lines, for pipes: each is whole when it is written, and written at once."""

    def __init__(self, stream: TextIO, jsonl: bool) -> None:
        self._stream = stream
        self._jsonl = jsonl
        self._words = Wording((stream.encoding or "").lower().replace("-", "") == "utf8")
        self._poll: Optional[select.poll] = None
        with suppress(OSError, ValueError):
            self._poll = select.poll()
            self._poll.register(stream.fileno(), 0)  # errors are told in any case

    def write(self, lives: Iterable[Life]) -> None:
        """NobodyReads if the pipe is closed, even where there is nothing to write."""
        if self._poll is not None and any(
            happened & (select.POLLERR | select.POLLHUP) for _, happened in self._poll.poll(0)
        ):
            raise NobodyReads
        text = "".join(map(process_line if self._jsonl else self._line, lives))
        if text:
            self._write(text)

    def end(self, meta: Meta) -> None:
        """What follows the last life: a stream without it was cut."""
        if self._jsonl:
            self._write(meta_line(meta))

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            raise NobodyReads from None

    def _line(self, life: Life) -> str:
        return line_of(life, self._words) + "\n"


def line_of(life: Life, words: Wording) -> str:
    """One life in one line, the time of its end first (local)."""
    parts = [_clock(life.reap_ns), f"PID {words.pid(life)}", words.command(life)]
    if life.forker is not None:
        parts.append(f"forked by {words.actor(life.forker)}")
    elif life.parent is not None:
        parts.append(f"child of {words.actor(life.parent)}, {life.unseen.get('fork_ns', '')}")
    parts.append(words.ending(life))
    zombie = words.zombie_interval(life)
    if life.was_zombie:
        zombie = life.unseen.get("zombie_ns", "")
    if zombie:
        parts.append(zombie if zombie == "no zombie" else f"zombie {zombie}")
    parts += [each for each in (words.reparentings(life),) if each]
    reaper = words.reaper(life)
    if life.state is State.REAPED:
        parts.append("reaper not seen" if reaper == "-" else f"reaped by {reaper}")
    elif life.state is State.ZOMBIE:
        parts.append("still a zombie")
    return "  ".join(parts)


def _clock(ns: Optional[int]) -> str:
    """CLOCK_MONOTONIC as the time of the day, as the clocks stand to each other now."""
    if ns is None:
        return "-" * 15
    wall_ns = time.time_ns() - time.monotonic_ns() + ns
    return datetime.fromtimestamp(wall_ns / 1e9).strftime("%H:%M:%S.%f")


class Progress:
    """One line on a terminal, that is written over; nothing elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: Optional[TextIO] = stream if stream.isatty() else None
        self._words = Wording((stream.encoding or "").lower().replace("-", "") == "utf8")
        self._next = 0.0

    def show(self, seen: int, unfinished: Iterable[Life], lost: int, started_ns: int) -> None:
        """At most once a second."""
        now = time.monotonic()
        if self._stream is None or now < self._next:
            return
        self._next = now + _PROGRESS_S
        zombies = [life for life in unfinished if life.state is State.ZOMBIE]
        text = progress_line(seen, zombies, lost, started_ns, time.monotonic_ns(), self._words)
        self._write("\r\x1b[2K" + text[: _columns(self._stream) - 1])

    def clear(self) -> None:
        if self._stream is not None and self._next:
            self._write("\r\x1b[2K")
            self._next = 0.0

    def _write(self, text: str) -> None:
        assert self._stream is not None
        with suppress(OSError):
            self._stream.write(text)
            self._stream.flush()


def progress_line(
    seen: int, zombies: Sequence[Life], lost: int, started_ns: int, now_ns: int, words: Wording
) -> str:
    """`3 min 2 s: 1204 lives, 2 zombies now, the oldest 12 s (PID 17 sh), 0 records lost`"""
    parts = [f"{seen} {'life' if seen == 1 else 'lives'}"]
    parts.append(f"{len(zombies)} {'zombie' if len(zombies) == 1 else 'zombies'} now")
    if zombies:
        oldest = min(zombies, key=lambda life: life.zombie_ns or 0)
        age = "since before we looked"
        if oldest.zombie_ns is not None:
            age = words.duration(max(now_ns - oldest.zombie_ns, 0))
        comm = words.printable(oldest.comm or "-")
        parts.append(f"the oldest {age} (PID {words.pid(oldest)} {comm})")
    parts.append(f"{lost} {'record' if lost == 1 else 'records'} lost")
    return f"{words.duration(max(now_ns - started_ns, 0))}: {', '.join(parts)}"


def _columns(stream: TextIO) -> int:
    with suppress(OSError, ValueError):
        return max(os.get_terminal_size(stream.fileno()).columns, 20)
    return 80


def stdout_is_gone() -> None:
    """So that Python does not fail once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
