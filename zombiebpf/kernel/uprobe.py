# SPDX-License-Identifier: Apache-2.0
"""A BPF program at an instruction of a binary: perf_event_open(2), without bcc.

bcc's bpf_attach_uprobe() falls back to tracefs where the kernel refuses, leaves its entry in
uprobe_events when that fails too, writes to the user's terminal, and cannot detach where tracefs
is not mounted.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
from pathlib import Path

_TYPE = Path("/sys/bus/event_source/devices/uprobe/type")  # Linux 4.17: commit 33ea4b24277b
_SYSCALLS = {"x86_64": 298, "aarch64": 241}  # perf_event_open
_FD_CLOEXEC = 8  # PERF_FLAG_FD_CLOEXEC, include/uapi/linux/perf_event.h
_SET_BPF = 0x40042408  # PERF_EVENT_IOC_SET_BPF
_ENABLE = 0x2400  # PERF_EVENT_IOC_ENABLE


class _Attributes(ctypes.Structure):
    """struct perf_event_attr as of PERF_ATTR_SIZE_VER1."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("uprobe_path", ctypes.c_uint64),  # config1
        ("probe_offset", ctypes.c_uint64),  # config2
    )


def attach(program: int, path: str, offset: int) -> int:
    """Run the BPF program (a descriptor, type kprobe) where a process executes the instruction
    `offset` bytes into the file. The result is a descriptor: closing it detaches.

    OSError with the kernel's reason: EACCES where it wants CAP_SYS_ADMIN for that (since commit
    ba677dbe77af, "perf: Revert to requiring CAP_SYS_ADMIN for uprobes").
    """
    name = ctypes.create_string_buffer(os.fsencode(path))
    attributes = _Attributes(
        type=int(_TYPE.read_text()),
        size=ctypes.sizeof(_Attributes),
        sample_period=1,
        wakeup_events=1,
        uprobe_path=ctypes.addressof(name),
        probe_offset=offset,
    )
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        raise OSError(f"uprobes of {platform.machine()} are not known here")
    # any process (-1), and though it names CPU 0, a program at a uprobe runs on all
    event: int = libc.syscall(
        ctypes.c_long(number), ctypes.byref(attributes), *map(ctypes.c_long, (-1, 0, -1)),
        ctypes.c_ulong(_FD_CLOEXEC),
    )  # fmt: skip
    if event < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)
    try:
        fcntl.ioctl(event, _SET_BPF, program)
        fcntl.ioctl(event, _ENABLE, 0)
    except OSError:
        os.close(event)
        raise
    return event
