# SPDX-License-Identifier: Apache-2.0
"""The workloads: small C programs that do one thing and time it themselves."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from statistics import median
from typing import NamedTuple

SOURCES = Path(__file__).with_name("workloads")


class Timing(NamedTuple):
    """What a workload printed of its slices of work."""

    operations: int  # in a slice
    elapsed_ns: list[int]  # CLOCK_MONOTONIC, a slice each
    cpu_ns: list[int]  # its own and its reaped children's; empty if the workload does not print it

    @property
    def fastest_ns(self) -> float:
        """An operation's time in the slice that other work disturbed least."""
        return min(self.elapsed_ns) / self.operations

    @property
    def median_ns(self) -> float:
        """An operation's time in the median slice."""
        return median(self.elapsed_ns) / self.operations

    @property
    def cpu_median_ns(self) -> float:
        """An operation's CPU time in the median slice."""
        return median(self.cpu_ns) / self.operations


def build(directory: Path) -> None:
    """Compile every workload into `directory`, which others can then run from.

    Raises subprocess.CalledProcessError when the compiler refuses one.
    """
    directory.chmod(0o755)  # the observer runs its command as whoever called sudo
    for source in sorted(SOURCES.glob("*.c")):
        output = directory / source.stem
        subprocess.run(
            ["cc", "-O2", "-std=gnu11", "-Wall", "-Werror", "-o", str(output), str(source)],
            check=True,
        )


def parse(printed: str) -> Timing:
    """The line a workload ends with. Raises ValueError or KeyError if there is none."""
    line = json.loads(printed.strip().splitlines()[-1])
    return Timing(int(line["operations"]), list(line["elapsed_ns"]), list(line.get("cpu_ns", [])))


def run(program: Path, operations: int, slices: int) -> Timing:
    """Run a workload by itself. Raises subprocess.CalledProcessError if it fails."""
    done = subprocess.run(
        [str(program), str(operations), str(slices)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return parse(done.stdout)
