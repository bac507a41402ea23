# SPDX-License-Identifier: Apache-2.0
"""zombiebpf as a user starts it, and what it cost by the kernel's accounts."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Optional

PROGRAM = Path(__file__).resolve().parents[1] / ".venv" / "bin" / "zombiebpf"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ObserverFailed(Exception):
    """The observer did not do its part; the text is what it said."""


class Cost(NamedTuple):
    """The observer's own, without its command and that one's descendants."""

    cpu_ns: int  # user and system, to the kernel's tick (10 ms)
    peak_rss_bytes: int


def own_cpu_ns(pid: int) -> int:
    """User and system time of a process, a zombie perhaps, without its children's."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) * (1_000_000_000 // TICKS_PER_S)


class Report(NamedTuple):
    """What a run's report amounts to, read a line at a time."""

    meta: dict[str, Any]
    lives: int
    distinct: int  # (pid, start time) pairs
    whole: int  # lives with fork, exit, zombie and reap all seen


class Observer:
    """A running `zombiebpf run -- COMMAND`, whose standard output is `stdout`."""

    def __init__(self, command: list[str], report: Path) -> None:
        self._report = report
        self.started_ns = time.monotonic_ns()
        self._process = subprocess.Popen(
            [str(PROGRAM), "run", "--format", "jsonl", "--report", str(report), "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.stdout: IO[str] = self._process.stdout
        self.cost: Optional[Cost] = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def first_line(self) -> str:
        """What the command printed first: it is attached to. Raises ObserverFailed if it
        ended without."""
        line = self.stdout.readline()
        if not line:
            self.finish()
            raise ObserverFailed("the observed command printed nothing")
        return line

    def answer(self) -> str:
        """Send the command an empty line; the line it prints then. Raises ObserverFailed."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.first_line()

    def rss_bytes(self) -> int:
        """Resident memory now. Raises OSError once the observer has ended."""
        pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def finish(self) -> str:
        """End the command's input, wait for both to end: what it printed meanwhile.

        Raises ObserverFailed if the exit code is not 0.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        printed = self.stdout.read()
        # Held as a zombie, it still shows its own CPU time without its children's.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        cpu_ns = own_cpu_ns(self.pid)
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.cost = Cost(cpu_ns=cpu_ns, peak_rss_bytes=usage.ru_maxrss * 1024)
        self.stdout.close()
        if self._process.returncode != 0:
            raise ObserverFailed(f"zombiebpf run ended with {self._process.returncode}")
        return printed

    def report(self) -> Report:
        """The finished run's. Raises ObserverFailed if it was cut off."""
        meta: Optional[dict[str, Any]] = None
        seen: set[tuple[int, int]] = set()
        lives = whole = 0
        with self._report.open(encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if "meta" in entry:
                    meta = entry["meta"]
                    continue
                lives += 1
                seen.add((entry["pid"], entry["start_ns"]))
                stages = ("fork_ns", "exit_ns", "zombie_ns", "reap_ns")
                whole += all(entry[stage] is not None for stage in stages)
        if meta is None:
            raise ObserverFailed(f"no meta line at the end of {self._report}")
        return Report(meta, lives, len(seen), whole)

    def abandon(self) -> None:
        """For a bench that fails half-way: leave no observer behind."""
        if self._process.returncode is None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()


@contextmanager
def observing(command: list[str], directory: Path) -> Iterator[Observer]:
    """`zombiebpf run -- command`, ended whatever happens; its report lies in `directory`."""
    observer = Observer(command, directory / "report.jsonl")
    try:
        yield observer
    finally:
        observer.abandon()
