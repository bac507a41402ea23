# SPDX-License-Identifier: Apache-2.0
"""Two children that _exit: one reaped late, one by a parent that waits already."""

import os

from harness import raw, truth


def awaited() -> None:
    truth.until_in_syscall(os.getppid(), raw.NR["wait4"])


late = truth.spawn("late", lambda: 7)
truth.peek("late", late)
truth.reap("late", late)

truth.reap("awaited", truth.spawn("awaited", awaited), blocked=True)

for number in range(1, 4):  # a child a wait, without looking before
    truth.reap(f"quick {number}", truth.spawn(f"quick {number}", lambda: 0))
truth.tell()
