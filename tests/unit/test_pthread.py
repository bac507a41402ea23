# SPDX-License-Identifier: Apache-2.0
"""Where glibc has what the walk of a stack reads: probes/pthread.h against the glibc that runs."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import threading

from zombiebpf.kernel.program import probes_directory

GET_ROBUST_LIST = {"x86_64": 274, "aarch64": 100}
KEYS, KEY_BYTES = 32, 16  # of struct pthread's first block: nptl/descr.h
LIBC = ctypes.CDLL(None, use_errno=True)


def declared(machine: str) -> dict[str, int]:
    """The numbers that pthread.h has for a machine: first x86_64's, then those of all others."""
    text = (probes_directory() / "pthread.h").read_text(encoding="utf-8")
    x86_64, _, others = text.partition("\n#else\n")
    part = x86_64 if machine == "x86_64" else others
    return {
        name: int(value, 16)
        for name, value in re.findall(r"^#define (PTHREAD_\w+) (0x\w+)", part, re.M)
    }


def offset_in_glibc(name: str) -> int:
    """Where a field lies in struct pthread, as glibc tells debuggers (nptl_db)."""
    return int((ctypes.c_uint32 * 3).in_dll(LIBC, f"_thread_db_pthread_{name}")[2])


def robust_list() -> int:
    """Of this thread, from its struct pthread on: get_robust_list(2)."""
    head, length = ctypes.c_uint64(), ctypes.c_uint64()
    number = ctypes.c_long(GET_ROBUST_LIST[platform.machine()])
    failed = LIBC.syscall(number, 0, ctypes.byref(head), ctypes.byref(length))
    assert not failed, os.strerror(ctypes.get_errno())
    return head.value - threading.get_ident()


def test_the_values_of_keys() -> None:
    """`specific` has a pointer to each block, and lies behind the first one."""
    first = offset_in_glibc("specific") - KEYS * KEY_BYTES
    assert declared(platform.machine())["PTHREAD_SPECIFIC"] == first


def test_the_list_of_robust_mutexes() -> None:
    # behind tid, another int and a pointer
    assert robust_list() == offset_in_glibc("tid") + 16
    # where the thread pointer is no help it is known by that list
    assert declared("aarch64")["PTHREAD_ROBUST_HEAD"] == {
        "x86_64": robust_list() - 0x200,  # its tcbhead_t is larger by that
        "aarch64": robust_list(),
    }.get(platform.machine())


def test_from_the_one_to_the_other_it_is_as_far_everywhere() -> None:
    arm64 = declared("aarch64")
    here = offset_in_glibc("specific") - KEYS * KEY_BYTES - robust_list()
    assert arm64["PTHREAD_SPECIFIC"] - arm64["PTHREAD_ROBUST_HEAD"] == here


def test_each_thread_has_its_own_list_at_the_same_place() -> None:
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(robust_list())) for _ in range(3)]
    for each in threads:
        each.start()
        each.join()
    assert seen == [robust_list()] * 3
