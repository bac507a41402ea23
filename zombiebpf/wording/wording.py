# SPDX-License-Identifier: Apache-2.0
"""The words for one fact, the same in findings and in every report. No layout."""

from __future__ import annotations

import os
import shlex
from typing import Optional

from zombiebpf.model.life import (
    Actor,
    AdopterKind,
    Life,
    ReapedBy,
    Reparenting,
    State,
    signal_name,
)
from zombiebpf.model.stack import Frame
from zombiebpf.model.units import NS_PER_MS, NS_PER_S, NS_PER_US
from zombiebpf.wording.text import ASCII, UNICODE, printable


def line_name(frame: Frame) -> str:
    """Return `app.py:42`: the last component of the path and the line."""
    name = frame.file.rsplit("/", 1)[-1] or frame.file
    return name if frame.line is None else f"{name}:{frame.line}"


def full_line_name(frame: Frame) -> str:
    """Return `/srv/app.py:42`."""
    return frame.file if frame.line is None else f"{frame.file}:{frame.line}"


def count_of(count: int, noun: str, plural: Optional[str] = None) -> str:
    """Return `1 zombie`, `2 zombies`, `2 children` (given as `plural`)."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def children_of(count: int) -> str:
    """Return `1 child`, `2 children`."""
    return count_of(count, "child", "children")


def zombies_noun(count: int) -> str:
    """Return `a zombie` for 1, else `zombies`."""
    return "a zombie" if count == 1 else "zombies"


def call_name(life: Life) -> Optional[str]:
    """Return the system call that reaped it: `wait4 WNOHANG`; None: not observed, or none."""
    call = life.reap_call
    if call is None or call.syscall is None:
        return None
    return call.syscall + (" WNOHANG" if (call.options or 0) & os.WNOHANG else "")


class Wording:
    """Facts in words, in Unicode or ASCII. What a program chose (names, paths) is escaped."""

    def __init__(self, unicode: bool = True) -> None:
        self.unicode = unicode
        self.glyphs = UNICODE if unicode else ASCII

    def printable(self, text: str) -> str:
        """Return `text` with everything that a terminal might act upon escaped."""
        return printable(text, self.unicode)

    def duration(self, ns: int) -> str:
        """Return `87 µs`, `1.24 ms`: up to three digits; from 1 min on two units: `1 min 7 s`."""
        if ns < 0:
            return "-" + self.duration(-ns)
        if ns < NS_PER_US:
            return f"{ns} ns"
        for unit_ns, unit in ((NS_PER_US, self.glyphs.microsecond), (NS_PER_MS, "ms")):
            digits = _three_digits(ns, unit_ns)
            if float(digits) < 1_000:
                return f"{digits} {unit}"
        digits = _three_digits(ns, NS_PER_S)
        if float(digits) < 60:
            return f"{digits} s"
        seconds = (ns + NS_PER_S // 2) // NS_PER_S
        minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
        if hours == 0:
            return f"{minutes} min {seconds % 60} s"
        if days == 0:
            return f"{hours} h {minutes % 60} min"
        return f"{days} d {hours % 24} h"

    def command(self, life: Life) -> str:
        """Return the argument vector, quoted for a shell; the name if it is unknown."""
        if life.argv:
            cut = " " + self.glyphs.ellipsis if life.argv_cut else ""
            return self.printable(shlex.join(life.argv)) + cut
        return self.printable(life.comm) if life.comm else "-"

    def pid(self, life: Life) -> str:
        """Return the observer's PID; the container's own follows in parentheses if it differs."""
        pid = str(life.pid or "outside")
        if life.pidns is not None and life.pidns.pid not in (0, life.pid):
            return f"{pid} ({life.pidns.pid})"
        return pid

    def actor(self, actor: Optional[Actor], missing: str = "-") -> str:
        """Return `python3 41230`, or `missing` if the actor was not observed.

        A thread other than the main one is named too: `python3 41230 (thread 41236)`.
        """
        if actor is None:
            return missing
        name = self.printable(actor.comm) if actor.comm else ""
        if not actor.pid:  # of a PID namespace that the observer cannot see into
            return f"{name} outside".lstrip()
        name = name or "PID"
        if actor.tid and actor.tid != actor.pid:
            return f"{name} {actor.pid} (thread {actor.tid})"
        return f"{name} {actor.pid}"

    def line(self, frame: Frame) -> str:
        """Return `app.py:42`."""
        return self.printable(line_name(frame))

    def at_line(self, frame: Optional[Frame]) -> str:
        """Return ` at app.py:42`; empty if no line is known."""
        return "" if frame is None else f" at {self.line(frame)}"

    def site(self, frame: Optional[Frame]) -> str:
        """Return ` at app.py:42 in start_all`; empty if no line is known."""
        if frame is None:
            return ""
        return self.printable(f" at {line_name(frame)} in {frame.function}")

    def forker(self, life: Life) -> str:
        """Return `python3 41230 at app.py:42 in start_all`."""
        return self.actor(life.forker) + self.site(life.fork_site)

    def meanwhile(self, life: Life) -> str:
        """Return `meanwhile python3 41230 was blocked in read at app.py:50 in main`, if sampled."""
        doing = life.meanwhile
        if doing is None:
            return ""
        who = f"meanwhile {self.actor(doing.thread)} was"
        if doing.syscall is None:
            return f"{who} running{self.site(doing.site)}"
        frames = doing.stack.frames if doing.stack is not None else ()
        where = doing.site or (frames[0] if frames else None)
        return f"{who} blocked in {self.printable(doing.syscall)}{self.site(where)}"

    def ending(self, life: Life) -> str:
        """Return `exit 3`, `SIGKILL`, `SIGSEGV (core)`, `running`, or `-` if not observed."""
        if life.signal is not None:
            return signal_name(life.signal) + (" (core)" if life.core_dumped else "")
        if life.exit_status is not None:
            return f"exit {life.exit_status}"
        return "running" if life.state is State.RUNNING and life.exit_ns is None else "-"

    def origin(self, life: Life) -> str:
        """Return `forked by python3 41230`, or `child of ...` if the fork was not observed."""
        if life.forker is None and life.parent is not None:
            return f"child of {self.actor(life.parent)}"
        return f"forked by {self.forker(life)}" if life.forker is not None else "forker -"

    def zombie_interval(self, life: Life) -> str:
        """Return `87 µs`, `no zombie`, `-` if not observed; empty if it cannot have one yet.

        A late zombie instant makes it a lower bound, a late reap an upper bound.
        """
        interval = life.zombie_interval_ns
        if interval is not None:
            if not life.zombie_exact:
                interval = max(interval, 0)  # a late zombie instant may lie after the reap
            return _bound(life.zombie_exact, life.reap_exact) + self.duration(interval)
        if life.state is State.REAPED:
            return "no zombie" if life.reaped_by is ReapedBy.KERNEL else "-"
        return "-" if life.state is State.RUNNING and life.exit_ns is not None else ""

    def reap_latency(self, life: Life) -> str:
        """Return `131 µs`, `<= 20 ms` if the reap is late; `-`: not observed, empty: not reaped."""
        latency = life.reap_latency_ns
        if latency is not None:
            return _bound(True, life.reap_exact) + self.duration(latency)
        return "-" if life.state is State.REAPED else ""

    def still_zombie(self, life: Life, ended_ns: int, boottime_offset_ns: int = 0) -> str:
        """Return `ZOMBIE for 3.2 s, still`; empty if it is not a zombie.

        If it was a zombie before the observation, its time as one is unknown: the age since
        its start is given. `boottime_offset_ns` is CLOCK_BOOTTIME - CLOCK_MONOTONIC.
        """
        if life.state is not State.ZOMBIE:
            return ""
        if life.zombie_ns is None:
            age = self.duration(max(ended_ns + boottime_offset_ns - life.start_ns, 0))
            return f"ZOMBIE since before we looked, started {age} ago"
        bound = _bound(life.zombie_exact, True)
        return f"ZOMBIE for {bound}{self.duration(max(ended_ns - life.zombie_ns, 0))}, still"

    def reaper(self, life: Life) -> str:
        """Return `parent python3 41230, wait4`; `-` if not observed, empty if not reaped."""
        if life.reaped_by is None:
            return "-" if life.state is State.REAPED else ""
        if life.reaped_by is ReapedBy.KERNEL:
            return "kernel, nobody waited"
        if life.reaped_by is ReapedBy.UNSEEN:
            return "-" if life.reaper is None else self.actor(life.reaper) + self._call(life)
        return f"{life.reaped_by.value} {self.actor(life.reaper)}{self._call(life)}"

    def _call(self, life: Life) -> str:
        call, name = life.reap_call, call_name(life)
        if call is None or name is None:
            return ""
        kind = f" ({self.printable(call.kind)})" if call.kind else ""
        return f", {self.printable(name)}{kind}{self.site(call.site)}"

    def reparentings(self, life: Life) -> str:
        """Return `→ init systemd 1 while zombie` for each reparenting; empty if there was none."""
        return " ".join(self._reparenting(each) for each in life.reparents)

    def _reparenting(self, each: Reparenting) -> str:
        suffix = " while zombie" if each.while_zombie else ""
        if each.kind is AdopterKind.THREAD:
            thread = each.to.tid or "-"
            process = self.actor(each.to._replace(tid=None))
            return f"{self.glyphs.arrow} thread {thread} of {process}{suffix}"
        return f"{self.glyphs.arrow} {each.kind.value} {self.actor(each.to)}{suffix}"


def _bound(begin_exact: bool, end_exact: bool) -> str:
    """Return the sign of a duration with a late begin or end."""
    if begin_exact:
        return "" if end_exact else "<= "
    return ">= " if end_exact else "~ "


def _three_digits(ns: int, unit_ns: int) -> str:
    value = ns / unit_ns
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


UNICODE_WORDS = Wording()
