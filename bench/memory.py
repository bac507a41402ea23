# SPDX-License-Identifier: Apache-2.0
"""A million short lives past `zombiebpf attach -o`: is its memory flat, is none lost?"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bench import budgets, workloads
from bench.budgets import Result, Verdict
from bench.observer import PROGRAM, ObserverFailed, own_cpu_ns

SLICES = 10
RSS_EVERY_S = 0.2
MIB = 1024 * 1024


def memory(programs: Path, lives: int, progress: Callable[[str], None]) -> list[Result]:
    """One process forks so many times, under an observer of its own that writes a trace.

    Raises ObserverFailed.
    """
    progress(f"{lives:,} lives past an observer: a million take some minutes")
    trace = programs / "memory.db"
    command = [str(programs / "fork_wait"), str(lives // SLICES), str(SLICES)]
    with _waiting(command) as loop, _attached(loop.pid, trace) as observer:
        assert loop.stdin is not None
        began_ns = time.monotonic_ns()
        loop.stdin.write("go\n")
        loop.stdin.flush()
        resident = []
        while loop.poll() is None:
            resident.append(_rss_bytes(observer.pid))
            time.sleep(RSS_EVERY_S)
        took_s = (time.monotonic_ns() - began_ns) / 1e9
        assert loop.stdout is not None
        forks = workloads.parse(loop.stdout.read()).operations * SLICES
        os.waitid(os.P_PID, observer.pid, os.WEXITED | os.WNOWAIT)  # with the last of them
        cpu_ns = own_cpu_ns(observer.pid)
        if observer.wait() != 0:
            raise ObserverFailed(f"zombiebpf attach ended with {observer.returncode}")
    return _results(forks, took_s, cpu_ns, resident, trace)


@contextmanager
def _waiting(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a shell that becomes `command` when it reads a line."""
    with subprocess.Popen(
        ["sh", "-c", 'read -r go; exec "$@"', "sh", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def _attached(pid: int, trace: Path) -> Iterator[subprocess.Popen[str]]:
    """`zombiebpf attach PID`, once it has said that it is attached."""
    with subprocess.Popen(
        [str(PROGRAM), "attach", str(pid), "-o", str(trace)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            if "attached: " not in line:
                raise ObserverFailed(f"zombiebpf attach said: {line.strip()}")
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def _rss_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _results(
    forks: int, took_s: float, cpu_ns: int, resident: list[int], trace: Path
) -> list[Result]:
    with closing(sqlite3.connect(f"file:{trace}?mode=ro", uri=True)) as db:
        (lives,) = db.execute("SELECT count(*) FROM lives").fetchone()
        (reaped,) = db.execute("SELECT count(*) FROM lives WHERE state = 'reaped'").fetchone()
        (distinct,) = db.execute(
            "SELECT count(*) FROM (SELECT DISTINCT pid, start_ns FROM life)"
        ).fetchone()
        (lost,) = db.execute("SELECT value FROM meta WHERE key = 'lost_events'").fetchone()
    tenth = len(resident) // 10
    first, last = max(resident[: tenth + 1]), max(resident[-tenth - 1 :])
    growth = (last - first) / MIB
    size = trace.stat().st_size
    exact = lives == reaped == distinct == forks + 1  # the loop itself existed before
    detail = {
        "forks": forks,
        "seconds": took_s,
        "lives": lives,
        "reaped_lives": reaped,
        "distinct_lives": distinct,
        "lost_events": lost,
        "trace_bytes": size,
        "own_cpu_ns": cpu_ns,
        "resident_bytes": resident,
    }
    return [
        Result(
            f"{forks:,} lives, attached: lost records",
            "0",
            f"{lost} ({forks / took_s:,.0f} forks/s for {took_s:.0f} s)",
            budgets.at_most(int(lost), 0),
            detail,
        ),
        Result(
            "    lives in the trace, reaped / forks counted",
            "equal",
            f"{reaped - 1:,} / {forks:,}",
            Verdict.MET if exact else Verdict.NOT_MET,
            {},
        ),
        Result(
            "    peak memory, last tenth less first",
            f"<= {budgets.MEMORY_GROWTH_MIB_PER_MILLION_LIVES:g} MiB",
            f"{growth:.1f} MiB ({first / MIB:.1f} -> {last / MIB:.1f} MiB)",
            budgets.at_most(growth, budgets.MEMORY_GROWTH_MIB_PER_MILLION_LIVES),
            {},
        ),
        Result(
            "    own CPU a life, its end included; trace",
            "",
            f"{cpu_ns / forks / 1000:.1f} us; {size / forks:.0f} bytes",
            Verdict.INFORMATION,
            {},
        ),
    ]
