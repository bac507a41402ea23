# SPDX-License-Identifier: Apache-2.0
"""Child processes of the self-check that exit in unusual ways."""

from __future__ import annotations

import _thread
import ctypes
import os
import platform
from pathlib import Path

from zombiebpf.attach.processes import read_stat

WALL = 0x40000000  # include/uapi/linux/wait.h, __WALL: also children whose exit signal is 0

# of the two processes whose wait status does not come from exit_group() alone
_LONE_STATUS, _GROUP_STATUS = 41, 42
_SILENT_STATUS = 43
_SYS_EXIT = {"x86_64": 60, "aarch64": 93}  # ends one thread
_SYS_CLONE = {"x86_64": 56, "aarch64": 220}


def run_odd_exits() -> dict[int, int]:
    """Run and reap processes that exit other than by exit_group() of their only thread.

    Return PID -> exit status; {} on an unknown architecture.
    """
    number = _SYS_EXIT.get(platform.machine())
    if number is None:
        return {}
    libc = ctypes.CDLL(None)
    statuses = {}
    for thread, status in (False, _LONE_STATUS), (True, _GROUP_STATUS):
        pid = os.fork()
        if pid == 0:
            if thread:
                _thread.start_new_thread(_end_after_leader, (status,))
            libc.syscall(number, _LONE_STATUS)  # ends this thread, without exit_group()
            os._exit(1)
        os.waitpid(pid, 0)
        statuses[pid] = status
    return statuses


def _end_after_leader(status: int) -> None:
    while (leader := read_stat(os.getpid(), Path("/proc/self/task"))) and leader.state != "Z":
        os.sched_yield()
    os._exit(status)


def start_silent_exit(reading: int, writing: int) -> dict[int, int]:
    """Run a child whose exit signal is 0, so that its exit sends no signal; leave it a zombie.

    It leaves a child of its own that runs until the pipe is closed. Return PID -> exit
    status; {} if it cannot be cloned here.
    """
    number = _SYS_CLONE.get(platform.machine())
    if number is None:
        return {}
    libc = ctypes.PyDLL(None)  # keeps the GIL: the child has no other thread that could release it
    pid: int = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(0)] * 5)
    if pid == 0:
        os.close(writing)
        if os.fork() == 0:
            os.read(reading, 1)
            os._exit(0)
        os._exit(_SILENT_STATUS)
    if pid < 0:
        return {}
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | WALL)  # its child is reparented by then
    return {pid: _SILENT_STATUS}
