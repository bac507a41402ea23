#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A workload: random process trees, which count themselves.

    python3 tests/oracle/workload/trees.py --seed 7 --processes 5000 --log book.json

The first process becomes a subreaper, so that all it starts ends under it, and it ends when no
descendant is left. `--log` gets what the workload knows of itself: every fork and every wait.
Exit status: 0, or 1 if a process of the workload failed.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
import warnings
from functools import partial
from pathlib import Path

import system_calls
import tree_actions
import workload_log


def orphan_for_init(rng: random.Random) -> int:
    """A process that init adopts and reaps (nobody is a subreaper yet); its PID."""
    number, says_number = os.pipe()
    inner = random.Random(rng.getrandbits(64))

    def middle() -> None:
        parent = os.getpid()

        def live() -> None:
            system_calls.orphaned(parent)
            tree_actions.end(inner)

        os.write(says_number, str(system_calls.fork(live, "orphan")).encode())

    system_calls.reap(system_calls.fork(middle, "middle"), rng)
    pid = int(os.read(number, 16))
    os.close(number)
    os.close(says_number)
    return pid


def gone(pid: int, deadline_s: float = 30) -> None:
    """Return when `pid` has been reaped."""
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"init does not reap {pid}")
        time.sleep(0.01)


def grow(seed: int, processes: int, at_once: int, for_init: int) -> None:
    """Make trees until `processes` were forked, then reap until no descendant is left."""
    tail, rng, trees = workload_log.Tail(), random.Random(seed), 0
    adopted_by_init = [orphan_for_init(rng) for _ in range(for_init)]
    system_calls.prctl(system_calls.PR_SET_CHILD_SUBREAPER, 1)
    running: set[int] = set()
    while tail.update() < processes:
        while len(running) < at_once:
            inner = random.Random(f"{seed}/{trees}")
            running.add(system_calls.fork(partial(tree_actions.act, inner), "tree"))
            trees += 1
        reaped = system_calls.reap_any()
        running.discard(reaped or 0)
        while reaped:
            reaped = system_calls.reap_any(os.WNOHANG)
            running.discard(reaped or 0)
    system_calls.reap_all()
    for pid in adopted_by_init:
        gone(pid)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=None, help="default: the clock")
    parser.add_argument("--processes", type=int, default=1000, help="at least so many forks")
    parser.add_argument("--at-once", type=int, default=4, help="trees that grow at a time")
    parser.add_argument("--for-init", type=int, default=0, help="orphans that init adopts")
    parser.add_argument("--gate", type=Path, help="FIFO: begin when its writer has come and gone")
    parser.add_argument("--log", type=Path, help="JSON: every fork and every wait")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    print(f"trees: seed {seed}", flush=True)
    if options.gate is not None:
        options.gate.read_bytes()
    warnings.simplefilter("ignore")  # fork in a process with threads: it is what we are here for
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # inherited by all: acts kill with it
    threading.excepthook = lambda args: workload_log.failed(f"thread: {args.exc_value!r}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as directory:
        workload_log.open_book(Path(directory) / "book")
        began = time.monotonic()
        grow(seed, options.processes, options.at_once, options.for_init)
        took = time.monotonic() - began
        head = {"seed": seed, "root": os.getpid()}
        book = workload_log.save(options.log or Path(os.devnull), head)
    forks, waits = len(book["forks"]), len(book["waits"])
    print(f"trees: {forks} forks, {waits} waits in {took:.1f} s")
    for error in book["errors"]:
        print(f"trees: failed: {error}", file=sys.stderr)
    return 1 if book["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
