# SPDX-License-Identifier: Apache-2.0
"""The adopter ignores SIGCHLD: a zombie goes when it is given it, a live child when it dies."""

import signal

from harness import raw, truth

raw.become_subreaper()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
mine = truth.own_pid()
gate, go, handed = truth.Gate(), truth.Gate(), truth.Word()


def parent() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    zombie = truth.spawn("zombie", lambda: 3)
    truth.peek("zombie", zombie)
    handed.send(zombie)
    handed.send(truth.spawn("live", gate.then(4)))
    go.wait()


pid = truth.spawn("parent", parent)
zombie, live = handed.receive(), handed.receive()
low = truth.now()
truth.say("zombie", reap=[low, None])
go.open()
truth.until_gone("zombie", zombie)
truth.until_gone("parent", pid)
# no process gets a signal for the parent's death: no signal in it stamps the adoption exactly
truth.orphaned("zombie", pid, mine, "subreaper", True, low, may_be_late=True)
truth.orphaned("live", pid, mine, "subreaper", False, low, may_be_late=True)
gate.open()
truth.until_gone("live", live)
truth.say("zombie", status=3 << 8, reaped_by="kernel")  # it was one: zombie_ns is known
truth.say("live", status=4 << 8, reaped_by="kernel", zombie=False)
truth.say("parent", status=0, reaped_by="kernel", zombie=False)
truth.tell()
