# SPDX-License-Identifier: Apache-2.0
"""Let the workers of a server report that they have started."""

import os
import time

DEADLINE_S = 40
PATH = os.path.join(os.environ["APP_DIRECTORY"], "workers")


def starts(pid: int) -> None:
    """Report that the worker `pid` has started."""
    with open(PATH, "ab", buffering=0) as stream:
        stream.write(b"%d\n" % pid)


def started_worker(number: int) -> int:
    """Wait for the worker that starts as the number-th, counted from 0; return its PID."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if os.path.exists(PATH):
            with open(PATH, "rb") as stream:
                lines = stream.read().splitlines(keepends=True)
            if len(lines) > number and lines[number].endswith(b"\n"):
                return int(lines[number])
        time.sleep(0.01)
    raise TimeoutError(f"worker {number} did not start")
