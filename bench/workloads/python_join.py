# SPDX-License-Identifier: Apache-2.0
"""python_join.py OPERATIONS SLICES: multiprocessing's start() and join(), timed.

Prints what the workloads in C print.
"""

import json
import multiprocessing
import os
import resource
import sys
import time

Process = multiprocessing.get_context("fork").Process


def nothing() -> None:
    pass


def cpu_ns() -> int:
    """Return the CPU time of this process and of its reaped children."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(each) for each in whose]
    return round(sum(each.ru_utime + each.ru_stime for each in usages) * 1e9)


def main(operations: int, slices: int) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    elapsed, cpu = [], []
    for _ in range(slices):
        began, cpu_began = time.monotonic_ns(), cpu_ns()
        for _ in range(operations):
            process = Process(target=nothing)
            process.start()
            process.join()
        elapsed.append(time.monotonic_ns() - began)
        cpu.append(cpu_ns() - cpu_began)
    print(json.dumps({"operations": operations, "elapsed_ns": elapsed, "cpu_ns": cpu}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
