# SPDX-License-Identifier: Apache-2.0
"""The main thread forks, another reaps, by waitid: the reaper's tid is that thread's."""

import os
import threading

from harness import truth

OPTIONS = os.WEXITED | os.WNOHANG


def reap() -> None:
    truth.waitid("child", os.P_ALL, 0, OPTIONS)


pid = truth.spawn("child", lambda: 1)
truth.peek("child", pid)
thread = threading.Thread(target=reap)
thread.start()
thread.join()
truth.tell()
