# SPDX-License-Identifier: Apache-2.0
"""A stranger traces a child whose real parent ignores SIGCHLD: the tracer's wait releases it."""

import os
import signal

from harness import raw, truth

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
gate = truth.Gate()


def tracer() -> None:
    raw.ptrace(raw.PTRACE_SEIZE, child)
    gate.open()
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    truth.say("child", death=[None, truth.now()])
    truth.reap("child", child, by="tracer")


child = truth.spawn("child", gate.then(6))
stranger = truth.spawn("tracer", tracer)
truth.until_gone("child", child)
truth.until_gone("tracer", stranger)
truth.say("tracer", status=0, reaped_by="kernel", zombie=False)
truth.tell()
