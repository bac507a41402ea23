# SPDX-License-Identifier: Apache-2.0
"""What writing the trace costs a life, and whether memory stays flat over a million."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import budgets
from bench.budgets import Result, Verdict
from zombiebpf.model.analysis import Meta
from zombiebpf.model.life import Actor, Execution, Life, LifeRow, PidNamespace, ReapCall, ReapedBy
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.trace import TraceWriter

LIVES = 1_000_000
BATCH = 200  # lives that come at a time, as from the ring buffer in a storm
ALIVE = 100  # that go on all the time
MIB = 1024 * 1024


def trace(directory: Path, progress: Callable[[str], None]) -> list[Result]:
    """In a process of its own, so that nothing else is in its memory."""
    progress(f"a trace of {LIVES:,} lives")
    output = subprocess.run(
        [sys.executable, "-m", "bench.trace", str(directory / "trace.db")],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
    ).stdout
    cpu_ns, wall_ns, size, *resident = map(int, output.split())
    tenth = len(resident) // 10
    first, last = max(resident[: tenth + 1]), max(resident[-tenth:])
    growth = (last - first) / MIB
    detail = {"cpu_ns": cpu_ns, "wall_ns": wall_ns, "bytes": size, "resident_bytes": resident}
    return [
        Result(
            f"trace of {LIVES:,} lives: CPU a life",
            "",
            f"{cpu_ns / LIVES / 1000:.1f} us ({LIVES / wall_ns * 1e9:,.0f} lives/s)",
            Verdict.INFORMATION,
            detail,
        ),
        Result("    its file, a life", "", f"{size / LIVES:.0f} bytes", Verdict.INFORMATION, {}),
        Result(
            "    peak memory, last tenth less first",
            f"<= {budgets.MEMORY_GROWTH_MIB_PER_MILLION_LIVES:g} MiB",
            f"{growth:.1f} MiB (of {last / MIB:.0f} MiB)",
            budgets.at_most(growth, budgets.MEMORY_GROWTH_MIB_PER_MILLION_LIVES),
            {},
        ),
    ]


def main(path: str) -> None:
    """Write the trace; print CPU ns, wall ns, its size, and resident bytes over time.

    Making the lives is not counted.
    """
    meta = Meta("0", "0", {}, {}, 0, 0, ["storm"])
    alive = [_life(pid, 0) for pid in range(1, ALIVE + 1)]
    resident: list[int] = []
    cpu_ns = wall_ns = 0
    with TraceWriter(path, meta) as writer:
        for number, batch in enumerate(_batches()):
            cpu, wall = time.process_time_ns(), time.monotonic_ns()
            writer.add([LifeRow.of(each) for each in batch])
            if writer.due:
                writer.flush(() if number else map(LifeRow.of, alive))
            cpu_ns += time.process_time_ns() - cpu
            wall_ns += time.monotonic_ns() - wall
            if number % 50 == 0:
                resident.append(_resident_bytes())
        writer.close(meta)
        assert writer.problem is None, writer.problem
    print(cpu_ns, wall_ns, os.path.getsize(path), *resident)


def _batches() -> Iterator[list[Life]]:
    for start in range(0, LIVES, BATCH):
        yield [_life(ALIVE + 1 + each % 4_000_000, each) for each in range(start, start + BATCH)]


def _life(pid: int, number: int) -> Life:
    """Return a life as of a loop: forked at one of few places, with Python stacks."""
    ns = 10**12 + number * 10_000
    parent = Actor(7, 7, "python3")
    ended: dict[str, Any] = {} if pid <= ALIVE else {
        "exit_ns": ns + 900_000, "zombie_ns": ns + 950_000, "reap_ns": ns + 1_000_000,
        "wait_status": 0, "reaper": parent, "reaped_by": ReapedBy.PARENT,
        "reap_call": ReapCall("wait4", 0, ns + 100, 999_900, "join", _STACKS[number % 7]),
    }  # fmt: skip
    return Life(
        pid, ns, "worker", ("worker", "--number", str(number % 50)), False,
        PidNamespace(4026531836, pid), "/system.slice/app.service", parent, ns,
        _STACKS[number % 20], None, execs=(Execution(ns + 50, "/usr/bin/worker"),),
        **ended,
    )  # fmt: skip


def _stacks() -> list[Stack]:
    return [
        Stack(tuple(Frame(f"function_{each}", "/srv/app.py", line) for each in range(11)))
        for line in range(20)
    ]


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    _STACKS = _stacks()
    main(sys.argv[1])
