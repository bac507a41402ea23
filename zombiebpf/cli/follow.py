# SPDX-License-Identifier: Apache-2.0
"""Show an observation as it goes on: a line for each process that ends, or a status line."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Optional, TextIO

from zombiebpf.cli.console import TerminalLine
from zombiebpf.model.analysis import Meta
from zombiebpf.model.life import Life, State
from zombiebpf.reports.jsonl import meta_line, process_line
from zombiebpf.wording.wording import Wording, count_of

_REFRESH_S = 1.0


class LineWriter:
    """A writer of one line per process, text or JSON; each line is flushed at once."""

    def __init__(self, stream: TextIO, jsonl: bool) -> None:
        self._stream = stream
        self._jsonl = jsonl
        self._words = _wording(stream)
        self._poll = select.poll()
        with suppress(OSError, ValueError):
            self._poll.register(stream.fileno(), 0)  # POLLERR and POLLHUP are always reported

    def write(self, lives: Iterable[Life]) -> None:
        """Write the processes. Raise BrokenPipeError if nobody reads, even with no process."""
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in self._poll.poll(0)):
            raise BrokenPipeError
        self._write("".join(map(process_line if self._jsonl else self._line, lives)))

    def end(self, meta: Meta) -> None:
        """Write the last line of JSON: a stream without it was cut."""
        if self._jsonl:
            self._write(meta_line(meta))

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()

    def _line(self, life: Life) -> str:
        return text_line(life, self._words) + "\n"


def _wording(stream: TextIO) -> Wording:
    return Wording((stream.encoding or "").lower().replace("-", "") == "utf8")


def text_line(life: Life, words: Wording) -> str:
    """Return a process in one line, first the local time of its reap."""
    parts = [_time_of_day(life.reap_ns), f"PID {words.pid(life)}", words.command(life)]
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


def _time_of_day(ns: Optional[int]) -> str:
    """Return the local time of day of a CLOCK_MONOTONIC instant, by the clocks' offset now."""
    if ns is None:
        return "-" * 15
    wall_ns = time.time_ns() - time.monotonic_ns() + ns
    return datetime.fromtimestamp(wall_ns / 1e9).strftime("%H:%M:%S.%f")


class StatusLine(TerminalLine):
    """A line on a terminal that shows the state of an observation."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._words = _wording(stream)
        self._next = 0.0  # time.monotonic() of the next refresh

    @property
    def is_due(self) -> bool:
        """Whether it is time for update(): after _REFRESH_S, on a terminal."""
        return self.is_terminal and time.monotonic() >= self._next

    def update(self, seen: int, zombies: Sequence[Life], lost: int, started_ns: int) -> None:
        """Show the number of processes seen, the zombies and the number of lost records."""
        self._next = time.monotonic() + _REFRESH_S
        text = status_text(seen, zombies, lost, started_ns, time.monotonic_ns(), self._words)
        self.show(text[: _columns(self._stream) - 1])

    def clear(self) -> None:
        """Remove the line until the next update, which shows it at once."""
        if self._next:
            super().clear()
            self._next = 0.0


def status_text(
    seen: int, zombies: Sequence[Life], lost: int, started_ns: int, now_ns: int, words: Wording
) -> str:
    """Return `3 min 2 s: 1204 lives, 1 zombie now, the oldest 12 s (PID 17 sh), 0 records lost`."""
    parts = [count_of(seen, "life", "lives"), f"{count_of(len(zombies), 'zombie')} now"]
    if zombies:
        oldest = min(zombies, key=lambda life: life.zombie_ns or 0)
        age = "since before we looked"
        if oldest.zombie_ns is not None:
            age = words.duration(max(now_ns - oldest.zombie_ns, 0))
        comm = words.printable(oldest.comm or "-")
        parts.append(f"the oldest {age} (PID {words.pid(oldest)} {comm})")
    parts.append(f"{count_of(lost, 'record')} lost")
    return f"{words.duration(max(now_ns - started_ns, 0))}: {', '.join(parts)}"


def _columns(stream: TextIO) -> int:
    with suppress(OSError, ValueError):
        return max(os.get_terminal_size(stream.fileno()).columns, 20)
    return 80
