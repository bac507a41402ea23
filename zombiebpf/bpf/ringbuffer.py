# SPDX-License-Identifier: Apache-2.0
"""Read BPF ring buffers in batches, directly from their memory.

Layout (kernel/bpf/ringbuf.c): a page with the consumer's position, a page with the
producer's, then the data twice in a row, so that no record wraps. Each record has an 8-byte
header whose topmost bit is set while it is being written. If all records are of one size, a
batch is one copy and its headers are checked by one strided slice. bcc's callbacks cost 2 to
6 times as much.

The kernel publishes first the producer's position, then the header, each by a release
(smp_store_release(), xchg()); libbpf acquires both (smp_load_acquire()). Python has only
plain loads, which arm64 may reorder, so that an old record would seem ready. _fence() keeps
the reads of position, headers and payloads and the release of their space in order.
"""

from __future__ import annotations

import _thread
import mmap
import time

_HEADER_BYTES = 8
_BUSY, _DISCARDED = 1 << 31, 1 << 30  # of the header's first word, whose rest is the size
_MAX_RETRIES = 1000  # for a record that is being written, which takes microseconds
_BUSY_BYTE = 3


class _Mapped:
    """The memory of one ring buffer. `fd` is the map's, `pages` its size in pages."""

    def __init__(self, fd: int, pages: int) -> None:
        page = mmap.PAGESIZE
        self._size = pages * page
        self._data_at = page
        self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, offset=0)
        self._producer = mmap.mmap(
            fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        for each in (self._consumer, self._producer):
            each.madvise(mmap.MADV_DONTFORK)  # of 48 MiB: halves the time of a fork
        # native words, each read or written at once: the struct module goes byte by byte, and
        # either side could see a position that is half old and half new
        self._consumed = memoryview(self._consumer)[:8].cast("Q")
        self._produced = memoryview(self._producer)[:8].cast("Q")
        self._position = self._consumed[0]
        self._own = _thread.allocate_lock()
        self._own.acquire()

    def _fence(self) -> None:
        """Complete all earlier reads before any later one.

        A lock's release is a store that waits for all earlier accesses. Its acquisition begins
        with a load that all later ones wait for, and Arm's memory model keeps the two in order
        ([L]; po; [A]). x86_64 does not reorder loads; there this wastes 0.5 us a batch.
        """
        self._own.release()
        self._own.acquire()

    def close(self) -> None:
        """Unmap the buffer."""
        self._consumed.release()
        self._produced.release()
        self._consumer.close()
        self._producer.close()


class RingBuffer(_Mapped):
    """The consumer of a ring buffer whose records have one size."""

    def __init__(self, fd: int, pages: int, record_bytes: int) -> None:
        """Map the buffer of the map `fd`; `record_bytes` is a multiple of 8."""
        super().__init__(fd, pages)
        self._stride = record_bytes + _HEADER_BYTES

    def read(self, most_records: int = 65536) -> bytes:
        """Return complete records, each after its 8-byte header; b"" if there are none.

        Their space is free for the kernel when this returns.
        """
        end = self._produced[0]
        self._fence()
        count = min((end - self._position) // self._stride, most_records)
        if not count:
            return b""
        start = self._data_at + self._position % self._size
        stop = start + count * self._stride
        # first the headers, then the payload: records that were busy stay for the next read
        busy = self._producer[start + _BUSY_BYTE : stop : self._stride]
        ready = len(busy) - len(busy.lstrip(b"\0"))
        if not ready:
            return b""
        self._fence()
        data = self._producer[start : start + ready * self._stride]
        self._fence()
        self._position += ready * self._stride
        self._consumed[0] = self._position
        return data

    @property
    def stride(self) -> int:
        """Bytes from one record to the next; a payload begins after 8 bytes."""
        return self._stride


class VariableRingBuffer(_Mapped):
    """The consumer of a ring buffer whose records differ in size, and are few."""

    def __init__(self, fd: int, pages: int) -> None:
        """Map the buffer of the map `fd`."""
        super().__init__(fd, pages)
        self._words = memoryview(self._producer).cast("I")

    def read(self) -> list[bytes]:
        """Return the complete records up to the first incomplete one."""
        return self._read(self._produced[0])

    def read_all(self) -> list[bytes]:
        """Return all records up to now; wait for those that another CPU is writing."""
        end = self._produced[0]
        records = self._read(end)
        for _ in range(_MAX_RETRIES):
            if self._position >= end:
                break
            time.sleep(0)
            records += self._read(end)
        return records

    def _read(self, end: int) -> list[bytes]:
        self._fence()
        ready = []
        words, position = self._words, self._position
        while position < end:
            at = self._data_at + position % self._size
            header = words[at // 4]
            if header & _BUSY:
                break
            size = header & ~(_BUSY | _DISCARDED)
            if not header & _DISCARDED:
                ready.append(slice(at + _HEADER_BYTES, at + _HEADER_BYTES + size))
            position += _HEADER_BYTES + (size + 7) // 8 * 8
        self._fence()
        records = [self._producer[each] for each in ready]
        self._fence()
        if position != self._position:
            self._position = self._consumed[0] = position
        return records

    def close(self) -> None:
        """Unmap the buffer."""
        self._words.release()
        super().close()
