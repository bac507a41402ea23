# SPDX-License-Identifier: Apache-2.0
"""An exec that fails is none; one that succeeds at the third try is one."""

import os

from harness import truth


def never() -> int:
    try:
        os.execv("/nonexistent/program", ["program"])
    except FileNotFoundError:
        return 255
    return 0


def at_last() -> None:
    low = truth.now()
    for directory in ("/nonexistent", "/proc", "/bin"):
        try:
            argv = ["sh", "-c", "exit 5", directory]
            program = {"filename": "/bin/sh", "ns": [low, None]}
            truth.say("third try", exec=[program] if directory == "/bin" else [])
            truth.say("third try", argv=argv, comm="sh", death=[truth.now(), None])
            os.execv(f"{directory}/sh", argv)
        except OSError:
            pass


truth.reap("failed", truth.spawn("failed", never))
truth.reap("third try", truth.spawn("third try", at_last))
truth.tell()
