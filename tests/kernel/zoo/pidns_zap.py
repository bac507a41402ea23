# SPDX-License-Identifier: Apache-2.0
"""The init of a PID namespace dies: the kernel kills the rest, and none stays a zombie.

The dying init releases what was a zombie before by a wait of its own, inside exit; it ignores
SIGCHLD meanwhile, and so whoever is killed is released at once.
"""

import signal

from harness import raw, truth

raw.become_subreaper()
raw.unshare(raw.CLONE_NEWPID)
handed, ready = truth.Word(), truth.Gate()


def sleeper() -> int:
    ready.open()
    return truth.forever()


def parent() -> None:
    truth.spawn("adopted", sleeper)
    ready.wait()


def init() -> int:
    truth.peek("zombie", truth.spawn("zombie", lambda: 5))
    truth.spawn("live", sleeper)
    ready.wait()
    low = truth.now()
    pid = truth.spawn("parent", parent)
    truth.reap("parent", pid)
    truth.orphaned("adopted", truth.pid_of("parent"), truth.own_pid(), "init", False, low)
    low = truth.now()
    truth.say("zombie", reap=[low, None])
    for role in ("live", "adopted"):
        truth.say(role, death=[low, None])
    return 6


pid = truth.spawn("init", init)
truth.reap("init", pid)
high = truth.now()
for role in ("live", "adopted"):
    truth.say(role, death=[None, high], reap=[None, high], status=int(signal.SIGKILL))
    truth.say(role, reaped_by="kernel", zombie=False, state="reaped")
reaper = {"pid": pid, "tid": pid}
truth.say("zombie", reap=[None, high], status=5 << 8, reaper=reaper, reaped_by="parent")
truth.say("zombie", state="reaped")
truth.tell()
