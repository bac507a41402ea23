# SPDX-License-Identifier: Apache-2.0
"""zombie.py MILLISECONDS: a child is a zombie for so long; prints what observers should find."""

import json
import os
import sys
import time


def fork_one() -> int:
    pid = os.fork()  # LINE
    if pid == 0:
        os._exit(0)
    return pid


child = fork_one()
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
began = time.monotonic_ns()
time.sleep(int(sys.argv[1]) / 1000)
os.waitpid(child, 0)
zombie_ns = time.monotonic_ns() - began
with open(__file__, encoding="utf-8") as source:
    line = 1 + next(n for n, text in enumerate(source) if text.endswith("# LINE\n"))
found = {"child": child, "reaper": os.getpid(), "zombie_ns": zombie_ns, "line": line}
print(json.dumps(found), flush=True)
