# SPDX-License-Identifier: Apache-2.0
"""python_fork.py OPERATIONS DEPTH: os.fork, os._exit, os.waitpid, DEPTH frames deep.

OPERATIONS for each line of its input, and a line printed when they are done.
"""

import os
import sys


def down(levels: int, operations: int) -> None:
    if levels > 1:
        down(levels - 1, operations)
        return
    for _ in sys.stdin:
        for _ in range(operations):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        print("done", flush=True)


operations, depth = map(int, sys.argv[1:])
down(depth - 1, operations)  # the module is a frame, too
