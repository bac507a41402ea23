# SPDX-License-Identifier: Apache-2.0
"""Many orphans for the adopter of this machine, and forks at full speed while they are reaped.

What the kernel frees at their reaps it uses again at once, for these forks: an observer that
missed such a reap must not take another process's for it.
"""

import os
from typing import Callable

from harness import truth

ORPHANS = 101
adopted, handed = truth.Word(), truth.Word()


def orphan_of(parent: int) -> Callable[[], None]:
    def orphan() -> None:
        truth.until(lambda: os.getppid() != parent, "adopted")
        adopted.send(os.getppid())

    return orphan


def middle_of(role: str) -> Callable[[], None]:
    def middle() -> None:
        handed.send(truth.spawn(role, orphan_of(os.getpid())))

    return middle


orphans = {}
for number in range(ORPHANS):
    low = truth.now()
    middle = truth.spawn(f"middle {number}", middle_of(f"orphan {number}"))
    truth.reap(f"middle {number}", middle)
    adopter = adopted.receive()
    kind = "init" if adopter == 1 else "subreaper"
    truth.orphaned(f"orphan {number}", middle, adopter, kind, False, low)
    truth.say(f"orphan {number}", status=0, adopter=adopter)
    orphans[f"orphan {number}"] = handed.receive()

children = 0
last = list(orphans.values())[-1]
truth.until(lambda: truth.proc_state(last) in ("Z", ""), "the last orphan is dead")
end = truth.now() + 5_000_000_000  # if nobody ever reaps them, they are zombies still
while truth.now() < end and any(truth.proc_state(pid) for pid in orphans.values()):
    for _ in range(50):
        children += 1
        truth.reap(f"child {children}", truth.spawn(f"child {children}", lambda: 9))
for role, pid in orphans.items():
    if truth.proc_state(pid):
        truth.say(role, state="zombie", death=[None, truth.now()])
    else:
        truth.until_gone(role, pid)
truth.tell()
