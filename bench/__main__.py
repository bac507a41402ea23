# SPDX-License-Identifier: Apache-2.0
"""python -m bench: measure, print the table, write bench/results.json.

Exits 0 when every budget was met or missed within noise, 1 when one was not
met, 70 when the observer failed, 77 without root.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from bench import memory, overhead, stacks, startup, storm, trace, workloads
from bench.budgets import Result, Verdict
from bench.observer import ObserverFailed

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "what",
        nargs="?",
        choices=("budgets", "memory"),
        default="budgets",
        help="memory: a million lives past one observer, some minutes (default: all budgets)",
    )
    parser.add_argument("--lives", type=int, default=1_000_000, help="memory: default a million")
    parser.add_argument("--rounds", type=int, default=7, help="A-B-A rounds (default: 7)")
    parser.add_argument("--storm-seconds", type=int, default=10, help="default: 10")
    parser.add_argument(
        "--output", type=Path, default=HERE / "results.json", help="default: bench/results.json"
    )
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: observing needs root: sudo make bench", file=sys.stderr)
        return 77
    try:
        with tempfile.TemporaryDirectory(prefix="zombiebpf-bench-") as directory:
            results = (
                measure(Path(directory), arguments.rounds, arguments.storm_seconds)
                if arguments.what == "budgets"
                else million(Path(directory), arguments.lives)
            )
    except ObserverFailed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 70
    print_table(results)
    write_json(results, arguments.output)
    return 1 if any(each.verdict is Verdict.NOT_MET for each in results) else 0


def measure(programs: Path, rounds: int, storm_seconds: int) -> list[Result]:
    """Everything, in about half a minute plus 10 s a round."""
    workloads.build(programs)
    attach, idle = startup.startup(programs, rounds, progress)
    return [
        overhead.fork_loop(programs, rounds, progress),
        *overhead.unrelated(programs, rounds, progress),
        *overhead.unrelated(programs, rounds, progress, python=True),
        *stacks.stacks(programs, rounds, progress),
        *storm.storm(programs, storm_seconds, idle, progress),
        *trace.trace(programs, progress),
        attach,
    ]


def million(programs: Path, lives: int) -> list[Result]:
    """What takes too long to be measured each time."""
    workloads.build(programs)
    return memory.memory(programs, lives, progress)


def progress(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


def print_table(results: list[Result]) -> None:
    rows = [("measured", "budget", "result", "verdict")]
    rows += [(each.name, each.budget, each.measured, each.verdict.value) for each in results]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    print(f"\nLinux {platform.release()}, {os.cpu_count()} CPUs. Ratios: speed observed/unobserved")
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths))
        print("  ".join([*cells, row[3]]).rstrip())


def write_json(results: list[Result], output: Path) -> None:
    """The raw numbers; the file belongs to whoever owns its directory."""
    document = {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "results": [{**each._asdict(), "verdict": each.verdict.value} for each in results],
    }
    output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    owner = output.resolve().parent.stat()
    os.chown(output, owner.st_uid, owner.st_gid)
    print(f"raw numbers: {output}")


if __name__ == "__main__":
    sys.exit(main())
