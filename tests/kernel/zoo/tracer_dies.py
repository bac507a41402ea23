# SPDX-License-Identifier: Apache-2.0
"""A stranger traces a child, lets it die and exits without a wait: the real parent reaps it."""

import os

from harness import raw, truth

gate = truth.Gate()


def tracer() -> None:
    raw.ptrace(raw.PTRACE_SEIZE, child)
    gate.open()
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    truth.say("child", death=[None, truth.now()])


child = truth.spawn("child", gate.then(6))
truth.reap("tracer", truth.spawn("tracer", tracer))
truth.reap("child", child)
truth.tell()
