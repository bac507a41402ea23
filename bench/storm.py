# SPDX-License-Identifier: Apache-2.0
"""Measure a fork storm on all CPUs: who sees how much of it, at what cost."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

from bench.overhead import OwnCpu
from bench.processes import ProcessFailed
from bench.tools import BY_KEY, Tool, observing
from bench.workloads import Programs

SECONDS, LONG_SECONDS = 3, 30
QUICK_SECONDS, QUICK_LONG_SECONDS = 1, 5


def measure(
    programs: Programs,
    tools: Sequence[Tool],
    seconds: int,
    long_seconds: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Return forks and processes seen: of each tool, and of `zombiebpf run` for longer."""
    name = f"storm{os.getpid()}"  # other processes of the machine have other names
    shutil.copy(programs.directory / "fork_storm", programs.directory / name)
    found: dict[str, Any] = {}
    for tool in tools:
        progress(f"a fork storm of {seconds} s, {tool.name}")
        try:
            found[tool.key] = _storm(tool, programs, name, seconds)
        except ProcessFailed as failure:
            found[tool.key] = {"error": str(failure)}
    progress(f"a fork storm of {long_seconds} s, zombiebpf run")
    long = _storm(BY_KEY["zombiebpf-run"], programs, name, long_seconds)
    return {"tools": found, "long": long}


def _storm(tool: Tool, programs: Programs, name: str, seconds: int) -> dict[str, Any]:
    with observing(tool, programs, programs.directory.parent) as observation:
        watch = OwnCpu(observation)
        watch.begin()
        observation.stage.say(programs.command(name, seconds))
        forks = int(json.loads(observation.stage.line())["operations"])
        watch.end()
        output = observation.output
    found = {
        "seconds": seconds,
        "forks": forks,
        "seen": tool.count(output, name) - 1,  # the storm's first process was not forked by it
        "own_us": watch.used_ns / forks / 1000,
    }
    if tool.key == "zombiebpf-run":
        found["lost"] = lost_records(output.read_text(encoding="utf-8"))
    return found


def lost_records(report: str) -> int:
    """Return what the last line of zombiebpf's report of lines says was lost."""
    meta = json.loads(report.rstrip("\n").rpartition("\n")[2])["meta"]
    return int(meta["lost_events"])
