# SPDX-License-Identifier: Apache-2.0
"""The os module's own calls, and what is not Python's."""

import contextlib
import os
import signal


def fork() -> int:
    pid = os.fork()  # forks
    if pid == 0:
        os._exit(0)
    return pid


def dead() -> int:
    """Return a child that has died and is not reaped."""
    pid = fork()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def main() -> None:
    os.waitpid(fork(), 0)  # reaps: os.wait*
    os.waitpid(dead(), os.WNOHANG)  # reaps: os.wait*
    fork()
    os.wait()  # reaps: os.wait*
    os.wait4(fork(), 0)  # reaps: os.wait*
    os.waitid(os.P_PID, fork(), os.WEXITED)  # reaps: os.wait*
    os.system("true")  # forks; reaps: os.system
    os.system("true; true & wait")  # forks; reaps: os.system
    os.spawnlp(os.P_WAIT, "true", "true")  # forks; reaps: os.spawn*
    with os.popen("true") as pipe:  # forks; reaps: os.popen
        pipe.read()
    pid = os.posix_spawnp("true", ["true"], {})  # forks
    os.waitpid(pid, 0)  # reaps: os.wait*
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(fork(), 0)  # the kernel reaps


if __name__ == "__main__":
    main()
