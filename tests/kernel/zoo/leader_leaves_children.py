# SPDX-License-Identifier: Apache-2.0
"""A main thread that has a child exits before its sibling: the child has three parents.

First the main thread, then the sibling (no orphaning), then, when that ends, the subreaper.
"""

import threading

from harness import raw, truth

raw.become_subreaper()
mine = truth.own_pid()
gate, ready, go, handed = truth.Gate(), truth.Gate(), truth.Gate(), truth.Word()


def last_thread() -> None:
    ready.open()
    go.wait()
    truth.say("process", death=[truth.now(), None])
    raw.exit_thread(4)


def process() -> None:
    handed.send(truth.spawn("child", gate.then(2)))
    threading.Thread(target=last_thread, daemon=True).start()
    raw.exit_thread(3)


low = truth.now()
pid = truth.spawn("process", process)
child = handed.receive()
ready.wait()
truth.until_zombie(pid)
truth.fence()
truth.orphaned("child", pid, pid, "thread", False, low)
low = truth.now()
go.open()
truth.reap("process", pid)
truth.orphaned("child", pid, mine, "subreaper", False, low)
gate.open()
truth.reap("child", child, by="adopter")
truth.tell()
