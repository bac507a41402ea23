# SPDX-License-Identifier: Apache-2.0
"""Imported by servers here: workers tell that they have started."""

import os
import time

DEADLINE_S = 40
PATH = os.path.join(os.environ["APP_DIRECTORY"], "workers")


def starts(pid):
    """Told by a worker."""
    with open(PATH, "ab", buffering=0) as stream:
        stream.write(b"%d\n" % pid)


def started_worker(number):
    """The PID of the worker that started as the number-th; waits for it."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if os.path.exists(PATH):
            with open(PATH, "rb") as stream:
                lines = stream.read().splitlines(keepends=True)
            if len(lines) > number and lines[number].endswith(b"\n"):
                return int(lines[number])
        time.sleep(0.01)
    raise TimeoutError(f"worker {number} did not start")
