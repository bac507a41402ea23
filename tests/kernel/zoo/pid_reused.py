# SPDX-License-Identifier: Apache-2.0
"""One PID, two lives: clone3 with set_tid gives a PID again as soon as it is free."""

import functools
import signal

from harness import raw, truth

pid = truth.spawn("first", lambda: 1)
truth.reap("first", pid)
for role, code in (("second", 2), ("third", 3)):
    make = functools.partial(raw.clone3, signal.SIGCHLD, pid)
    again = truth.spawn(role, functools.partial(int, code), make)
    assert again == pid
    truth.reap(role, again)
truth.tell()
