# SPDX-License-Identifier: Apache-2.0
"""The article's program, scaled down: a child that outlives its parent's work, never joined.

The parent ends its own work first, then multiprocessing's exit handler waits for the child:
it becomes a zombie for a moment and its own parent reaps it.
"""

import atexit
import os
import time

from harness import raw, truth


def after_multiprocessing() -> None:
    # atexit calls the last registered first: multiprocessing, imported below, has waited
    high = truth.now()
    truth.say(
        "child",
        pid=action.child.pid,
        reap=[action.ended_ns, high],
        death=[None, high],
        status=(action.child.exitcode or 0) << 8,
        reaper=truth.me(),
        reaped_by="parent",
        reap_call={"syscall": "wait4", "options": 0},
        blocked=True,
        state="reaped",
    )
    truth.tell()


atexit.register(after_multiprocessing)

import multiprocessing  # noqa: E402

TICK_S = 0.05


class MainProcess:
    def __init__(self, main_process_time: int, child_process_time: int) -> None:
        self.main_process_time = main_process_time
        self.child_process_time = child_process_time

    def excutor(self) -> None:
        low = truth.now()
        self.child = ChildProcess(self.child_process_time)
        self.child.start()
        truth.say("child", fork=[low, truth.now()], forker=truth.me())
        for _ in range(self.main_process_time):
            time.sleep(TICK_S)
        self.ended_ns = truth.now()


class ChildProcess(multiprocessing.Process):
    def __init__(self, process_time: int) -> None:
        multiprocessing.Process.__init__(self)
        self.process_time = process_time

    def run(self) -> None:
        atexit.unregister(after_multiprocessing)
        truth.introduce("child")
        for _ in range(self.process_time):
            time.sleep(TICK_S)
        truth.until_in_syscall(os.getppid(), raw.NR["wait4"])
        truth.say("child", death=[truth.now(), None])


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    action = MainProcess(2, 4)
    action.excutor()
