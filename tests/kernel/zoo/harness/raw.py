# SPDX-License-Identifier: Apache-2.0
"""System calls that Python has no name for, by libc and by bare numbers.

Numbers: the kernel's arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import platform
import struct
from typing import Any, Optional

_NUMBERS = {
    "x86_64": {"clone": 56, "exit": 60, "wait4": 61, "waitid": 247},
    "aarch64": {"clone": 220, "exit": 93, "wait4": 260, "waitid": 95},
}
_COMMON = {"io_uring_setup": 425, "io_uring_enter": 426, "clone3": 435}
NR = {**_NUMBERS[platform.machine()], **_COMMON}

CLONE_VM = 0x100
CLONE_SIGHAND = 0x800
CLONE_VFORK = 0x4000
CLONE_PARENT = 0x8000
CLONE_NEWPID = 0x20000000
WALL = 0x40000000  # __WALL
WCLONE = 0x80000000  # __WCLONE
SA_NOCLDWAIT = 2
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PTRACE_TRACEME = 0
PTRACE_CONT = 7
PTRACE_SEIZE = 0x4206

_libc = ctypes.CDLL(None, use_errno=True)
_held = ctypes.PyDLL(None, use_errno=True)  # keeps the GIL, for a call that returns twice


def _checked(result: int, name: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def syscall(name: str, *arguments: Any, held: bool = False) -> int:
    library = _held if held else _libc
    library.syscall.restype = ctypes.c_long
    words = [each if hasattr(each, "_type_") else ctypes.c_long(each) for each in arguments]
    return _checked(library.syscall(ctypes.c_long(NR[name]), *words), name)


def clone(flags: int) -> int:
    """fork by clone(2): `flags` with the exit signal in the low byte. 0 in the child."""
    return syscall("clone", flags, 0, 0, 0, 0, held=True)


def clone3(exit_signal: int, set_tid: int) -> int:
    """fork by clone3(2) that gives the child the PID `set_tid` (root, kernel 5.5)."""
    pids = (ctypes.c_int * 1)(set_tid)
    fields = [0, 0, 0, 0, exit_signal, 0, 0, 0, ctypes.addressof(pids), 1, 0]
    block = ctypes.create_string_buffer(struct.pack("11Q", *fields), 88)
    return syscall("clone3", ctypes.addressof(block), 88, held=True)


def exit_thread(code: int) -> None:
    """End the calling thread alone, the main one too: exit(2), not exit_group(2)."""
    _libc.syscall(ctypes.c_long(NR["exit"]), ctypes.c_long(code))


# clone(flags, 0, ...) whose child at once does exit(code) and touches no stack, so that it may
# share ours: in C one could not be sure of that. First argument flags, second code.
_CLONE_AND_EXIT = {
    "x86_64": bytes.fromhex(
        "4989f0"  # mov r8, rsi: keep code (r8, clone's tls, is not read)
        "31f6" "31d2" "4d31d2"  # xor esi, esi; xor edx, edx; xor r10, r10
        "b838000000" "0f05"  # mov eax, 56; syscall
        "4885c0" "7401" "c3"  # test rax, rax; jz +1; ret
        "4c89c7" "b83c000000" "0f05"  # mov rdi, r8; mov eax, 60; syscall
    ),
    "aarch64": struct.pack(
        "<13I",
        0xAA0103E5,  # mov x5, x1
        0xD2800001, 0xD2800002, 0xD2800003, 0xD2800004,  # mov x1..x4, #0
        0xD2801B88,  # mov x8, #220
        0xD4000001,  # svc #0
        0xB4000040,  # cbz x0, +8
        0xD65F03C0,  # ret
        0xAA0503E0,  # mov x0, x5
        0xD2800BA8,  # mov x8, #93
        0xD4000001,  # svc #0
        0xD4200000,  # brk #0
    ),
}  # fmt: skip


@functools.cache
def _code_address() -> int:
    """Where that code lies; for ever, since a child may run in it after we have returned."""
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(_CLONE_AND_EXIT[platform.machine()])
    start = ctypes.c_char.from_buffer(page)
    _code_pages.append(start)  # holds the mapping
    return ctypes.addressof(start)


_code_pages: list[ctypes.c_char] = []


def clone_and_exit(flags: int, code: int) -> int:
    """clone(2) a child that may share our memory and ends at once with `code`; its PID."""
    prototype = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_long)
    result = int(prototype(_code_address())(flags, code))
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def prctl(option: int, value: object) -> None:
    word = value if isinstance(value, bytes) else ctypes.c_ulong(int(str(value)))
    _checked(_libc.prctl(option, word, 0, 0, 0), "prctl")


def become_subreaper() -> None:
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def rename(name: bytes) -> None:
    """Name the calling thread; the main thread's name is the process's."""
    prctl(PR_SET_NAME, name)


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    _checked(_libc.setns(descriptor, kind), "setns")


def ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    _libc.ptrace.restype = ctypes.c_long
    words = [ctypes.c_long(each) for each in (request, pid, address, data)]
    return _checked(_libc.ptrace(*words), "ptrace")


class _SigAction(ctypes.Structure):
    _fields_ = (  # glibc's struct sigaction
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def add_sigaction_flag(number: int, flag: int) -> None:
    """Keep a signal's handler and add `flag` to it."""
    action = _SigAction()
    _checked(_libc.sigaction(number, None, ctypes.byref(action)), "sigaction")
    action.flags |= flag
    _checked(_libc.sigaction(number, ctypes.byref(action), None), "sigaction")


def kernel_release() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(each for each in minor if each.isdigit()))


def read_int(path: str) -> Optional[int]:
    try:
        with open(path) as file:
            return int(file.read())
    except FileNotFoundError:
        return None


def signed(word: int) -> int:
    """A 32-bit word as the int that os.waitpid takes."""
    return word - (1 << 32) if word >> 31 else word
