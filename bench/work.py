# SPDX-License-Identifier: Apache-2.0
"""Measure what `zombiebpf run` does for a process, stage by stage."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.processes import ProcessFailed, error_line
from bench.split import OUTSIDE
from bench.workloads import Programs

WORKLOADS = ("fork_wait", "python_join")
PROCESSES = {"fork_wait": 40_000, "python_join": 4_000}
QUICK_SHARE = 10


def measure(
    programs: Programs, rounds: int, quick: bool, progress: Callable[[str], None]
) -> dict[str, dict[str, list[float]]]:
    """Return workload -> part -> CPU us a process, a value a round."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in WORKLOADS}
    file = programs.directory / "work"
    for number in range(rounds):
        for name in WORKLOADS:
            progress(f"where own CPU goes, {name}, round {number + 1} of {rounds}")
            count = PROCESSES[name] // (QUICK_SHARE if quick else 1)
            workload = shlex.join(programs.command(name, count, 1))
            command = ["sh", "-c", f"echo | {workload}"]
            done = subprocess.run(
                [sys.executable, "-m", "bench.split", "work", str(file), *command],
                cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                text=True, check=False,
            )  # fmt: skip
            if done.returncode != 0:
                raise ProcessFailed(f"own CPU of {name}: {error_line(done.stderr)}")
            for part, ms in json.loads(file.read_text(encoding="utf-8")).items():
                if part not in (OUTSIDE, "not in these"):
                    found[name].setdefault(part, []).append(1000 * ms / count)
    return found
