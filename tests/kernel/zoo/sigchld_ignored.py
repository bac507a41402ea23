# SPDX-License-Identifier: Apache-2.0
"""SIGCHLD set to SIG_IGN: the kernel releases the children itself, none is ever a zombie."""

import os
import signal

from harness import raw, truth

signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def awaited() -> int:
    truth.until_in_syscall(os.getppid(), raw.NR["wait4"])
    return 4


gate = truth.Gate()
alone = truth.spawn("alone", gate.then(3))
gate.open()
truth.until_gone("alone", alone)
truth.say("alone", status=3 << 8, reaped_by="kernel", zombie=False)

waited_for = truth.spawn("awaited", awaited)
try:
    os.waitpid(waited_for, 0)  # blocks until the child is gone, and gets nothing
    raise AssertionError("a child of ours was reaped by us")
except ChildProcessError:
    truth.until_gone("awaited", waited_for)
truth.say("awaited", status=4 << 8, reaped_by="kernel", zombie=False)
truth.tell()
