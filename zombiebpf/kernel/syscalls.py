# SPDX-License-Identifier: Apache-2.0
"""The names of system calls in which a process can be reaped or a thread can block."""

from __future__ import annotations

import platform
from collections.abc import Mapping

# arch/x86/entry/syscalls/syscall_64.tbl
_X86_64 = {
    0: "read", 1: "write", 7: "poll", 16: "ioctl", 19: "readv", 20: "writev", 23: "select",
    34: "pause", 35: "nanosleep", 42: "connect", 43: "accept", 44: "sendto", 45: "recvfrom",
    46: "sendmsg", 47: "recvmsg", 58: "vfork", 61: "wait4", 65: "semop", 70: "msgrcv",
    72: "fcntl", 73: "flock", 74: "fsync", 128: "rt_sigtimedwait", 130: "rt_sigsuspend",
    202: "futex", 219: "restart_syscall", 220: "semtimedop", 230: "clock_nanosleep",
    232: "epoll_wait", 242: "mq_timedsend", 243: "mq_timedreceive", 247: "waitid",
    270: "pselect6", 271: "ppoll", 281: "epoll_pwait", 288: "accept4", 299: "recvmmsg",
    426: "io_uring_enter", 441: "epoll_pwait2", 449: "futex_waitv",
}  # fmt: skip

# include/uapi/asm-generic/unistd.h
_ARM64 = {
    22: "epoll_pwait", 25: "fcntl", 29: "ioctl", 32: "flock", 63: "read", 64: "write",
    65: "readv", 66: "writev", 72: "pselect6", 73: "ppoll", 82: "fsync", 95: "waitid",
    98: "futex", 101: "nanosleep", 115: "clock_nanosleep", 128: "restart_syscall",
    133: "rt_sigsuspend", 137: "rt_sigtimedwait", 182: "mq_timedsend", 183: "mq_timedreceive",
    188: "msgrcv", 192: "semtimedop", 193: "semop", 202: "accept", 203: "connect",
    206: "sendto", 207: "recvfrom", 211: "sendmsg", 212: "recvmsg", 242: "accept4",
    243: "recvmmsg", 260: "wait4", 426: "io_uring_enter", 441: "epoll_pwait2",
    449: "futex_waitv",
}  # fmt: skip

_BY_MACHINE = {"x86_64": _X86_64, "aarch64": _ARM64}


def syscall_names() -> Mapping[int, str]:
    """Return number -> name for this machine; others are reported as `syscall_N`."""
    return _BY_MACHINE.get(platform.machine(), {})
