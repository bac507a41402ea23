# SPDX-License-Identifier: Apache-2.0
"""python -m bench.synthetic FILE COUNT: write a trace of so many made-up processes.

Most are reaped at once; one of 1,000 stays a zombie for seconds, at one of three places.
Prints JSON: the writer's CPU ns a process (without making the records), the file's bytes,
and the resident set size in bytes while it writes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench.processes import rss_bytes
from zombiebpf.model.analysis import Meta
from zombiebpf.model.life import Actor, Execution, Life, LifeRow, PidNamespace, ReapCall, ReapedBy
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.trace import TraceWriter

BATCH = 200  # processes that come at a time, as from the ring buffer in a storm
ALIVE = 100  # that run all the time
BEGAN_NS = 10**12
EVERY_NS = 10_000  # from one fork to the next
STACKS = [
    Stack(tuple(Frame(f"function_{each}", "/srv/app.py", line) for each in range(11)))
    for line in range(1, 21)
]


def main(path: str, count: int) -> None:
    """Write the trace, print what it took."""
    ended_ns = BEGAN_NS + count * EVERY_NS + 10_000_000_000
    meta = Meta("0", "0", {}, {}, BEGAN_NS, ended_ns, ["storm"])
    alive = [_life(number, ended=False) for number in range(ALIVE)]
    resident: list[int] = []
    cpu_ns = 0
    with TraceWriter(path, meta) as writer:
        for number, batch in enumerate(_batches(count - ALIVE)):
            began = time.process_time_ns()
            writer.add(batch)
            if writer.due:
                writer.flush(() if number else alive)  # those that have changed
            cpu_ns += time.process_time_ns() - began
            if number % 50 == 0:
                resident.append(rss_bytes(os.getpid()))
        writer.flush(alive)
        writer.close(meta)
        assert writer.problem is None, writer.problem
    size = os.path.getsize(path)
    found = {"cpu_ns": cpu_ns / count, "bytes": size / count, "resident_bytes": resident}
    print(json.dumps(found))


def _batches(count: int) -> Iterator[list[LifeRow]]:
    for start in range(0, count, BATCH):
        yield [_life(ALIVE + number) for number in range(start, min(start + BATCH, count))]


def _life(number: int, ended: bool = True) -> LifeRow:
    """Return a process as of a loop: forked at one of few places, with Python stacks."""
    pid = 1 + number % 4_000_000
    ns = BEGAN_NS + number * EVERY_NS
    parent = Actor(7, 7, "python3")
    zombie_ns = 50_000 if number % 1000 else 1_000_000_000 + number % 7 * 500_000_000
    stack = STACKS[number % 20 if number % 1000 else number // 1000 % 3]
    end: dict[str, Any] = {}
    if ended:
        end = {
            "exit_ns": ns + 900_000, "zombie_ns": ns + 950_000,
            "reap_ns": ns + 950_000 + zombie_ns, "wait_status": 0, "reaper": parent,
            "reaped_by": ReapedBy.PARENT,
            "reap_call": ReapCall("wait4", 0, ns + 100, 999_900, "join", STACKS[number % 7]),
        }  # fmt: skip
    life = Life(
        pid, ns, "worker", ("worker", "--number", str(number % 50)), False,
        PidNamespace(4026531836, pid), "/system.slice/app.service", parent, ns, stack, None,
        execs=(Execution(ns + 50, "/usr/bin/worker"),), **end,
    )  # fmt: skip
    return LifeRow.of(life)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
