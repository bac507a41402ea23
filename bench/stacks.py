# SPDX-License-Identifier: Apache-2.0
"""Measure a Python stack in BPF: a fork so many frames deep beside a fork of a C program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.probes import counted, counting
from bench.processes import ProcessFailed
from bench.tools import BY_KEY, observing
from bench.workloads import Programs, unobserved

DEPTHS = (5, 11, 31)
FORKS, SLICES = 50, 10
FORK_PROGRAMS = ("zb_fork", "zb_wake_up_new")  # a tracepoint's, a kprobe's


def measure(programs: Programs, rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Return ns of a fork's program and of all programs a process, a value a round.

    Frames are the keys, "0" is C; `unobserved_ns` are turns of the fork loop in C.
    """
    found: dict[str, Any] = {}
    tool = BY_KEY["zombiebpf-run"]
    with unobserved(programs) as stage:
        fork_loop = programs.command("fork_wait", FORKS, 4 * SLICES)
        found["unobserved_ns"] = [stage.run(fork_loop).median_ns for _ in range(rounds)]
    with counting(), observing(tool, programs, programs.directory.parent) as observation:
        for number in range(rounds):
            progress(f"Python stacks in BPF, round {number + 1} of {rounds}")
            commands = {"0": programs.command("fork_wait", FORKS, SLICES)}
            for depth in DEPTHS:
                commands[str(depth)] = programs.command("python_fork", FORKS, SLICES, depth)
            for name, command in commands.items():
                ran = counted(observation, command)
                fork = [each for each in ran if each.startswith(FORK_PROGRAMS)]
                if not fork:
                    raise ProcessFailed(f"no BPF program of forks ran, only {sorted(ran)}")
                entry = found.setdefault(name, {"fork_ns": [], "all_ns": []})
                entry["fork_ns"].append(sum(ran[each]["ns"] for each in fork))
                entry["all_ns"].append(sum(each["ns"] for each in ran.values()))
    return found
