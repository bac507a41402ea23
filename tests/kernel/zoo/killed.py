# SPDX-License-Identifier: Apache-2.0
"""Deaths by signal: sent by another process, by itself, real-time; and a fault with no core."""

import os
import resource
import signal

from harness import truth

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGRTMIN + 3):
    role = f"signal {int(number)}"
    ready = truth.Gate()

    def body(ready: truth.Gate = ready) -> int:
        ready.open()
        return truth.forever()

    pid = truth.spawn(role, body)
    ready.wait()
    truth.kill(role, pid, number)
    status = truth.reap(role, pid)
    assert os.WTERMSIG(status) == number
    assert not os.WCOREDUMP(status)


def abort() -> None:
    truth.say("abort", death=[truth.now(), None])
    os.abort()


assert os.WTERMSIG(truth.reap("abort", truth.spawn("abort", abort))) == signal.SIGABRT
truth.tell()
