# SPDX-License-Identifier: Apache-2.0
"""One PID, two lives: clone3 with set_tid gives a PID again as soon as it is free."""

import signal

from keeper import raw, truth

pid = truth.spawn("first", lambda: 1)
truth.reap("first", pid)
for role, code in (("second", 2), ("third", 3)):
    again = truth.spawn(role, lambda code=code: code, make=lambda: raw.clone3(signal.SIGCHLD, pid))
    assert again == pid
    truth.reap(role, again)
truth.tell()
