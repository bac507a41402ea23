# SPDX-License-Identifier: Apache-2.0
"""A child is stopped and continued: waits that report it reap nothing, and it is not a zombie."""

import os
import signal

from harness import truth

gate = truth.Gate()
pid = truth.spawn("child", gate.then(5))
for number, option, is_so in (
    (signal.SIGSTOP, os.WUNTRACED, os.WIFSTOPPED),
    (signal.SIGCONT, os.WCONTINUED, os.WIFCONTINUED),
):
    os.kill(pid, number)
    assert is_so(os.waitpid(pid, option)[1])
gate.open()
truth.peek("child", pid)
truth.reap("child", pid)
truth.tell()
