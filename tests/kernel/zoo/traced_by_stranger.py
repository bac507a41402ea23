# SPDX-License-Identifier: Apache-2.0
"""A process that is no parent traces a child and waits for it: a wait that reaps nothing.

The zombie begins at the death, not when the tracer hands it on; the real parent reaps it.
"""

from harness import raw, truth

gate, traced = truth.Gate(), truth.Gate()


def tracer() -> None:
    raw.ptrace(raw.PTRACE_SEIZE, child)
    gate.open()
    truth.see_death("child", child)  # wait4 by the tracer returns the PID and the status
    traced.open()


child = truth.spawn("child", gate.then(6))
stranger = truth.spawn("tracer", tracer)
traced.wait()
truth.reap("child", child)
truth.reap("tracer", stranger)
truth.tell()
