# SPDX-License-Identifier: Apache-2.0
"""io_uring's WAITID reaps with no wait system call: at once, and when the child dies later."""

import ctypes
import errno
import mmap
import os
import struct
from typing import Callable

from harness import raw, truth

WAITID, ASYNC, GETEVENTS = 50, 1 << 4, 1  # IORING_OP_WAITID, IOSQE_ASYNC, IORING_ENTER_GETEVENTS
SQ_RING, CQ_RING, ENTRIES = 0, 0x8000000, 0x10000000  # IORING_OFF_*


class RingBuffer:
    def __init__(self) -> None:
        parameters = ctypes.create_string_buffer(120)
        self.fd = raw.syscall("io_uring_setup", 4, ctypes.addressof(parameters))
        words = struct.unpack("30I", parameters.raw)
        self.sq_tail, self.sq_array = words[11], words[16]
        self.cq_head, self.cq_tail, self.cqes = words[20], words[21], words[25]
        self.sq = mmap.mmap(self.fd, 4096, offset=SQ_RING)
        self.cq = mmap.mmap(self.fd, 4096, offset=CQ_RING)
        self.entries = mmap.mmap(self.fd, 4096, offset=ENTRIES)

    def submit_waitid(self, pid: int, flags: int, info: int) -> None:
        entry = struct.pack(
            "<BBHiQQIIQHHI16x", WAITID, flags, 0, pid, info, 0, os.P_PID, 0, 0, 0, 0, os.WEXITED
        )
        self.entries[:64] = entry
        tail = self.word(self.sq, self.sq_tail)
        self.set_word(self.sq, self.sq_array + 4 * (tail % 4), 0)
        self.set_word(self.sq, self.sq_tail, tail + 1)
        self.enter(1, 0)

    def enter(self, submitted: int, completed: int) -> None:
        flags = GETEVENTS if completed else 0
        raw.syscall("io_uring_enter", self.fd, submitted, completed, flags, 0, 0)

    def result(self) -> int:
        """Of the oldest completion; waits for it in io_uring_enter."""
        self.enter(0, 1)
        head = self.word(self.cq, self.cq_head)
        assert head != self.word(self.cq, self.cq_tail)
        result: int = struct.unpack_from("<i", self.cq, self.cqes + 16 * (head % 8) + 8)[0]
        self.set_word(self.cq, self.cq_head, head + 1)
        return result

    @staticmethod
    def word(memory: mmap.mmap, offset: int) -> int:
        value: int = struct.unpack_from("<I", memory, offset)[0]
        return value

    @staticmethod
    def set_word(memory: mmap.mmap, offset: int, value: int) -> None:
        struct.pack_into("<I", memory, offset, value)


def reap(ring: RingBuffer, role: str, pid: int, flags: int, release: Callable[[], None]) -> None:
    info = ctypes.create_string_buffer(128)

    def wait() -> "tuple[int, int]":
        ring.submit_waitid(pid, flags, ctypes.addressof(info))
        release()
        result = ring.result()
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        code, child, _, status = struct.unpack_from("<8xi4x3i", info)  # siginfo_t
        return child, truth.status_of(code, status)

    truth.reap_by(role, wait, {"syscall": "io_uring_enter", "options": None})


def nothing() -> None:
    pass


def main() -> None:
    try:
        ring = RingBuffer()
    except OSError as error:
        disabled = raw.read_int("/proc/sys/kernel/io_uring_disabled")
        if error.errno == errno.ENOSYS or disabled:
            return truth.unsupported(f"io_uring: {error}; io_uring_disabled={disabled}")
        raise
    if raw.kernel_release() < (6, 7):
        return truth.unsupported("io_uring has WAITID from kernel 6.7 on")
    pid = truth.spawn("a zombie already", lambda: 3)
    truth.peek("a zombie already", pid)
    reap(ring, "a zombie already", pid, 0, nothing)

    pid = truth.spawn("by a worker", lambda: 5)
    truth.peek("by a worker", pid)
    reap(ring, "by a worker", pid, ASYNC, nothing)
    # the worker is a thread of ours; /proc/TID/syscall, too, has it in the call that made it
    worker = {"pid": truth.own_pid(), "not_tid": truth.own_pid()}
    truth.say("by a worker", reaper=worker)

    gate = truth.Gate()
    pid = truth.spawn("dies later", gate.then(4))
    reap(ring, "dies later", pid, 0, gate.open)
    return truth.tell()


main()
