# SPDX-License-Identifier: Apache-2.0
"""python_fork.py OPERATIONS SLICES DEPTH: os.fork, os._exit, os.waitpid, DEPTH frames deep."""

import os
import sys

from timed import time_slices

operations, slices, depth = map(int, sys.argv[1:])


def fork_and_wait(levels: int = depth - 3) -> None:  # the module and time_slices are frames, too
    if levels > 0:
        fork_and_wait(levels - 1)
        return
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


time_slices(fork_and_wait, operations, slices)
