# SPDX-License-Identifier: Apache-2.0
"""python -m bench [PART...]: measure, print the budgets, write the raw numbers.

A complete run writes docs/performance.md and docs/performance.svg, too. Exits 0 when every
budget that was measured is met or missed within noise, 1 when one is not met, 70 when a part
could not be measured, 77 without root.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Optional

from bench import (
    alive,
    budgets,
    machine,
    memory,
    overhead,
    page,
    probes,
    processes,
    reports,
    stacks,
    start,
    storm,
    tools,
    work,
)
from bench.budgets import Verdict
from bench.processes import ProcessFailed
from bench.workloads import Programs

HERE = Path(__file__).parent
ROOT = HERE.parent

Progress = Callable[[str], None]
# Part -> what measures it: with the programs, whether it is to be quick, and progress.
PARTS: dict[str, Callable[[Programs, bool, Progress], Any]] = {
    "start": lambda programs, quick, say: start.measure(programs, 2 if quick else 9, say),
    "tools": lambda programs, quick, say: overhead.measure(
        programs, overhead.QUICK if quick else overhead.FULL, say
    ),
    "work": lambda programs, quick, say: work.measure(programs, 1 if quick else 5, quick, say),
    "storm": lambda programs, quick, say: storm.measure(
        programs,
        overhead.QUICK.tools if quick else overhead.FULL.tools,
        storm.QUICK_SECONDS if quick else storm.SECONDS,
        storm.QUICK_LONG_SECONDS if quick else storm.LONG_SECONDS,
        say,
    ),
    "probes": lambda programs, quick, say: probes.measure(
        programs, probes.QUICK_SLICES if quick else probes.SLICES, say
    ),
    "stacks": lambda programs, quick, say: stacks.measure(programs, 2 if quick else 7, say),
    "alive": lambda programs, quick, say: alive.measure(
        programs, alive.QUICK_COUNTS if quick else alive.COUNTS, 2.0 if quick else 15.0, say
    ),
    "memory": lambda programs, quick, say: memory.measure(
        programs, memory.QUICK_COUNT if quick else memory.COUNT, say
    ),
    "reports": lambda programs, quick, say: reports.measure(
        programs, reports.QUICK_COUNTS if quick else reports.COUNTS, say
    ),
    "browser": lambda programs, quick, say: _browser(say),
}
NOT_QUICK = ("browser",)


def main() -> int:
    """Parse, measure, print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART",
        help=f"{', '.join(PARTS)} (default: all)")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="two minutes: less of everything")
    parser.add_argument("--results", type=Path, metavar="FILE",
        help="write the raw numbers to FILE (default: bench/results.json, or"
        " bench/results-partial.json if not all is measured)")  # fmt: skip
    parser.add_argument("--page-from", type=Path, metavar="FILE",
        help="measure nothing: write docs/performance.md and .svg from such a file")  # fmt: skip
    arguments = parser.parse_args()
    unknown = [each for each in arguments.parts if each not in PARTS]
    if unknown:
        parser.error(f"no part '{unknown[0]}'; choose from {', '.join(PARTS)}")
    if arguments.page_from is not None:
        return _page_from(arguments.page_from)
    if os.geteuid() != 0:
        print("bench: observing needs root: sudo make bench", file=sys.stderr)
        return 77
    parts = arguments.parts or list(PARTS)
    whole = set(parts) == set(PARTS) and not arguments.quick
    name = "results.json" if whole else "results-partial.json"
    results = arguments.results or HERE / name
    # a shell's background job ignores it, and so would the tools that it is to end
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    processes.adopt_orphans()
    try:
        document = measure(parts, arguments.quick, results)
    except ProcessFailed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 70
    except KeyboardInterrupt:
        print("bench: interrupted; everything that it started is ended", file=sys.stderr)
        return 128 + signal.SIGINT
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave processes
        processes.end_all()
    if whole:
        _write_page(document)
    return _print(document)


def _interrupt(number: int, frame: Optional[FrameType]) -> None:
    raise KeyboardInterrupt


def measure(parts: Sequence[str], quick: bool, results: Path) -> dict[str, Any]:
    """Measure the parts; after each one write what there is. A part that fails has an error."""
    began = time.monotonic()

    def progress(what: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        print(f"bench: {minutes:2}:{seconds:02} {what}", file=sys.stderr, flush=True)

    tools.environment()
    with tempfile.TemporaryDirectory(prefix="zombiebpf-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "programs").mkdir()
        programs = Programs(directory / "programs")
        document: dict[str, Any] = {
            "machine": machine.describe(directory), "quick": quick, "parts": {}, "errors": {},
        }  # fmt: skip
        for part in parts:
            if quick and part in NOT_QUICK and len(parts) > 1:
                continue
            try:
                document["parts"][part] = PARTS[part](programs, quick, progress)
            except (ProcessFailed, OSError, subprocess.CalledProcessError) as failure:
                document["errors"][part] = str(failure)
                progress(f"{part}: not measured: {failure}")
            document["took_s"] = round(time.monotonic() - began)
            _write(results, json.dumps(document, indent=1) + "\n")
    return document


def _browser(progress: Progress) -> list[list[str]]:
    """Return what bench.html prints, which runs as the owner of the clone."""
    progress("the HTML report in Chromium")
    done = subprocess.run(
        [str(ROOT / "tools" / "as-owner.sh"), sys.executable, "-m", "bench.html"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise ProcessFailed(processes.error_line(done.stderr))
    return [line.split("\t") for line in done.stdout.splitlines()]


def _write(file: Path, text: str) -> None:
    """Write a file that belongs to whoever owns its directory."""
    file.write_text(text, encoding="utf-8")
    owner = file.resolve().parent.stat()
    os.chown(file, owner.st_uid, owner.st_gid)


def _write_page(document: dict[str, Any]) -> None:
    for name, text in page.files(document).items():
        _write(ROOT / "docs" / name, text)
    print("written: docs/performance.md, docs/performance.svg")


def _page_from(results: Path) -> int:
    try:
        document = json.loads(results.read_text(encoding="utf-8"))
        _write_page(document)
    except (OSError, ValueError) as error:
        print(f"bench: {results}: {error}", file=sys.stderr)
        return 2
    return 0


def _print(document: dict[str, Any]) -> int:
    print("\n" + page.terminal(document))
    for part, error in document["errors"].items():
        print(f"{part}: not measured: {error}")
    judged = [row.verdict for row in budgets.rows(document)]
    if document["errors"]:
        return 70
    return 1 if Verdict.NOT_MET in judged else 0


if __name__ == "__main__":
    sys.exit(main())
