# SPDX-License-Identifier: Apache-2.0
"""A parent dies and leaves zombies: they are adopted as zombies, and go when the adopter waits.

One of them has exit signal 0: its parent gets no signal at its death, its adopter does.
"""

import functools
import os
import signal

from harness import raw, truth

raw.become_subreaper()
mine = truth.own_pid()
go, handed = truth.Gate(), truth.Word()


def parent() -> None:
    for role, exit_signal in (("child", signal.SIGCHLD), ("silent child", 0)):
        child = truth.spawn(role, lambda: 3, make=functools.partial(raw.clone, exit_signal))
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | raw.WALL)
        truth.say(role, death=[None, truth.now()])
        handed.send(child)
    go.wait()


pid = truth.spawn("parent", parent)
children = {"child": handed.receive(), "silent child": handed.receive()}
low = truth.now()
go.open()
truth.reap("parent", pid)
for role, child in children.items():
    truth.orphaned(role, pid, mine, "subreaper", True, low)
    truth.reap(role, child, by="adopter")
truth.say("silent child", zombie_may_be_late=True)
truth.tell()
