# SPDX-License-Identifier: Apache-2.0
"""SA_NOCLDWAIT, with the default action and with a handler: SIGCHLD is sent, no zombie is left."""

import signal

from harness import raw, truth

handled = []
for role, action in (
    ("default action", signal.SIG_DFL),
    ("handler", lambda number, frame: handled.append(number)),
):
    signal.signal(signal.SIGCHLD, action)
    raw.add_sigaction_flag(signal.SIGCHLD, raw.SA_NOCLDWAIT)
    pid = truth.spawn(role, lambda: 5)
    truth.until_gone(role, pid)
    truth.say(role, status=5 << 8, reaped_by="kernel", zombie=False)
truth.until(lambda: bool(handled), "the handler ran")
truth.tell()
