# SPDX-License-Identifier: Apache-2.0
"""The workloads: small programs that do one thing and time it themselves, and their stage."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.processes import LINE_S, Process, ProcessFailed, ended

SOURCES = Path(__file__).with_name("workloads")
SLICE_NS = 2_500_000


class Timing(NamedTuple):
    """What a workload printed of its slices of work."""

    operations: int  # in a slice
    elapsed_ns: list[int]  # CLOCK_MONOTONIC, a slice each
    cpu_ns: list[int]  # its own and its reaped children's

    @property
    def total(self) -> int:
        """Operations in all slices."""
        return self.operations * len(self.elapsed_ns)

    @property
    def fastest_ns(self) -> float:
        """Time of one operation in the slice that other work disturbed least."""
        return min(self.elapsed_ns) / self.operations

    @property
    def median_ns(self) -> float:
        """Time of one operation in the median slice."""
        return median(self.elapsed_ns) / self.operations

    @property
    def cpu_mean_ns(self) -> float:
        """CPU time of one operation over all slices."""
        return sum(self.cpu_ns) / self.total


class Programs:
    """The workloads, compiled or copied into a directory that every user can read."""

    def __init__(self, directory: Path) -> None:
        """Build them. ProcessFailed if the compiler refuses one."""
        self.directory = directory
        directory.chmod(0o755)  # the observer runs its command as whoever called sudo
        for source in sorted(SOURCES.glob("*.c")):
            command = ["cc", "-O2", "-std=gnu11", "-pthread", "-Wall", "-Werror"]
            command += ["-o", str(directory / source.stem), str(source)]
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                raise ProcessFailed(f"cc refused {source.name}: {done.stderr.strip()[:200]}")
        for source in [*SOURCES.glob("*.py"), *SOURCES.glob("*.sh")]:
            shutil.copy(source, directory)
        self._counts: dict[str, int] = {}

    def command(self, name: str, *arguments: object) -> list[str]:
        """Return the command of a workload."""
        program = self.directory / name
        start = [str(program)] if program.exists() else [sys.executable, f"{program}.py"]
        return [*start, *map(str, arguments)]

    @property
    def stage(self) -> list[str]:
        """The command of a stage."""
        return ["/bin/sh", str(self.directory / "stage.sh")]

    def operations(self, name: str) -> int:
        """Return how many operations of a workload take a slice's time on this machine."""
        if name not in self._counts:
            with unobserved(self) as stage:
                count = 1
                while True:
                    timing = stage.run(self.command(name, count, 3))
                    if min(timing.elapsed_ns) >= SLICE_NS // 10:
                        break
                    count *= 10
            self._counts[name] = max(1, round(SLICE_NS / timing.fastest_ns))
        return self._counts[name]


class Stage:
    """A shell that runs workloads one after another, under an observer or not."""

    def __init__(self, process: Process) -> None:
        """Wait until the shell runs. `process` is the shell, or the observer that started it."""
        self._process = process
        self.pid = int(process.line())  # the shell's

    def run(
        self,
        command: Sequence[str],
        ready: Callable[[], None] = lambda: None,
        done: Callable[[], None] = lambda: None,
        timeout_s: float = LINE_S,
    ) -> Timing:
        """Run a workload; `ready` is called right before its timed work, `done` right after.

        ProcessFailed if it fails, or its timed work takes longer than `timeout_s`.
        """
        self.begin(command)
        ready()
        self.go()
        printed = self._process.line(timeout_s)
        done()
        return parse(printed)

    def begin(self, command: Sequence[str]) -> None:
        """Start a workload, and wait until it is ready. ProcessFailed if it does not get so."""
        line = self.say(command)
        if line != "ready":
            raise ProcessFailed(f"{command[0]} printed {line[:100]!r}")

    def say(self, command: Sequence[str]) -> str:
        """Start a command; return the first line that it prints."""
        self._process.write(shlex.join(command))
        return self._process.line()

    def go(self) -> None:
        """Let the workload that is ready do its work."""
        self._process.write("")

    def line(self) -> str:
        """Return the next line that the workload prints."""
        return self._process.line()


def parse(printed: str) -> Timing:
    """Return the line that a workload ends with. ProcessFailed if it is another one."""
    try:
        line = json.loads(printed)
        return Timing(int(line["operations"]), list(line["elapsed_ns"]), list(line["cpu_ns"]))
    except (ValueError, KeyError, TypeError):
        raise ProcessFailed(f"a workload printed {printed[:100]!r}") from None


@contextmanager
def unobserved(programs: Programs) -> Iterator[Stage]:
    """Yield a stage that nobody observes."""
    process = Process(programs.stage, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with ended(process):
        yield Stage(process)
        process.finish(10)
