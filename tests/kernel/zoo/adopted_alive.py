# SPDX-License-Identifier: Apache-2.0
"""A parent dies before its child: the subreaper above adopts the child and later reaps it."""

import os

from harness import raw, truth

raw.become_subreaper()
mine = truth.own_pid()
gate, handed = truth.Gate(), truth.Word()


def child() -> int:
    truth.until(lambda: os.getppid() == mine, "adopted")
    gate.wait()
    return 2


def parent() -> None:
    handed.send(truth.spawn("child", child))


low = truth.now()
pid = truth.spawn("parent", parent)
orphan = handed.receive()
truth.reap("parent", pid)  # a parent's children are given away before it can be reaped
truth.orphaned("child", pid, mine, "subreaper", False, low)
gate.open()
truth.reap("child", orphan, by="adopter")
truth.tell()
