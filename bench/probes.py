# SPDX-License-Identifier: Apache-2.0
"""Measure zombiebpf's BPF programs by the kernel's own accounts (kernel.bpf_stats_enabled).

The kernel counts each program's runs and their time; counting itself takes time. A program
that another one tail-calls counts as part of that one.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from bench.processes import ProcessFailed
from bench.tools import BY_KEY, Observation, observing
from bench.workloads import Programs

STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
TOOLS = ("zombiebpf-run", "zombiebpf-attach-o")
WORKLOADS = ("fork_wait", "python_join")
SLICES, QUICK_SLICES = 160, 40


class Count(NamedTuple):
    """What one program did."""

    runs: int
    ns: int


def measure(programs: Programs, slices: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Return for each command and workload: program -> runs and ns a process."""
    found: dict[str, Any] = {}
    with counting():
        for key in TOOLS:
            tool = BY_KEY[key]
            with observing(tool, programs, programs.directory.parent) as observation:
                for name in WORKLOADS:
                    progress(f"BPF programs, {name} under {tool.name}")
                    command = programs.command(name, programs.operations(name), slices)
                    found.setdefault(key, {})[name] = counted(observation, command)
    return found


@contextmanager
def counting() -> Iterator[None]:
    """Let the kernel count. ProcessFailed if it cannot."""
    try:
        before = STATS.read_text(encoding="ascii")
        STATS.write_text("1", encoding="ascii")
    except OSError as error:
        raise ProcessFailed(f"the kernel does not count BPF programs' time: {error}") from None
    try:
        yield
    finally:
        STATS.write_text(before, encoding="ascii")


def counted(observation: Observation, command: Sequence[str]) -> dict[str, dict[str, float]]:
    """Run a workload; return for each program that ran its runs and ns an operation."""
    counts: list[dict[str, Count]] = []

    def count() -> None:
        counts.append(_count(observation.process.pid))

    timing = observation.stage.run(command, count, count)
    before, after = counts
    found = {}
    for name, end in after.items():
        start = before.get(name, Count(0, 0))
        if end.runs > start.runs:
            runs, ns = end.runs - start.runs, end.ns - start.ns
            found[name] = {"runs": runs / timing.total, "ns": ns / timing.total}
    return found


def _count(pid: int) -> dict[str, Count]:
    """Return what the programs did that a process holds, by name."""
    held: set[int] = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(OSError):
            text = info.read_text(encoding="ascii")
            held.update(map(int, re.findall(r"^prog_id:\s*(\d+)", text, re.MULTILINE)))
    command = ["bpftool", "-j", "prog", "show"]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    found: dict[str, Count] = {}
    for each in json.loads(shown):
        if each["id"] in held:
            other = found.get(each["name"], Count(0, 0))
            found[each["name"]] = Count(
                other.runs + int(each.get("run_cnt", 0)), other.ns + int(each.get("run_time_ns", 0))
            )
    return found
