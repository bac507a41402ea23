# SPDX-License-Identifier: Apache-2.0
"""CPython's own tests under `zombiebpf attach --all`: do they pass, is what it counts right?

    sudo python3 -m tests.oracle suite --python /usr/local/bin/python3.10

Runs `python -m test TESTS` twice, the second time observed, with ftrace beside it. Exit status: 0
when both runs have the same results and ftrace's lives are zombiebpf's, 1 when not, 2 when it
could not run.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Optional
from xml.etree import ElementTree

from tests.oracle import ftrace
from tests.oracle.ftrace_lives import Contradiction, Life, descendants
from tests.oracle.ringbuffer import Missed
from tests.oracle.run import OracleError, default_zombiebpf, ended

TESTS = ("test_multiprocessing_fork", "test_subprocess")
SHOWN = 20
SAME_NS = 1_000_000_000  # of one PID: it does not come again within that
ROW = "pid, fork_ns, forker_pid, exit_ns, wait_status, reap_ns, reaper_pid, reaper_tid, reaped_by"


class Row(NamedTuple):
    """A life as the trace has it."""

    pid: int
    fork_ns: int
    forker_pid: int
    exit_ns: Optional[int]
    wait_status: Optional[int]
    reap_ns: Optional[int]
    reaper_pid: Optional[int]
    reaper_tid: Optional[int]
    reaped_by: Optional[str]


class Ran(NamedTuple):
    """One run of the suite."""

    pid: int
    status: int
    results: Mapping[str, str]  # test -> "passed", "skipped", "failure" or "error"
    seconds: float
    started_ns: int  # it was forked before
    ended_ns: int  # and had been waited for

    def summary(self) -> str:
        counts = Counter(self.results.values())
        listed = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        return f"{len(self.results)} tests: {listed}; exit {self.status}, {self.seconds:.0f} s"


def run_suite(python: str, tests: Sequence[str], directory: Path, name: str) -> Ran:
    """Run the tests once. Raise OracleError if they write no results."""
    results, log = directory / f"{name}.xml", directory / f"{name}.log"
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            [python, "-m", "test", "--junit-xml", str(results), *tests],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory,
            start_new_session=True,
        )  # fmt: skip
        started_ns = time.monotonic_ns()
        status = process.wait()
    if not results.exists():
        raise OracleError(f"{python} -m test ended with {status}: {log.read_text()[-500:]}")
    return Ran(
        process.pid, status, read_results(results), time.monotonic() - began, started_ns,
        time.monotonic_ns(),
    )  # fmt: skip


def read_results(path: Path) -> dict[str, str]:
    found = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        what = "passed"
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                what = child.tag
        found[case.get("name", "?")] = what
    return found


@contextmanager
def observing(command: Sequence[str], trace: Path) -> Iterator[None]:
    """`zombiebpf attach --all`, from "attached" to its end. OracleError if it fails."""
    with subprocess.Popen(
        [*command, "attach", "--all", "-o", str(trace)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as observer:
        try:
            assert observer.stderr is not None
            line = observer.stderr.readline()
            if "attached: " not in line:
                raise OracleError(f"zombiebpf attach said: {line}{observer.stderr.read()}")
            yield
            observer.send_signal(signal.SIGINT)
            _, rest = observer.communicate(timeout=120)
            if observer.returncode != 0:
                raise OracleError(f"zombiebpf attach ended with {observer.returncode}: {rest}")
        finally:
            observer.kill()


def family(trace: Path, root: int) -> tuple[list[Row], int]:
    """`root`, forked while it was observed, with all descendants; and how many records were lost.

    A PID is whose it was last.
    """
    with closing(sqlite3.connect(f"file:{trace}?mode=ro", uri=True)) as db:
        rows = db.execute(f"SELECT {ROW} FROM life WHERE fork_ns IS NOT NULL ORDER BY fork_ns")
        members: set[int] = set()
        found = []
        for row in map(Row._make, rows):
            if row.forker_pid in members or (row.pid == root and row.forker_pid == os.getpid()):
                members.add(row.pid)
                found.append(row)
            else:
                members.discard(row.pid)
        (lost,) = db.execute("SELECT value FROM meta WHERE key = 'lost_events'").fetchone()
    return found, int(lost)


class Counts(NamedTuple):
    forks: int
    deaths: int
    reaps: int


def count_rows(rows: Sequence[Row], ended_ns: int) -> Counts:
    """Up to the suite's end."""
    return Counts(
        sum(row.fork_ns < ended_ns for row in rows),
        sum(row.exit_ns is not None and row.exit_ns < ended_ns for row in rows),
        sum(row.reap_ns is not None and row.reap_ns < ended_ns for row in rows),
    )


def reaped_ns(life: Life) -> Optional[int]:
    """By whom ftrace cannot see, perhaps: then an upper bound."""
    return life.reap_ns if life.reap_ns is not None else life.freed_ns


def count_lives(lives: Sequence[Life], ended_ns: int) -> Counts:
    exits = [each.exit_ns for each in lives if each.exit_ns is not None]
    reaps = [ns for ns in map(reaped_ns, lives) if ns is not None]
    return Counts(
        sum(each.fork_ns < ended_ns for each in lives),
        sum(ns < ended_ns for ns in exits),
        sum(ns < ended_ns for ns in reaps),
    )


def differences(rows: Sequence[Row], lives: Sequence[Life], ended_ns: int) -> Iterator[str]:
    """Return what zombiebpf and ftrace report differently, life for life."""
    left = list(rows)
    for life in lives:
        row = next(
            (each for each in left
             if each.pid == life.pid and abs(each.fork_ns - life.fork_ns) < SAME_NS), None
        )  # fmt: skip
        if row is None:
            yield f"{life.pid}: only ftrace has it"
            continue
        left.remove(row)
        if row.forker_pid != life.forker_pid:
            yield f"{life.pid}: forked by {row.forker_pid}, by {life.forker_pid} says ftrace"
        if (row.exit_ns is None) != (life.exit_ns is None) and (life.exit_ns or 0) < ended_ns:
            yield f"{life.pid}: died {row.exit_ns}, {life.exit_ns} says ftrace"
        reap_ns = reaped_ns(life)
        if (row.reap_ns is None) != (reap_ns is None) and (reap_ns or 0) < ended_ns:
            yield f"{life.pid}: reaped {row.reap_ns}, {reap_ns} says ftrace"
        if life.reap_ns is None or row.reap_ns is None or row.reaped_by == "kernel":
            continue  # nobody reaped it, or somebody ftrace cannot see
        if (row.reaper_pid, row.reaper_tid) != (life.reaper_pid, life.reaper_tid):
            yield (
                f"{life.pid}: reaped by {row.reaper_pid} (thread {row.reaper_tid}),"
                f" by {life.reaper_pid} ({life.reaper_tid}) says ftrace"
            )
    yield from (f"{row.pid}: only zombiebpf has it" for row in left)


def compare(plain: Ran, observed: Ran, rows: Sequence[Row], lives: Sequence[Life]) -> bool:
    """Print; whether all is the same."""
    print(f"  without:  {plain.summary()}\n  observed: {observed.summary()}")
    names = sorted(plain.results.keys() | observed.results.keys())
    other = [name for name in names if plain.results.get(name) != observed.results.get(name)]
    for name in other[:SHOWN]:
        print(f"DIFFERS {name}: {plain.results.get(name)}, {observed.results.get(name)} observed")
    ours = count_rows(rows, observed.ended_ns)
    theirs = count_lives(lives, observed.ended_ns)
    for what, mine, oracle in zip(Counts._fields, ours, theirs):
        print(f"  {what}: {mine} by zombiebpf, {oracle} by ftrace")
    hidden = sum(life.reap_ns is None and life.freed_ns is not None for life in lives)
    print(f"  reapers that ftrace cannot see: {hidden}")
    unexplained = list(differences(rows, lives, observed.ended_ns))
    for line in unexplained[:SHOWN]:
        print(f"UNEXPLAINED {line}")
    print(f"  lives that differ: {len(unexplained) or 'none'}", flush=True)
    return not other and not unexplained and ours == theirs and plain.status == observed.status


def run_both(python: str, tests: Sequence[str], command: Sequence[str], directory: Path) -> bool:
    print(f"suite: {python} -m test {' '.join(tests)}", flush=True)
    plain = run_suite(python, tests, directory, "plain")
    trace = directory / "trace.db"
    with ftrace.Instance("suite") as instance:
        with observing(command, trace):
            observed = run_suite(python, tests, directory, "observed")
        records = instance.stop()
    rows, lost = family(trace, observed.pid)
    init_tids = [int(each) for each in os.listdir("/proc/1/task")]
    lives = descendants(records, observed.pid, observed.started_ns, init_tids)
    good = compare(plain, observed, rows, lives)
    print(f"  lost records: {lost}")
    return good and lost == 0


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="oracle suite", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--python", required=True, help="one that has the package `test`")
    parser.add_argument("--zombiebpf", nargs="+", help="how it is called", metavar="WORD")
    parser.add_argument("--keep", type=Path, help="put results, logs and the trace here")
    parser.add_argument("tests", nargs="*", default=TESTS, help=f"default: {' '.join(TESTS)}")
    given = parser.parse_args(arguments)
    command = given.zombiebpf or default_zombiebpf()
    try:
        with tempfile.TemporaryDirectory(prefix="zombiebpf-suite-") as scratch:
            directory = given.keep or Path(scratch)
            directory.mkdir(exist_ok=True)
            return ended(run_both(given.python, given.tests, command, directory.resolve()))
    except (OracleError, Contradiction, Missed, OSError, sqlite3.Error) as error:
        print(f"oracle: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
