# SPDX-License-Identifier: Apache-2.0
"""clone() with exit signal 0: the parent gets no signal, the child is a zombie all the same.

No signal stamps the zombie, only the dying thread's last switch does, which may come after a
quick parent's reap: then it cannot be known when it was one (adopted_zombie.py has a slow one).
"""

import os
from typing import Any

from harness import raw, truth

LATE: "dict[str, Any]" = {"zombie_may_be_late": True, "may_be_unseen": ["zombie_ns"]}

pid = truth.spawn("silent", lambda: 9, make=lambda: raw.clone(0))
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | raw.WALL)
truth.say("silent", death=[None, truth.now()])
truth.reap("silent", pid, raw.WALL, **LATE)


def awaited() -> int:
    truth.until_in_syscall(os.getppid(), raw.NR["wait4"])
    return 10


pid = truth.spawn("silent, awaited", awaited, make=lambda: raw.clone(0))
truth.reap("silent, awaited", pid, raw.signed(raw.WCLONE), **LATE)
truth.tell()
