# SPDX-License-Identifier: Apache-2.0
"""A thread that is not the leader execs: it takes the leader's PID, and one life goes on.

The child that the exec'ing thread made stays its own; the main thread's child goes to it
when the main thread is killed by the exec.
"""

import json
import os
import sys
import threading
from typing import Callable

from harness import truth


def first_stage() -> None:
    by_main, by_thread = truth.Gate(), truth.Gate()
    ready = truth.Word()

    def child_of(gate: truth.Gate) -> Callable[[], int]:
        def body() -> int:
            ready.send(truth.own_pid())
            gate.wait()
            return 6

        return body

    def run() -> None:
        pids["thread's child"] = truth.spawn("thread's child", child_of(by_thread))
        ready.receive(), ready.receive()
        low = truth.now()
        truth.say("process", pid=truth.own_pid(), old_tid=truth.me()["tid"])
        stage = {"pids": pids, "low": low, "gates": [by_main.ends(), by_thread.ends()]}
        os.execv(sys.executable, [sys.executable, __file__, json.dumps(stage)])

    pids = {"main thread's child": truth.spawn("main thread's child", child_of(by_main))}
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise AssertionError("the exec failed")


def second_stage(pids: "dict[str, int]", low: int, gates: "list[list[int]]") -> int:
    mine = truth.own_pid()
    truth.introduce("process")
    executable = {"filename": sys.executable, "ns": [low, truth.now()]}
    truth.say("process", exec=[executable])
    truth.orphaned("main thread's child", mine, mine, "thread", False, low)
    for role, ends in zip(("main thread's child", "thread's child"), gates):
        truth.Gate(*ends).open()
        truth.reap(role, pids[role])
    return 8


if len(sys.argv) > 1:
    os._exit(second_stage(**json.loads(sys.argv[1])))
process = truth.spawn("process", first_stage)
truth.reap("process", process)
truth.tell()
