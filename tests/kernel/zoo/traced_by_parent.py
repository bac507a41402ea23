# SPDX-License-Identifier: Apache-2.0
"""A parent traces its own child (PTRACE_TRACEME): stops are waited for, one wait reaps."""

import os
import signal

from harness import raw, truth


def body() -> int:
    raw.ptrace(raw.PTRACE_TRACEME, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    return 6


pid = truth.spawn("child", body)
assert os.WIFSTOPPED(os.waitpid(pid, 0)[1])
raw.ptrace(raw.PTRACE_CONT, pid)
truth.peek("child", pid)
truth.reap("child", pid)
truth.tell()
