# SPDX-License-Identifier: Apache-2.0
"""Measure zombiebpf's memory over a million processes: is it flat, and is nothing lost?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from bench import processes
from bench.tools import BY_KEY, observing
from bench.workloads import Programs

COUNT, QUICK_COUNT = 1_000_000, 10_000
TOOLS = ("zombiebpf-run", "zombiebpf-attach-o")
SLICES = 100
EVERY_S = 0.2
LIMIT_S = 1200.0


def measure(programs: Programs, count: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Return for both commands the memory over time, and how many processes they saw."""
    found = {}
    for key in TOOLS:
        tool = BY_KEY[key]
        progress(f"{count:,} processes past {tool.name}: a million take some minutes")
        with observing(tool, programs, programs.directory.parent) as observation:
            samples: list[int] = []
            done = threading.Event()
            watcher = threading.Thread(
                target=_sample, args=(observation.own(), samples, done), daemon=True
            )
            command = programs.command("fork_wait", count // SLICES, SLICES)
            before = processes.cpu_ns(observation.own())
            try:
                timing = observation.stage.run(command, ready=watcher.start, timeout_s=LIMIT_S)
            finally:
                done.set()
            watcher.join()
            used = processes.cpu_ns(observation.own()) - before
            output = observation.output
        forks = timing.total + timing.operations  # the first slice warms up
        found[key] = {
            "forks": forks,
            "seen": tool.count(output, "fork_wait") - 1,  # the workload itself
            "own_us": used / forks / 1000,
            "resident_bytes": samples[:: max(1, len(samples) // 200)],
            "growth_bytes": growth(samples),
        }
        output.unlink()
    return found


def _sample(pids: Sequence[int], samples: list[int], done: threading.Event) -> None:
    while not done.wait(EVERY_S):
        samples.append(sum(map(processes.rss_bytes, pids)))


def growth(samples: Sequence[int]) -> int:
    """Return the peak of the last tenth less the peak of the first; 0 for fewer than two."""
    if len(samples) < 2:
        return 0
    tenth = max(1, len(samples) // 10)
    return max(samples[-tenth:]) - max(samples[:tenth])
