# SPDX-License-Identifier: Apache-2.0
"""A process made into a PID namespace by setns: its parent is outside, its orphans go to init."""

import os

from harness import raw, truth

raw.become_subreaper()
raw.unshare(raw.CLONE_NEWPID)
gate, reaped, handed = truth.Gate(), truth.Gate(), truth.Word()


def init() -> int:
    gate.wait()
    truth.reap("child", handed.receive(), by="adopter")
    return 0


def joined() -> None:
    handed.send(truth.spawn("child", reaped.then(4)))


first = truth.spawn("init", init)
raw.setns(os.open(f"/proc/{first}/ns/pid", os.O_RDONLY), raw.CLONE_NEWPID)
low = truth.now()
pid = truth.spawn("joined", joined)
truth.reap("joined", pid)
truth.orphaned("child", pid, first, "init", False, low)
reaped.open()
gate.open()
truth.reap("init", first)
truth.tell()
