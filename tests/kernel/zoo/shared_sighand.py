# SPDX-License-Identifier: Apache-2.0
"""A process that shares its signal handlers with its parent (CLONE_SIGHAND, no CLONE_THREAD)."""

import signal

from harness import raw, truth

low = truth.now()
flags = raw.CLONE_VM | raw.CLONE_VFORK | raw.CLONE_SIGHAND | signal.SIGCHLD
pid = raw.clone_and_exit(flags, 7)
truth.say("child", pid=pid, fork=[low, truth.now()], forker=truth.me(), death=[low, None])
# the handlers outlive the child, so that a hook on their release shows the parent's reap alone
truth.reap("child", pid, may_be_unseen=["reaper", "reap_call"])
truth.tell()
