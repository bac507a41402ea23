# SPDX-License-Identifier: Apache-2.0
"""Read /proc: names, arguments and start times of running processes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Optional

PROC = Path("/proc")
_KTHREAD = 0x00200000  # include/linux/sched.h, PF_KTHREAD
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PYTHON = re.compile(r"(?:python|pypy)[\d.]*[a-z]*$")
# options of CPython that take the next word as their value
_WITH_VALUE = {"-W", "-X", "--check-hash-based-pycs"}


class Stat(NamedTuple):
    """Fields of /proc/PID/stat (fs/proc/array.c)."""

    comm: str
    state: str
    parent: int
    kernel_thread: bool
    start_ticks: int


def read_stat(pid: int, proc: Path = PROC) -> Optional[Stat]:
    """Return the fields of /proc/PID/stat; None if there is no such process any more."""
    try:
        text = (proc / str(pid) / "stat").read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return None
    before, _, after = text.rpartition(")")
    fields = after.split()
    if len(fields) < 20:
        return None
    return Stat(
        before.partition("(")[2],
        fields[0],
        int(fields[1]),
        bool(int(fields[6]) & _KTHREAD),
        int(fields[19]),
    )


def thread_group(pid: int, proc: Path = PROC) -> Optional[int]:
    """Return the PID of the process that thread `pid` belongs to; None if there is no such."""
    with suppress(OSError, ValueError):
        found = re.search(r"^Tgid:\s*(\d+)$", (proc / str(pid) / "status").read_text(), re.M)
        return int(found[1]) if found else None
    return None


def all_pids(proc: Path = PROC) -> Iterator[int]:
    """Yield the PIDs of all processes that this PID namespace shows."""
    for name in os.listdir(proc):
        if name.isdigit():
            yield int(name)


def arguments(pid: int, proc: Path = PROC) -> Optional[tuple[str, ...]]:
    """Return the command line; None for a zombie, a process that is gone or one without it."""
    try:
        raw = (proc / str(pid) / "cmdline").read_bytes()
    except OSError:
        return None
    if not raw:
        return None
    text = raw.decode("utf-8", "surrogateescape")
    return tuple(text[:-1].split("\0") if text.endswith("\0") else text.split("\0"))


def is_same(pid: int, start_ns: int, proc: Path = PROC) -> bool:
    """Return whether the process that now has this PID started at `start_ns` (CLOCK_BOOTTIME)."""
    stat = read_stat(pid, proc)
    return stat is not None and stat.start_ticks == (start_ns + _boottime_offset()) // _TICK_NS


def _boottime_offset() -> int:
    """Return what the time namespace adds to start times in /proc (timens_add_boottime_ns), ns."""
    with suppress(OSError):
        found = re.search(
            r"^boottime\s+(-?\d+)\s+(\d+)$", Path("/proc/self/timens_offsets").read_text(), re.M
        )
        if found:
            return int(found[1]) * 1_000_000_000 + int(found[2])
    return 0


def names_of(pid: int, proc: Path = PROC) -> set[str]:
    """Return all names of a process: its comm, its program and, for Python, its script."""
    stat = read_stat(pid, proc)
    if stat is None or stat.kernel_thread:
        return set()
    names = {stat.comm}
    argv = arguments(pid, proc)
    if argv:
        first = argv[0].rpartition("/")[2]
        # setproctitle makes titles such as `gunicorn: master [app]`
        names |= {first, re.split(r"[: ]", first, maxsplit=1)[0]}
        if _PYTHON.match(first):
            names |= _script_names(argv)
    with suppress(OSError):
        program = os.readlink(proc / str(pid) / "exe").rpartition("/")[2]
        names.add(program.replace(" (deleted)", ""))
    return {name for name in names if name}


def _script_names(argv: tuple[str, ...]) -> set[str]:
    """Return {app.py, app} for `python -u bin/app.py`, {celery.bin, celery} for `-m celery.bin`."""
    words = iter(argv[1:])
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif word.startswith("-m") or (
            # -um, but neither -c nor an option with a value
            re.fullmatch(r"-[a-zA-Z]*m", word) and not re.search("[cWX]", word)
        ):
            module = word[2:] if word.startswith("-m") and len(word) > 2 else next(words, "")
            return {module, module.partition(".")[0]}
        elif word.startswith("-") and word != "-":
            if "c" in word and not word.startswith("--"):
                return set()
        else:
            name = word.rpartition("/")[2]
            return {name, name[:-3]} if name.endswith(".py") else {name}
    return set()
