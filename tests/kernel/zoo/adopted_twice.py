# SPDX-License-Identifier: Apache-2.0
"""Two subreapers, one below the other: an orphan goes to the nearer, then to the farther one."""

import os

from harness import raw, truth

raw.become_subreaper()
mine = truth.own_pid()
gate, end, handed = truth.Gate(), truth.Gate(), truth.Word()


def child() -> int:
    gate.wait()
    return 1


def parent() -> None:
    handed.send(truth.spawn("child", child))


def nearer() -> None:
    raw.become_subreaper()
    low = truth.now()
    pid = truth.spawn("parent", parent)
    truth.reap("parent", pid)
    truth.orphaned("child", pid, os.getpid(), "subreaper", False, low)
    end.wait()


pid = truth.spawn("nearer subreaper", nearer)
orphan = handed.receive()
low = truth.now()
end.open()
truth.reap("nearer subreaper", pid)
truth.orphaned("child", pid, mine, "subreaper", False, low)
gate.open()
truth.reap("child", orphan, by="adopter")
truth.tell()
