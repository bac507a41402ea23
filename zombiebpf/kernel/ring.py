# SPDX-License-Identifier: Apache-2.0
"""The BPF ring buffer, read in batches straight from its memory.

Layout (kernel/bpf/ringbuf.c): a page with the consumer's position, a page with
the producer's, then the data twice in a row, so that nothing ever wraps. Each
record has an 8-byte header whose topmost bit says that it is still being
written. All records are of one size, so a batch is one copy, and checking it is
one strided look at the headers. bcc's callbacks cost 2-6 times as much.
"""

from __future__ import annotations

import mmap

_HEADER_BYTES = 8
_BUSY_BYTE = 3  # of the header: bit 31 busy, bit 30 discarded


class Ring:
    """The consumer of one ring buffer of fixed-size records.

    `fd` is the map's, `pages` its size in pages, `record_bytes` a multiple of 8.
    """

    def __init__(self, fd: int, pages: int, record_bytes: int) -> None:
        page = mmap.PAGESIZE
        self._size = pages * page
        self._stride = record_bytes + _HEADER_BYTES
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

    def read(self, most_records: int = 65536) -> bytes:
        """Whole records, each after its 8-byte header; empty when there are none.

        They are copied and given back to the kernel before this returns.
        """
        end = self._produced[0]
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
        data = self._producer[start : start + ready * self._stride]
        self._position += ready * self._stride
        self._consumed[0] = self._position
        return data

    @property
    def stride(self) -> int:
        """Bytes from one record to the next; the payload begins 8 bytes in."""
        return self._stride

    def close(self) -> None:
        self._consumed.release()
        self._produced.release()
        self._consumer.close()
        self._producer.close()
