# SPDX-License-Identifier: Apache-2.0
"""A thread other than the main one forks: the forker's tid is its own.

When the thread ends the child goes to a sibling thread, which is no orphaning.
"""

import threading

from harness import truth

gate = truth.Gate()
pids = []


def fork() -> None:
    pids.append(truth.spawn("thread's child", gate.then(2)))


def fork_and_reap() -> None:
    role = "reaped by its thread"
    truth.reap(role, truth.spawn(role, lambda: 3))


low = truth.now()
thread = threading.Thread(target=fork)
thread.start()
thread.join()
tid = thread.native_id or 0
truth.until(lambda: not truth.thread_lives(tid), "the thread is gone")
mine = truth.own_pid()
truth.orphaned("thread's child", mine, mine, "thread", False, low)
gate.open()
truth.reap("thread's child", pids[0])

thread = threading.Thread(target=fork_and_reap)
thread.start()
thread.join()
truth.tell()
