# SPDX-License-Identifier: Apache-2.0
"""WNOWAIT looks at a zombie, twice, and leaves it one; SIGKILL does so too; a wait then reaps."""

import os
import signal

from harness import truth

pid = truth.spawn("child", lambda: 4)
truth.peek("child", pid)
os.kill(pid, signal.SIGKILL)
truth.peek("child", pid)
assert truth.proc_state(pid) == "Z"
truth.waitid("child", os.P_PID, pid, os.WEXITED)
truth.tell()
