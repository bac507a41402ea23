# SPDX-License-Identifier: Apache-2.0
"""`refuse_bpf.py COMMAND ERROR PROGRAM...`: PROGRAM, to which the kernel refuses a bpf(2) command.

COMMAND is MAP_CREATE, PROG_LOAD or RAW_TRACEPOINT_OPEN; ERROR a name of errno(3).
A seccomp filter does it, as a container's policy would.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import NoReturn

# include/uapi/linux/bpf.h, enum bpf_cmd
COMMANDS = {"MAP_CREATE": 0, "PROG_LOAD": 5, "RAW_TRACEPOINT_OPEN": 17}
BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}

# include/uapi/linux/{filter,seccomp,prctl}.h
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
SYSCALL_NUMBER, FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data (little-endian)


def main(command: str, error: str, *program: str) -> NoReturn:
    steps = [
        (LOAD_WORD, 0, 0, SYSCALL_NUMBER),
        (JUMP_EQUAL, 0, 3, BPF_SYSCALL[platform.machine()]),
        (LOAD_WORD, 0, 0, FIRST_ARGUMENT),
        (JUMP_EQUAL, 0, 1, COMMANDS[command]),
        (RETURN, 0, 0, RET_ERRNO | getattr(errno, error)),
        (RETURN, 0, 0, RET_ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    filter_ = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")
    os.execv(program[0], program)


if __name__ == "__main__":
    main(*sys.argv[1:])
