# SPDX-License-Identifier: Apache-2.0
"""posix_spawn, which is clone(CLONE_VM | CLONE_VFORK) and an exec."""

import os

from harness import truth

low = truth.now()
pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 6"], {})
high = truth.now()
program = {"filename": "/bin/sh", "ns": [low, None]}  # vfork ends within the exec
truth.say("child", pid=pid, fork=[low, high], forker=truth.me(), death=[low, None])
truth.say("child", exec=[program], argv=["sh", "-c", "exit 6"], comm="sh")
truth.reap("child", pid)
truth.tell()
