# SPDX-License-Identifier: Apache-2.0
"""What workload.h is to the workloads in C: timed slices of work."""

import json
import os
import resource
import time
from collections.abc import Callable


def cpu_ns() -> int:
    """Return the CPU time of this process and of its reaped children."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(each) for each in whose]
    return round(sum(each.ru_utime + each.ru_stime for each in usages) * 1e9)


def wait_for_go() -> None:
    """Print that this program is ready, and wait for a line."""
    print("ready", flush=True)
    while os.read(0, 1) != b"\n":
        pass


def time_slices(operation: Callable[[], object], operations: int, slices: int) -> None:
    """Warm up, then when told to time `slices` times `operations`; print what C prints."""
    for _ in range(operations):
        operation()
    wait_for_go()
    elapsed, cpu = [], []
    for _ in range(slices):
        began, cpu_began = time.monotonic_ns(), cpu_ns()
        for _ in range(operations):
            operation()
        elapsed.append(time.monotonic_ns() - began)
        cpu.append(cpu_ns() - cpu_began)
    print(json.dumps({"operations": operations, "elapsed_ns": elapsed, "cpu_ns": cpu}), flush=True)
