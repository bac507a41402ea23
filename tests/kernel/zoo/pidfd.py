# SPDX-License-Identifier: Apache-2.0
"""waitid(P_PIDFD): the child is named by a descriptor, no PID is in the call."""

import os

from harness import truth

pid = truth.spawn("child", lambda: 4)
descriptor = os.pidfd_open(pid)
truth.waitid("child", os.P_PIDFD, descriptor, os.WEXITED)
truth.tell()
