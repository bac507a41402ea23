# SPDX-License-Identifier: Apache-2.0
"""The BPF ring buffer, read in batches straight from its memory.

Layout (kernel/bpf/ringbuf.c): a page with the consumer's position, a page with
the producer's, then the data twice in a row, so that nothing ever wraps. Each
record has an 8-byte header whose topmost bit says that it is still being
written. All records are of one size, so a batch is one copy, and checking it is
one strided look at the headers. bcc's callbacks cost 2-6 times as much.

The order in which that is read matters. The kernel makes the producer's position,
then the header, known by a release (smp_store_release(), xchg()); libbpf acquires
both (smp_load_acquire()). Python has plain loads only, which arm64 may carry out in
another order, so that a record would seem ready and be an old one. _fence() stands
between the position, the headers, the payloads, and the giving back of their space.
"""

from __future__ import annotations

import _thread
import mmap
import time

_HEADER_BYTES = 8
_BUSY, _DISCARDED = 1 << 31, 1 << 30  # of the header's first word, whose rest is the size
_PATIENCE = 1000  # looks at a record that is being written, which takes microseconds
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
        # native words: one load or store each, where struct would go byte by byte and
        # meet, or show the kernel, a position that is half old and half new
        self._consumed = memoryview(self._consumer)[:8].cast("Q")
        self._produced = memoryview(self._producer)[:8].cast("Q")
        self._position = self._consumed[0]
        self._own = _thread.allocate_lock()
        self._own.acquire()

    def _fence(self) -> None:
        """What was read before is read before what comes after.

        A lock's release is a store that waits for all earlier accesses; its acquisition begins
        with a load that all later ones wait for; and the hardware keeps the two in order (Arm's
        memory model: [L]; po; [A]). x86_64 does not reorder loads: 0.5 us a batch for nothing.
        """
        self._own.release()
        self._own.acquire()

    def close(self) -> None:
        self._consumed.release()
        self._produced.release()
        self._consumer.close()
        self._producer.close()


class Ring(_Mapped):
    """The consumer of a ring buffer of fixed-size records; `record_bytes` is a multiple of 8."""

    def __init__(self, fd: int, pages: int, record_bytes: int) -> None:
        super().__init__(fd, pages)
        self._stride = record_bytes + _HEADER_BYTES

    def read(self, most_records: int = 65536) -> bytes:
        """Whole records, each after its 8-byte header; empty when there are none.

        They are copied and given back to the kernel before this returns.
        """
        end = self._produced[0]
        self._fence()
        count = min((end - self._position) // self._stride, most_records)
        if not count:
            return b""
        start = self._data_at + self._position % self._size
        stop = start + count * self._stride
        # first the headers, then the payload: what was busy at the first look is left
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
        """Bytes from one record to the next; the payload begins 8 bytes in."""
        return self._stride


class TextRing(_Mapped):
    """The consumer of a ring buffer of records of any size, few in number."""

    def __init__(self, fd: int, pages: int) -> None:
        super().__init__(fd, pages)
        self._words = memoryview(self._producer).cast("I")

    def read(self) -> list[bytes]:
        """All that is whole, copied and given back to the kernel."""
        return self._read(self._produced[0])

    def read_all(self) -> list[bytes]:
        """The same, and what is being written just now: another CPU's record may stand in front."""
        end = self._produced[0]
        records = self._read(end)
        for _ in range(_PATIENCE):
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
        self._words.release()
        super().close()
