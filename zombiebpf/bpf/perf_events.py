# SPDX-License-Identifier: Apache-2.0
"""Run BPF programs at an instruction of a binary or of the kernel: perf_event_open(2).

bcc's own functions fall back to tracefs if the kernel refuses, leave their entry in
uprobe_events if that fails too, write to the terminal, and cannot detach if tracefs is not
mounted.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
from pathlib import Path

_KIND = "/sys/bus/event_source/devices/{}/type"  # Linux 4.17: commits e12f03d7031a, 33ea4b24277b
_SYSCALLS = {"x86_64": 298, "aarch64": 241}  # perf_event_open
_FD_CLOEXEC = 8  # PERF_FLAG_FD_CLOEXEC, include/uapi/linux/perf_event.h
_SET_BPF = 0x40042408  # PERF_EVENT_IOC_SET_BPF
_ENABLE = 0x2400  # PERF_EVENT_IOC_ENABLE


class _Attributes(ctypes.Structure):
    """struct perf_event_attr up to PERF_ATTR_SIZE_VER1."""

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
        ("name", ctypes.c_uint64),  # config1: a uprobe's path, a kprobe's function
        ("probe_offset", ctypes.c_uint64),  # config2
    )


def attach_uprobe(program: int, path: str, offset: int) -> int:
    """Run a program when a process executes the instruction `offset` bytes into a file.

    `program` is a descriptor of type KPROBE. Return a descriptor; closing it detaches. Raise
    OSError, with EACCES without CAP_SYS_ADMIN (since commit ba677dbe77af, "perf: Revert to
    requiring CAP_SYS_ADMIN for uprobes").
    """
    return _run(program, open_event("uprobe", path, offset))


def attach_kprobe(program: int, function: str) -> int:
    """Run a program when the kernel enters `function`. Return a descriptor; closing it detaches."""
    return _run(program, open_event("kprobe", function, 0))


def open_event(kind: str, name: str, offset: int) -> int:
    """Open a `uprobe` or `kprobe` event; return its descriptor. It has no program yet."""
    given = ctypes.create_string_buffer(os.fsencode(name))
    attributes = _Attributes(
        type=int(Path(_KIND.format(kind)).read_text()),
        size=ctypes.sizeof(_Attributes),
        sample_period=1,
        wakeup_events=1,
        name=ctypes.addressof(given),
        probe_offset=offset,
    )
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        raise OSError(f"{kind}s of {platform.machine()} are not known here")
    # any process (-1); a program at an instruction runs on all CPUs, not on CPU 0 alone
    event: int = libc.syscall(
        ctypes.c_long(number), ctypes.byref(attributes), *map(ctypes.c_long, (-1, 0, -1)),
        ctypes.c_ulong(_FD_CLOEXEC),
    )  # fmt: skip
    if event < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), name)
    return event


def _run(program: int, event: int) -> int:
    try:
        fcntl.ioctl(event, _SET_BPF, program)
        fcntl.ioctl(event, _ENABLE, 0)
    except OSError:
        os.close(event)
        raise
    return event
