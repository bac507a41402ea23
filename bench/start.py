# SPDX-License-Identifier: Apache-2.0
"""Measure starts: whole commands beside those of other tools, time to ready, where it goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import tools
from bench.processes import ProcessFailed, error_line
from bench.tools import BY_KEY, PRINT, ZOMBIEBPF
from bench.workloads import Programs

_TRUE = "/bin/true"
# Python 3.9 does not name its modules: they are listed one by one there.
_STANDARD: Collection[str] = getattr(sys, "stdlib_module_names", sys.builtin_module_names)
READY = ("zombiebpf-run", "zombiebpf-attach", "zombiebpf-attach-o")


class Used(NamedTuple):
    """What one command took, its children included."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int  # of the largest process; at least the bench's own


def run(command: Sequence[str], environ: Mapping[str, str] = os.environ) -> Used:
    """Run a command to its end. ProcessFailed if it fails."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=environ,
    )  # fmt: skip
    assert process.stderr is not None
    with process.stderr:
        errors = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        name = Path(command[0]).name
        raise ProcessFailed(f"{name} ended with {process.returncode}: {error_line(errors)}")
    wall = time.monotonic() - began
    return Used(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def measure(programs: Programs, rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Return wall and CPU seconds of each command and seconds to ready, a value a round."""
    directory = programs.directory.parent
    data = str(directory / "start")
    zombiebpf_run = [ZOMBIEBPF, "run", "--report", "/dev/null", "--", _TRUE]
    commands = {
        "zombiebpf --version": [ZOMBIEBPF, "--version"],
        "zombiebpf --help": [ZOMBIEBPF, "--help"],
        "zombiebpf run true": zombiebpf_run,
        "bpftrace -c true": ["bpftrace", "-q", "-o", data, "-c", _TRUE, "-e", PRINT],
        "perf record true": ["perf", "record", "-q", "-a", "-e", tools.EVENTS, "-o", data, _TRUE],
        "perf trace true": ["perf", "trace", "-e", tools.CALLS, "-o", data, _TRUE],
        "strace -f true": ["strace", "-f", "-e", f"trace={tools.CALLS}", "-o", data, _TRUE],
        "python3 -c pass": [sys.executable, "-c", "pass"],
    }
    run(zombiebpf_run)  # the programs are compiled and the kernel's facts kept from here on
    found: dict[str, dict[str, Any]] = {}
    ready: dict[str, list[float]] = {key: [] for key in READY}
    for number in range(rounds):
        progress(f"starts, round {number + 1} of {rounds}")
        for name, command in commands.items():
            entry = found.setdefault(name, {"wall_s": [], "cpu_s": []})
            if "error" in entry:
                continue
            try:
                used = run(command)
            except (ProcessFailed, OSError) as failure:
                entry["error"] = str(failure)
                continue
            entry["wall_s"].append(used.wall_s)
            entry["cpu_s"].append(used.cpu_s)
        for key in READY:
            with tools.observing(BY_KEY[key], programs, directory) as observation:
                ready[key].append(observation.ready_s)
    progress("a start that compiles the probes")
    compiling = run(zombiebpf_run, {**os.environ, "ZOMBIEBPF_CACHE": ""})
    return {
        "commands": found,
        "ready_s": ready,
        "compiling": compiling._asdict(),
        "split": _split(rounds, directory / "parts", progress),
    }


def _split(rounds: int, file: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """Return the parts of `run true` and its imports: CPU ms, a value a round."""
    parts: dict[str, list[float]] = {}
    imports: dict[str, list[float]] = {}
    python = [sys.executable, "-X", "importtime", "-m"]
    for number in range(rounds):
        progress(f"where the start goes, round {number + 1} of {rounds}")
        _python([sys.executable, "-m", "bench.split", "start", str(file), _TRUE])
        for name, ms in json.loads(file.read_text(encoding="utf-8")).items():
            parts.setdefault(name, [0.0] * number).append(ms)
        printed = _python([*python, "zombiebpf", "run", "--report", os.devnull, "--", _TRUE])
        for package, ms in import_times(printed).items():
            imports.setdefault(package, [0.0] * number).append(ms)
    return {"parts": parts, "imports": imports}


def _python(command: Sequence[str]) -> str:
    """Return what a command writes to standard error. ProcessFailed if it fails."""
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise ProcessFailed(f"the start's parts: {error_line(done.stderr)}")
    return done.stderr


def import_times(printed: str) -> dict[str, float]:
    """Add up what `python -X importtime` printed, by top package: ms of each module's own code."""
    found: dict[str, float] = {}
    for line in printed.splitlines():
        columns = line.removeprefix("import time:").split("|")
        if not line.startswith("import time:") or not columns[0].strip().isdigit():
            continue
        package = columns[2].strip().partition(".")[0]
        if package in _STANDARD or package.lstrip("_") in _STANDARD:
            package = "Python's own modules"
        found[package] = found.get(package, 0.0) + int(columns[0]) / 1000
    return found
