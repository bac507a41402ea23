# SPDX-License-Identifier: Apache-2.0
"""Measure what many running processes cost `zombiebpf attach -o`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench import processes
from bench.processes import Process, ended
from bench.tools import ZOMBIEBPF
from bench.workloads import Programs

COUNTS, QUICK_COUNTS = (10, 100, 1_000, 10_000), (10, 1_000)


def measure(
    programs: Programs, counts: Sequence[int], seconds: float, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Return time and CPU to ready, and CPU a minute afterwards, for each number of processes."""
    directory = programs.directory.parent
    found = {}
    for count in counts:
        progress(f"attach to {count:,} running processes")
        parent = Process(
            programs.command("many_alive", count), subprocess.PIPE, subprocess.PIPE,
            directory / "alive-errors",
        )  # fmt: skip
        with ended(parent):
            parent.line()
            observer = Process(
                [ZOMBIEBPF, "attach", str(parent.pid), "--force", "-o", str(directory / "alive")],
                stderr=directory / "attach-errors",
            )
            with ended(observer):
                found[str(count)] = _observe(observer, seconds)
                parent.finish(60)
                code = observer.finish(60)
                if code != 0:
                    raise processes.ProcessFailed(observer.problem(f"ended with {code}"))
    return found


def _observe(observer: Process, seconds: float) -> dict[str, float]:
    observer.wait_until(lambda: "attached" in observer.errors(), "ready")
    ready_s = (time.monotonic_ns() - observer.started_ns) / 1e9
    own = processes.tree(observer.pid)
    ready_cpu_s = processes.cpu_ns(own) / 1e9
    time.sleep(1)  # what it has to do once
    before, began = processes.cpu_ns(own), time.monotonic_ns()
    time.sleep(seconds)
    used, took = processes.cpu_ns(own) - before, time.monotonic_ns() - began
    return {
        "ready_s": ready_s,
        "ready_cpu_s": ready_cpu_s,
        "idle_s_per_min": used / took * 60,
        "pss_bytes": processes.pss_bytes(own),
    }
