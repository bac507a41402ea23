# SPDX-License-Identifier: Apache-2.0
"""How one fact is put into words that people read. No layout here."""

from __future__ import annotations

import shlex
from typing import NamedTuple, Optional, Union

from zombiebpf.attribution.sites import Line
from zombiebpf.life import Actor, AdopterKind, Life, ReapedBy, Reparenting, State, signal_name
from zombiebpf.stack import Frame

WNOHANG = 1  # include/uapi/linux/wait.h

_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


class Glyphs(NamedTuple):
    """The characters that are not everywhere to be had."""

    microsecond: str
    arrow: str
    ellipsis: str
    branch: str  # a child with younger siblings
    last: str  # the youngest child
    through: str  # past a child's descendants, to its younger siblings
    blank: str  # below the youngest child
    bar: str  # from a full cell of a bar to an eighth of one, as far as there are any


UNICODE = Glyphs("µs", "→", "…", "├ ", "└ ", "│ ", "  ", "█▉▊▋▌▍▎▏")
ASCII = Glyphs("us", "->", "...", "|- ", "`- ", "|  ", "   ", "#")


def printable(text: str, unicode: bool = True) -> str:
    r"""`text` with everything a terminal might act upon made visible and harmless.

    Control characters, escape sequences, direction overrides and other characters
    without a shape become `\n`, `\x1b`, `\u202e`...; a byte that was not UTF-8
    (a lone surrogate of "surrogateescape") becomes `\xNN`. With `unicode` False
    so does everything beyond ASCII. Backslashes stay as they are.
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


class Wording:
    """Facts as words, in Unicode or in ASCII only."""

    def __init__(self, unicode: bool = True) -> None:
        self.unicode = unicode
        self.glyphs = UNICODE if unicode else ASCII

    def printable(self, text: str) -> str:
        return printable(text, self.unicode)

    def duration(self, ns: int) -> str:
        """Up to three digits and the unit below a minute, two units above: `1 min 7 s`."""
        if ns < 0:
            return "-" + self.duration(-ns)
        if ns < 1_000:
            return f"{ns} ns"
        for unit_ns, unit in ((1_000, self.glyphs.microsecond), (1_000_000, "ms")):
            digits = _three_digits(ns, unit_ns)
            if float(digits) < 1_000:
                return f"{digits} {unit}"
        digits = _three_digits(ns, 1_000_000_000)
        if float(digits) < 60:
            return f"{digits} s"
        seconds = (ns + 500_000_000) // 1_000_000_000
        minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
        if hours == 0:
            return f"{minutes} min {seconds % 60} s"
        if days == 0:
            return f"{hours} h {minutes % 60} min"
        return f"{days} d {hours % 24} h"

    def command(self, life: Life) -> str:
        """The argument vector as one would type it; before any exec, the name."""
        if life.argv:
            cut = " " + self.glyphs.ellipsis if life.argv_cut else ""
            return self.printable(shlex.join(life.argv)) + cut
        return self.printable(life.comm) if life.comm else "-"

    def pid(self, life: Life) -> str:
        """The observer's PID, and the container's own where it is another."""
        pid = str(life.pid or "outside")
        if life.pidns is not None and life.pidns.pid not in (0, life.pid):
            return f"{pid} ({life.pidns.pid})"
        return pid

    def actor(self, actor: Optional[Actor]) -> str:
        """`python3 41230`; the thread too if it is not the main one."""
        if actor is None:
            return "-"
        name = self.printable(actor.comm) + " " if actor.comm else ""
        if not actor.pid:  # of a PID namespace that the observer cannot see into
            return f"{name}outside"
        if actor.tid and actor.tid != actor.pid:
            return f"{name}{actor.pid} (tid {actor.tid})"
        return f"{name}{actor.pid}"

    def site(self, frame: Optional[Union[Frame, Line]]) -> str:
        """` at app.py:42 in start_all`; empty if no line is known."""
        if frame is None:
            return ""
        name = frame.file.rsplit("/", 1)[-1]
        line = "" if frame.line is None else f":{frame.line}"
        return self.printable(f" at {name}{line} in {frame.function}")

    def forker(self, life: Life) -> str:
        """`python3 41230 at app.py:42 in start_all`."""
        return self.actor(life.forker) + self.site(life.fork_site)

    def meanwhile(self, life: Life) -> str:
        """`meanwhile python3 41230 was blocked in read at app.py:50 in main`; empty: not asked."""
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
        """`exit 3`, `SIGKILL`, `SIGSEGV (core)`, `running`, or `-` if not seen."""
        if life.signal is not None:
            return signal_name(life.signal) + (" (core)" if life.core_dumped else "")
        if life.exit_status is not None:
            return f"exit {life.exit_status}"
        return "running" if life.state is State.RUNNING and life.exit_ns is None else "-"

    def origin(self, life: Life) -> str:
        """`forked by python3 41230`; of what existed before: `child of python3 41230`."""
        if life.forker is None and life.parent is not None:
            return f"child of {self.actor(life.parent)}"
        return f"forked by {self.forker(life)}" if life.forker is not None else "forker -"

    def zombie_interval(self, life: Life) -> str:
        """`-` if not seen, empty as long as there cannot be one.

        A late zombie instant makes it a lower bound, a late reap an upper one.
        """
        interval = life.zombie_interval_ns
        if interval is not None:
            if not life.zombie_exact:
                interval = max(interval, 0)  # the late bound may lie after the reap
            return _bound(life.zombie_exact, life.reap_exact) + self.duration(interval)
        if life.state is State.REAPED:
            return "no zombie" if life.reaped_by is ReapedBy.KERNEL else "-"
        return "-" if life.state is State.RUNNING and life.exit_ns is not None else ""

    def reap_latency(self, life: Life) -> str:
        """`-` if not seen, empty if not reaped. A late reap makes it an upper bound."""
        latency = life.reap_latency_ns
        if latency is not None:
            return _bound(True, life.reap_exact) + self.duration(latency)
        return "-" if life.state is State.REAPED else ""

    def still_zombie(self, life: Life, ended_ns: int, boottime_offset_ns: int = 0) -> str:
        """`ZOMBIE for 3.2 s, still`; empty if it is none.

        For how long is not known of one that was a zombie before: its age since its
        start is told instead.
        """
        if life.state is not State.ZOMBIE:
            return ""
        if life.zombie_ns is None:
            age = self.duration(max(ended_ns + boottime_offset_ns - life.start_ns, 0))
            return f"ZOMBIE since before we looked, started {age} ago"
        bound = _bound(life.zombie_exact, True)
        return f"ZOMBIE for {bound}{self.duration(max(ended_ns - life.zombie_ns, 0))}, still"

    def reaper(self, life: Life) -> str:
        """`parent python3 41230, wait4`; `-` if not seen, empty if not reaped."""
        if life.reaped_by is None:
            return "-" if life.state is State.REAPED else ""
        if life.reaped_by is ReapedBy.KERNEL:
            return "kernel, nobody waited"
        if life.reaped_by is ReapedBy.UNSEEN:
            return "-" if life.reaper is None else self.actor(life.reaper) + self._call(life)
        return f"{life.reaped_by.value} {self.actor(life.reaper)}{self._call(life)}"

    def _call(self, life: Life) -> str:
        call = life.reap_call
        if call is None or call.syscall is None:
            return ""
        poll = " WNOHANG" if call.options is not None and call.options & WNOHANG else ""
        kind = f" ({self.printable(call.kind)})" if call.kind else ""
        return f", {self.printable(call.syscall)}{poll}{kind}{self.site(call.site)}"

    def reparentings(self, life: Life) -> str:
        """`→ init systemd 1 while zombie`, for each; empty if there was none."""
        return " ".join(self._reparenting(each) for each in life.reparents)

    def _reparenting(self, each: Reparenting) -> str:
        suffix = " while zombie" if each.while_zombie else ""
        if each.kind is AdopterKind.THREAD:
            thread = each.to.tid or "-"
            process = self.actor(each.to._replace(tid=None))
            return f"{self.glyphs.arrow} thread {thread} of {process}{suffix}"
        return f"{self.glyphs.arrow} {each.kind.value} {self.actor(each.to)}{suffix}"


def _bound(begin_exact: bool, end_exact: bool) -> str:
    """What a span is when its ends were stamped late."""
    if begin_exact:
        return "" if end_exact else "<= "
    return ">= " if end_exact else "~ "


def _three_digits(ns: int, unit_ns: int) -> str:
    value = ns / unit_ns
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text
