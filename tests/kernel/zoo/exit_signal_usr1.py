# SPDX-License-Identifier: Apache-2.0
"""clone() with exit signal SIGUSR1: a "clone child", which a plain wait does not see."""

import os
import signal

from harness import raw, truth

signal.signal(signal.SIGUSR1, lambda number, frame: None)
pid = truth.spawn("clone child", lambda: 11, make=lambda: raw.clone(signal.SIGUSR1))
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | raw.WALL)
truth.say("clone child", death=[None, truth.now()])
try:
    os.waitpid(pid, os.WNOHANG)
    raise AssertionError("a plain wait saw a clone child")
except ChildProcessError:
    pass
truth.reap("clone child", pid, raw.signed(raw.WCLONE))

pid = truth.spawn("clone child 2", lambda: 12, make=lambda: raw.clone(signal.SIGUSR1))
truth.reap("clone child 2", pid, raw.WALL)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # autoreap goes by the exit signal
pid = truth.spawn("SIGCHLD ignored", lambda: 13, make=lambda: raw.clone(signal.SIGUSR1))
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | raw.WALL)
truth.say("SIGCHLD ignored", death=[None, truth.now()])
truth.reap("SIGCHLD ignored", pid, raw.WALL)
truth.tell()
