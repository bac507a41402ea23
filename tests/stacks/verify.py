# SPDX-License-Identifier: Apache-2.0
"""python -m tests.stacks: are the captured Python stacks the true ones?

Runs a workload with every Python found, under the observer. At each of its forks and
reaps it records what `traceback` returns on that very line; that is compared with the
report, frame by frame: function, file, line.

Exits 0 if all is right, 1 if a stack differs, is missing, or is incomplete without
cause, 70 if a run failed, 77 without root.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from tests.stacks import compare, pythons

PROGRAM = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "zombiebpf"
WORKLOAD = Path(__file__).resolve().parent / "workload" / "main.py"
PARTS = (
    "functions",
    "objects",
    "statements",
    "suspended",
    "generated",
    "callbacks",
    "processes",
    "broken",
)
DEADLINE_S = 300.0 * float(os.environ.get("ZOMBIEBPF_PATIENCE", "1"))  # more where it is emulated
FEWEST = 200  # captures of a whole run
SHOWN = 8  # differences of a Python


class RunFailed(Exception):
    """The workload or the observer did not do its part; the text is what it said."""


KILLED = 30  # by workload/broken.py


class Outcome(NamedTuple):
    """Of one Python."""

    python: pythons.Python
    seconds: float
    verdicts: Sequence[compare.Verdict]
    absent: Sequence[str]
    lost: int

    @property
    def wrong(self) -> list[compare.Verdict]:
        return [each for each in self.verdicts if each.difference is not None]

    @property
    def declared(self) -> int:
        """Incomplete ones that had to be."""
        return sum(each.incomplete and each.declared for each in self.verdicts)


def main(arguments: Sequence[str]) -> int:
    chosen = _parser().parse_args(arguments)
    if os.geteuid() != 0:
        print("stacks: observing needs root: sudo make stacks", file=sys.stderr)
        return 77
    found = _named(chosen.python) if chosen.only else pythons.installed() + _named(chosen.python)
    outcomes, failed = [], False
    for python in found:
        if python.unfit:
            print(f"{python}: left out, {python.unfit}", flush=True)
            continue
        try:
            outcome = verify(python, chosen.part, chosen.keep)
        except RunFailed as failure:
            failed = True
            print(f"{python}: {failure}", flush=True)
            continue
        outcomes.append(outcome)
        _print_differences(outcome, chosen.show)
    _print_table(outcomes)
    if failed or not outcomes:
        return 70
    few = () if chosen.part else [each for each in outcomes if len(each.verdicts) < FEWEST]
    for outcome in few:
        print(f"{outcome.python}: fewer than {FEWEST} captures")
    return 1 if few or any(each.wrong for each in outcomes) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stacks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--python", action="append", default=[], metavar="PATH", help="another one, too"
    )
    parser.add_argument("--only", action="store_true", help="only those named by --python")
    parser.add_argument(
        "--part", action="append", default=[], choices=PARTS, help="only this of the workload"
    )
    parser.add_argument(
        "--show", type=int, default=SHOWN, help="differences shown of each (default: %(default)s)"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIRECTORY", help="leave records and reports there"
    )
    return parser


def _named(programs: Sequence[str]) -> list[pythons.Python]:
    found = []
    for program in programs:
        python = pythons.ask(program)
        if python is None:
            raise SystemExit(f"stacks: {program} is no Python that runs")
        found.append(python)
    return found


def verify(python: pythons.Python, parts: Sequence[str], keep: Optional[Path]) -> Outcome:
    """Run the workload under the observer and compare. RunFailed."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="zombiebpf-stacks-") as own:
        directory = own if keep is None else str(keep / "-".join(map(str, python.version)))
        os.makedirs(directory, exist_ok=True)
        records, report = Path(directory, "records.jsonl"), Path(directory, "report.json")
        records.unlink(missing_ok=True)
        _observe(python, parts, records, report)
        recorded = list(_recorded(records))
        document = json.loads(report.read_text(encoding="utf-8"))
    errors = [each for each in recorded if each["kind"] == "error"]
    if errors:
        raise RunFailed(f"{errors[0]['label']}: {errors[0]['reason']}")
    if not any(each["kind"] == "end" for each in recorded):
        raise RunFailed("the workload did not come to its end")
    absent = [f"{each['label']}: {each['reason']}" for each in recorded if each["kind"] == "absent"]
    verdicts = compare.compare(recorded, document["processes"])
    seconds = time.monotonic() - began
    return Outcome(python, seconds, verdicts, absent, document["meta"]["lost_events"])


def _recorded(records: Path) -> Iterator[dict[str, Any]]:
    """What the workload wrote down. A process that is killed may write the beginning of a
    line only (mm/filemap.c, generic_perform_write()): it has not done what that tells of."""
    torn = 0
    for line in records.read_text(encoding="ascii").splitlines():
        try:
            if line:
                yield json.loads(line)
        except ValueError:
            torn += 1
    if torn > KILLED:
        raise RunFailed(f"{torn} broken lines, but only {KILLED} processes were killed")


def _observe(python: pythons.Python, parts: Sequence[str], records: Path, report: Path) -> None:
    command = [str(PROGRAM), "run", "-u", "root", "--format", "json", "--report", str(report)]
    command += ["--", python.program, str(WORKLOAD), *parts]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environ.update(STACKS_RECORD=str(records), PYTHONDONTWRITEBYTECODE="1")
    environ["LC_ALL"] = "C.UTF-8"
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
            timeout=DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RunFailed(f"not done within {DEADLINE_S:g} s") from error
    if not report.exists() or not records.exists():
        raise RunFailed(done.stdout.decode(errors="replace")[-2000:])


def _print_differences(outcome: Outcome, most: int) -> None:
    for verdict in outcome.wrong[:most]:
        print(f"{outcome.python}: {verdict.kind}, {verdict.label}: {verdict.difference}")
    if len(outcome.wrong) > most:
        labels = Counter(f"{each.kind}, {each.label}" for each in outcome.wrong[most:])
        for label, count in labels.most_common():
            print(f"{outcome.python}: {count} more: {label}")
    sys.stdout.flush()


def _print_table(outcomes: Sequence[Outcome]) -> None:
    rows = [("Python", "captures", "wrong", "incomplete, declared", "lost", "s", "not here")]
    for each in outcomes:
        rows.append(
            (
                str(each.python),
                str(len(each.verdicts)),
                str(len(each.wrong)),
                str(each.declared),
                str(each.lost),
                f"{each.seconds:.0f}",
                "; ".join(sorted(set(each.absent))),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths)]
        print("  ".join([row[0].ljust(widths[0]), *cells[1:], row[6]]).rstrip())
