# SPDX-License-Identifier: Apache-2.0
"""Processes of the self-check that end in an odd way."""

from __future__ import annotations

import _thread
import ctypes
import os
import platform
from pathlib import Path

WALL = 0x40000000  # include/uapi/linux/wait.h, __WALL: children whose exit signal is 0, too

# of the two processes whose wait status does not come from exit_group() alone
_LONE_STATUS, _GROUP_STATUS = 41, 42
_SILENT_STATUS = 43
_SYS_EXIT = {"x86_64": 60, "aarch64": 93}  # ends one thread
_SYS_CLONE = {"x86_64": 56, "aarch64": 220}


def odd_exits() -> dict[int, int]:
    """Processes that end otherwise than by exit_group() of a single thread: PID -> status."""
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
            libc.syscall(number, _LONE_STATUS)  # this thread's end, without exit_group()
            os._exit(1)
        os.waitpid(pid, 0)
        statuses[pid] = status
    return statuses


def _end_after_leader(status: int) -> None:
    leader = os.getpid()
    while Path(f"/proc/self/task/{leader}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        os.sched_yield()
    os._exit(status)


def silent_exit(reading: int, writing: int) -> dict[int, int]:
    """A child whose exit signal is 0, so that no signal tells of its end; it is left a zombie, and
    leaves a child that lives until the pipe is closed: PID -> status."""
    number = _SYS_CLONE.get(platform.machine())
    if number is None:
        return {}
    libc = ctypes.PyDLL(None)  # keeps the interpreter's lock: the child has no thread to give it up
    pid: int = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(0)] * 5)
    if pid == 0:
        os.close(writing)
        if os.fork() == 0:
            os.read(reading, 1)
            os._exit(0)
        os._exit(_SILENT_STATUS)
    if pid < 0:
        return {}
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | WALL)  # its child has been given away, then
    return {pid: _SILENT_STATUS}
