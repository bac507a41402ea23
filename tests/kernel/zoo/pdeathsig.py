# SPDX-License-Identifier: Apache-2.0
"""PR_SET_PDEATHSIG: a child is killed by its parent's death; by the death of a mere thread too."""

import signal
import threading

from harness import raw, truth

raw.become_subreaper()
mine = truth.own_pid()
ready, go, handed = truth.Gate(), truth.Gate(), truth.Word()


def child() -> int:
    raw.prctl(raw.PR_SET_PDEATHSIG, int(signal.SIGKILL))
    ready.open()
    return truth.forever()


def parent() -> None:
    pid = truth.spawn("child", child)
    ready.wait()
    handed.send(pid)
    go.wait()


def thread() -> None:
    pids.append(truth.spawn("thread's child", child))
    ready.wait()
    go.wait()


pid = truth.spawn("parent", parent)
orphan = handed.receive()
low = truth.now()
truth.say("child", death=[low, None])
go.open()
truth.reap("parent", pid)
truth.orphaned("child", pid, mine, "subreaper", False, low)
assert truth.reap("child", orphan, by="adopter") == signal.SIGKILL

pids: "list[int]" = []
runner = threading.Thread(target=thread)
runner.start()
low = truth.now()
truth.say("thread's child", death=[low, None])
go.open()
runner.join()
truth.until(lambda: not truth.thread_lives(runner.native_id or 0), "the thread is gone")
truth.orphaned("thread's child", mine, mine, "thread", False, low)
assert truth.reap("thread's child", pids[0]) == signal.SIGKILL
truth.tell()
