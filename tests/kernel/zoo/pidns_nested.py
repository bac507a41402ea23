# SPDX-License-Identifier: Apache-2.0
"""A PID namespace in a PID namespace: PIDs are the observer's, `pidns` is the innermost one."""

from harness import raw, truth

raw.unshare(raw.CLONE_NEWPID)
gate, handed = truth.Gate(), truth.Word()


def parent() -> None:
    handed.send(truth.spawn("orphan", gate.then(4)))


def inner() -> int:
    low = truth.now()
    pid = truth.spawn("parent", parent)
    orphan = handed.receive()
    truth.reap("parent", pid)
    truth.orphaned("orphan", truth.pid_of("parent"), truth.own_pid(), "init", False, low)
    gate.open()
    truth.reap("orphan", orphan, by="adopter")
    return 2


def outer() -> int:
    truth.reap("sibling", truth.spawn("sibling", lambda: 1))
    raw.unshare(raw.CLONE_NEWPID)
    truth.reap("inner init", truth.spawn("inner init", inner))
    return 3


truth.reap("outer init", truth.spawn("outer init", outer))
truth.tell()
