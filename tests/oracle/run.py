# SPDX-License-Identifier: Apache-2.0
"""Is what zombiebpf reports true? Compare it with ftrace, bpftrace and strace, on random trees.

    sudo python3 -m tests.oracle               # 5000 processes, three seeds, then strace
    sudo python3 -m tests.oracle --seed 7 --processes 300 --no-strace

Exit status: 0 when nothing is unexplained, 1 when something is, 2 when it could not run.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, NamedTuple

from tests.oracle import bpftrace, ftrace, strace
from tests.oracle.compare import Comparison, compare
from tests.oracle.ftrace_lives import Contradiction, descendants
from tests.oracle.ringbuffer import Missed
from tests.oracle.saved_run import Run, load

CHECKOUT = Path(__file__).resolve().parents[2]
TREES = CHECKOUT / "tests" / "oracle" / "workload" / "trees.py"
SHOWN = 40
PATIENCE = float(os.environ.get("ZOMBIEBPF_PATIENCE", "1"))  # more where it is emulated


class Options(NamedTuple):
    """The command line."""

    zombiebpf: Sequence[str]
    for_init: int
    at_once: int
    keep: bool


class Observed(NamedTuple):
    """What zombiebpf reported and what the workload knows of one run."""

    document: dict[str, Any]
    book: dict[str, Any]


class OracleError(Exception):
    """The comparison could not be made."""


def default_zombiebpf() -> list[str]:
    """The checkout's own; else the package, run by this Python."""
    program = CHECKOUT / ".venv" / "bin" / "zombiebpf"
    return [str(program)] if program.exists() else [sys.executable, "-m", "zombiebpf"]


@contextmanager
def scratch(keep: bool) -> Iterator[Path]:
    """A directory for one run; what went wrong can be read in it when it is kept."""
    directory = Path(tempfile.mkdtemp(prefix="zombiebpf-oracle-"))
    try:
        yield directory
    finally:
        if keep:
            print(f"kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


def observe(
    options: Options,
    directory: Path,
    seed: int,
    processes: int,
    prefix: Sequence[str] = (),
    attached: Callable[[], object] = lambda: None,
) -> Observed:
    """Run the workload under zombiebpf; `attached` is called before its first fork.

    OracleError if either fails.
    """
    report, book, gate = directory / "report.json", directory / "book.json", directory / "gate"
    os.mkfifo(gate)
    workload = [
        *prefix, sys.executable, str(TREES), "--gate", str(gate),
        "--seed", str(seed), "--processes", str(processes), "--log", str(book),
        "--for-init", str(options.for_init), "--at-once", str(options.at_once),
    ]  # fmt: skip
    command = [
        *options.zombiebpf, "run", "-u", "root", "--format", "json", "--report", str(report), "--",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    if options.zombiebpf[0] == sys.executable:
        environment["PYTHONPATH"] = str(CHECKOUT)
    with subprocess.Popen([*command, *workload], env=environment) as observer:
        try:
            _open_gate(gate, observer, attached)
            status = observer.wait(timeout=600 * PATIENCE)
        except BaseException:
            observer.terminate()
            with suppress(subprocess.TimeoutExpired):
                observer.wait(timeout=30)
            observer.kill()
            raise
    if status != 0:
        raise OracleError(f"zombiebpf run or its workload ended with {status}")
    return Observed(json.loads(report.read_text()), json.loads(book.read_text()))


def _open_gate(
    gate: Path, observer: subprocess.Popen[bytes], attached: Callable[[], object]
) -> None:
    """Wait until the workload stands at its gate, call `attached`, let it through."""
    while True:
        try:
            fd = os.open(gate, os.O_WRONLY | os.O_NONBLOCK)  # ENXIO: no reader yet
        except OSError as error:
            if error.errno != errno.ENXIO or observer.poll() is not None:
                raise OracleError("zombiebpf run has not started the workload") from error
            time.sleep(0.01)
        else:
            attached()
            os.close(fd)
            return


def run_with_tracers(options: Options, seed: int, processes: int) -> Run:
    """One run under zombiebpf, ftrace and bpftrace at once."""
    with ExitStack() as stack:
        directory = stack.enter_context(scratch(options.keep))
        earlier = stack.enter_context(ftrace.Instance("earlier"))
        watch = stack.enter_context(bpftrace.Watch())
        later = ftrace.Instance("later")
        document, book = observe(
            options, directory, seed, processes,
            attached=lambda: stack.enter_context(later),
        )  # fmt: skip
        records, deaths = earlier.stop(), watch.stop()
        brackets = ftrace.brackets(records, later.stop())
        before_ns = book["forks"][0]["began_ns"]
        init_tids = [int(each) for each in os.listdir("/proc/1/task")]
        lives = descendants(records, book["root"], before_ns, init_tids)
        run = Run(document, book, lives, deaths, brackets)
        if options.keep:
            run.save(directory / "run.json")
        return run


def against_tracers(run: Run) -> bool:
    """Compare, print; whether nothing is unexplained."""
    result = compare(run.document, run.lives, run.deaths, run.book, run.brackets)
    print(f"seed {run.book['seed']}: {len(run.book['forks'])} forks")
    for fact in ("zombie", "reap", "reparent"):
        print(f"  {fact}: {run.document['meta']['hooks'].get(fact)}")
    return verdict(f"ftrace and bpftrace, seed {run.book['seed']}", result)


def against_strace(options: Options, seed: int, processes: int) -> bool:
    """One run of `strace -f` and the workload, both under zombiebpf; as against_tracers."""
    with scratch(options.keep) as directory:
        trace = directory / "strace"
        prefix = strace.command(trace)
        document, book = observe(options, directory, seed, processes, prefix)
        print(f"seed {seed}: {len(book['forks'])} forks under strace -f")
        result = strace.compare(document, strace.parse(trace.read_text()), book)
    return verdict(f"strace, seed {seed}", result)


def verdict(title: str, result: Comparison) -> bool:
    """Print it; whether nothing is unexplained."""
    print(result.table())
    for line in result.unexplained[:SHOWN]:
        print(f"UNEXPLAINED {line}")
    if len(result.unexplained) > SHOWN:
        print(f"... and {len(result.unexplained) - SHOWN} more")
    print(f"{title}: {len(result.unexplained) or 'zero'} unexplained\n", flush=True)
    return not result.unexplained


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--processes", type=int, default=5000, help="forks for each seed")
    parser.add_argument("--seed", type=int, action="append", help="again for more runs")
    parser.add_argument("--runs", type=int, default=3, help="without --seed: how many seeds")
    parser.add_argument("--at-once", type=int, default=4, help="trees that grow at a time")
    parser.add_argument("--for-init", type=int, default=3, help="orphans that init adopts")
    parser.add_argument("--strace", action="store_true", help="compare with strace only")
    parser.add_argument("--no-strace", action="store_true", help="leave strace out")
    parser.add_argument("--strace-processes", type=int, default=500)
    parser.add_argument("--zombiebpf", nargs="+", help="how it is called", metavar="WORD")
    parser.add_argument("--keep", action="store_true", help="keep reports, books and traces")
    parser.add_argument("--save", type=Path, help="keep the last run in this file")
    parser.add_argument("--again", type=Path, help="compare a saved run, start nothing")
    given = parser.parse_args()
    if given.again is not None:
        return ended(against_tracers(load(given.again)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # for the sake of what must be undone
    options = Options(
        given.zombiebpf or default_zombiebpf(), given.for_init, given.at_once, given.keep
    )
    seeds = given.seed or [random.SystemRandom().randrange(10**6) for _ in range(given.runs)]
    print(f"oracle: seeds {' '.join(map(str, seeds))}", flush=True)
    good = True
    try:
        if not given.strace:
            for seed in seeds:
                run = run_with_tracers(options, seed, given.processes)
                if given.save is not None:
                    run.save(given.save)
                good &= against_tracers(run)
        if not given.no_strace:
            good &= against_strace(options, seeds[0], given.strace_processes)
    except (OracleError, Contradiction, Missed, OSError, RuntimeError, ValueError) as error:
        print(f"oracle: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return ended(good)


def ended(good: bool) -> int:
    """The last line and the exit status."""
    print("oracle: zero unexplained" if good else "oracle: NOT confirmed")
    return 0 if good else 1
