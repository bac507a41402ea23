# SPDX-License-Identifier: Apache-2.0
"""A child is stopped and continued: waits that tell of it reap nothing, and it is no zombie."""

import os
import signal

from keeper import truth

gate = truth.Gate()
pid = truth.spawn("child", lambda: gate.wait() or 5)
for number, option, told in (
    (signal.SIGSTOP, os.WUNTRACED, os.WIFSTOPPED),
    (signal.SIGCONT, os.WCONTINUED, os.WIFCONTINUED),
):
    os.kill(pid, number)
    assert told(os.waitpid(pid, option)[1])
gate.open()
truth.peek("child", pid)
truth.reap("child", pid)
truth.tell()
