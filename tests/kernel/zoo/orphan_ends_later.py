# SPDX-License-Identifier: Apache-2.0
"""A double fork with setsid: a daemon that outlives the command; any process may adopt it."""

import os

from harness import truth

adopted = truth.Word()
gate = os.pipe()


def daemon() -> int:
    os.setsid()
    middle = truth.pid_of("middle")
    truth.until(lambda: os.getppid() != middle, "adopted")
    adopted.send(os.getppid())
    for descriptor in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    os.close(gate[1])
    os.read(gate[0], 1)  # ends when the command does, and with it this pipe's other end
    return 4


def middle() -> None:
    truth.spawn("daemon", daemon)


low = truth.now()
pid = truth.spawn("middle", middle)
adopter = adopted.receive()
truth.reap("middle", pid)
kind = "init" if adopter == 1 else "subreaper"
truth.orphaned("daemon", pid, adopter, kind, False, low)
truth.say("daemon", status=4 << 8, death=[truth.now(), None])
truth.tell()
