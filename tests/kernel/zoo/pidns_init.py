# SPDX-License-Identifier: Apache-2.0
"""A PID namespace of one's own: its init adopts the orphans in it, subreapers above or not."""

from harness import raw, truth

raw.become_subreaper()
raw.unshare(raw.CLONE_NEWPID)
gate, handed = truth.Gate(), truth.Word()


def parent() -> None:
    handed.send(truth.spawn("child", gate.then(4)))


def init() -> int:
    low = truth.now()
    pid = truth.spawn("parent", parent)
    child = handed.receive()  # counted in this namespace, as fork returned it
    truth.reap("parent", pid)
    truth.orphaned("child", truth.pid_of("parent"), truth.own_pid(), "init", False, low)
    gate.open()
    truth.reap("child", child, by="adopter")
    return 3


truth.reap("init", truth.spawn("init", init))
truth.tell()
