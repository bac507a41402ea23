# SPDX-License-Identifier: Apache-2.0
"""What capturing Python stacks costs: in BPF by the kernel's own accounts, and a program.

The kernel counts each BPF program's runs and their time (kernel.bpf_stats_enabled).
A Python program forks some frames deep, a C program forks without any Python; what a
run of the fork's program takes more in Python is the capture of one stack. The counting
itself takes time, alike in both.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench import budgets, workloads
from bench.budgets import Result, Verdict
from bench.observer import ObserverFailed, observing
from bench.overhead import Comparison

DEPTHS = (5, 11, 31)
JUDGED = 11
BATCHES, FORKS = 12, 200  # batches, and forks in one
SLICES, JOINS = 40, 8  # timed slices of a phase, and joins in one
SOURCES = Path(__file__).with_name("workloads")
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


class Count(NamedTuple):
    """BPF programs until now."""

    forks: int  # runs of the fork's program
    fork_ns: int  # all of them
    all_ns: int  # all programs

    def less(self, other: Count) -> Count:
        return Count(*(one - two for one, two in zip(self, other)))


class Run(NamedTuple):
    """Of one workload."""

    fork_ns: float  # a run of the fork's program
    all_ns: float  # of all programs, a fork


def stacks(programs: Path, rounds: int, progress: Callable[[str], None]) -> list[Result]:
    """Some seconds a depth, then A-B-A rounds of a Python program."""
    try:
        with _counting():
            progress("BPF time without Python")
            again = 'while read _; do "$@"; done'
            in_c = ["sh", "-c", again, "sh", str(programs / "fork_wait"), str(FORKS), "1"]
            without = _measure(in_c, programs)
            per_depth = {}
            for depth in DEPTHS:
                progress(f"BPF time, Python {depth} frames deep")
                command = [sys.executable, str(SOURCES / "python_fork.py"), str(FORKS), str(depth)]
                per_depth[depth] = _measure(command, programs)
    except OSError as error:
        results = [_not_counted(error)]
    else:
        results = [_of_depth(depth, run, without) for depth, run in per_depth.items()]
    return [*results, _join_loop(programs, rounds, progress)]


@contextmanager
def _counting() -> Iterator[None]:
    before = STATS.read_text(encoding="ascii")
    STATS.write_text("1", encoding="ascii")
    try:
        yield
    finally:
        STATS.write_text(before, encoding="ascii")


def _measure(command: list[str], programs: Path) -> Run:
    """`command` forks FORKS times at each line it is sent: the batch least disturbed."""
    counts = []
    with observing(command, programs) as observer:
        for _ in range(BATCHES + 1):
            observer.answer()
            counts.append(_count(observer.pid))
        observer.finish()
    batches = [after.less(before) for before, after in zip(counts, counts[1:])]
    return Run(
        fork_ns=min(each.fork_ns / each.forks for each in batches),
        all_ns=min(each.all_ns / each.forks for each in batches),
    )


def _count(pid: int) -> Count:
    own = _bpf_programs(pid)
    fork = own.get("zb_fork")
    if fork is None or not fork.get("run_cnt"):
        raise ObserverFailed(f"no BPF program of forks that ran: {sorted(own)}")
    total = sum(int(each.get("run_time_ns", 0)) for each in own.values())
    return Count(int(fork["run_cnt"]), int(fork["run_time_ns"]), total)


def _bpf_programs(pid: int) -> dict[str, dict[str, Any]]:
    """Those that a process holds, by name; a walk's later stages count as their first's time."""
    held = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        match = re.search(r"^prog_id:\s*(\d+)", info.read_text(encoding="ascii"), re.MULTILINE)
        if match:
            held.add(int(match[1]))
    shown = subprocess.run(["bpftool", "-j", "prog", "show"], check=True, stdout=subprocess.PIPE)
    return {each["name"]: each for each in json.loads(shown.stdout) if each["id"] in held}


def _of_depth(depth: int, run: Run, without: Run) -> Result:
    capture_us = (run.fork_ns - without.fork_ns) / 1000
    life_us = (run.all_ns - without.all_ns) / 1000
    judged = depth == JUDGED
    base_us = without.all_ns / 1000
    return Result(
        f"Python stack of {depth} frames, in BPF",
        f"<= {budgets.STACK_US:g} us" if judged else "",
        f"{capture_us:.1f} us (all of a life: {life_us:.1f} us on top of {base_us:.1f})",
        budgets.at_most(capture_us, budgets.STACK_US) if judged else Verdict.INFORMATION,
        {"run": run._asdict(), "without": without._asdict()},
    )


def _not_counted(error: OSError) -> Result:
    return Result(
        f"Python stack of {JUDGED} frames, in BPF",
        f"<= {budgets.STACK_US:g} us",
        f"not measured: {error}",
        Verdict.NOT_MET,
        {},
    )


def _join_loop(programs: Path, rounds: int, progress: Callable[[str], None]) -> Result:
    """multiprocessing's start() and join() in a process that is followed."""
    command = [sys.executable, str(SOURCES / "python_join.py"), str(JOINS), str(SLICES)]

    def unobserved() -> workloads.Timing:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return workloads.parse(done.stdout)

    compared = Comparison([unobserved()], [])
    for number in range(rounds):
        progress(f"Process.start() + join(), round {number + 1} of {rounds}")
        with observing(command, programs) as observer:
            compared.observed.append(workloads.parse(observer.finish()))
        compared.unobserved.append(unobserved())
    return compared.result(
        "Process.start() + join() followed", budgets.PYTHON_LOOP_RATIO, followed=True
    )
