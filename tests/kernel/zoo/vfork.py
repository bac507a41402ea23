# SPDX-License-Identifier: Apache-2.0
"""vfork: the child runs in the parent's memory and _exits; the parent sleeps meanwhile."""

import signal

from harness import raw, truth

low = truth.now()
pid = raw.clone_and_exit(raw.CLONE_VM | raw.CLONE_VFORK | signal.SIGCHLD, 7)
truth.say("child", pid=pid, fork=[low, truth.now()], forker=truth.me(), death=[low, None])
truth.reap("child", pid)
truth.tell()
