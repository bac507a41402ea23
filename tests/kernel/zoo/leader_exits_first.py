# SPDX-License-Identifier: Apache-2.0
"""The main thread exits before another: /proc says Z, but no zombie is there to be reaped.

It becomes one when the last thread ends, whichever way. The last thread bears another name:
the process keeps its leader's.
"""

import os
import signal
import threading
from typing import Callable

from harness import raw, truth

LEADER_CODE, THREAD_CODE = 3, 4


def body_of(
    role: str, finish: Callable[[int], object], gate: truth.Gate, ready: truth.Gate
) -> Callable[[], None]:
    def run() -> None:
        raw.rename(b"last-thread")
        ready.open()
        gate.wait()  # for ever, if it is to be killed
        truth.say(role, death=[truth.now(), None])
        finish(THREAD_CODE)

    def body() -> None:
        raw.rename(b"leader")
        threading.Thread(target=run, daemon=True).start()
        raw.exit_thread(LEADER_CODE)

    return body


# a killed process does not come to its end
ENDS = {"thread exits": raw.exit_thread, "exit_group": os._exit, "killed": os._exit}
for role, finish in ENDS.items():
    gate, ready = truth.Gate(), truth.Gate()
    pid = truth.spawn(role, body_of(role, finish, gate, ready))
    ready.wait()
    truth.until_zombie(pid)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0), "a dead leader was reaped"
    if role == "killed":
        truth.kill(role, pid, signal.SIGKILL)
    else:
        gate.open()
    truth.peek(role, pid)
    truth.reap(role, pid)
    truth.say(role, comm="leader")
truth.tell()
