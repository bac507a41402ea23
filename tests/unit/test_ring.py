# SPDX-License-Identifier: Apache-2.0
"""The ring buffer's reader against one laid out in memory as kernel/bpf/ringbuf.c does."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest

from zombiebpf.kernel.ring import Ring

PAGE = mmap.PAGESIZE
PAGES = 2
SIZE = PAGES * PAGE
RECORD = 88
STRIDE = RECORD + 8
FITS = SIZE // STRIDE
BUSY = 1 << 31


class Producer:
    """The kernel's side. A memory file cannot alias its pages, so data are written twice."""

    def __init__(self, position: int = 0) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * SIZE)
        self.position = position
        os.pwrite(self.fd, struct.pack("<Q", position), 0)
        os.pwrite(self.fd, struct.pack("<Q", position), PAGE)

    def close(self) -> None:
        os.close(self.fd)

    def write(self, number: int, flags: int = 0) -> int:
        """Reserve and fill one record; where it begins."""
        at = self.position
        self.put(at, struct.pack("<II", RECORD | flags, 0) + payload(number))
        self.position += STRIDE
        os.pwrite(self.fd, struct.pack("<Q", self.position), PAGE)
        return at

    def commit(self, at: int) -> None:
        self.put(at, struct.pack("<I", RECORD))

    def put(self, at: int, data: bytes) -> None:
        for index, byte in enumerate(data):
            for copy in (0, SIZE):
                place = 2 * PAGE + copy + (at + index) % SIZE
                os.pwrite(self.fd, bytes([byte]), place)

    @property
    def consumed(self) -> int:
        (position,) = struct.unpack("<Q", os.pread(self.fd, 8, 0))
        assert isinstance(position, int)
        return position


def payload(number: int) -> bytes:
    return struct.pack("<Q", number) * (RECORD // 8)


def numbers(data: bytes) -> list[int]:
    """Of a batch, whose every record must be whole."""
    found = []
    assert len(data) % STRIDE == 0
    for at in range(0, len(data), STRIDE):
        number = int.from_bytes(data[at + 8 : at + 16], "little")
        assert data[at + 8 : at + STRIDE] == payload(number)
        assert data[at : at + 8] == struct.pack("<II", RECORD, 0)
        found.append(number)
    return found


@pytest.fixture
def producer() -> Iterator[Producer]:
    made = Producer()
    yield made
    made.close()


@pytest.fixture
def ring(producer: Producer) -> Iterator[Ring]:
    made = Ring(producer.fd, PAGES, RECORD)
    yield made
    made.close()


def test_an_empty_ring(producer: Producer, ring: Ring) -> None:
    assert ring.read() == b""
    assert producer.consumed == 0


def test_records_come_once_and_in_order(producer: Producer, ring: Ring) -> None:
    for number in range(7):
        producer.write(number)
    assert numbers(ring.read()) == list(range(7))
    assert producer.consumed == 7 * STRIDE
    assert ring.read() == b""
    producer.write(7)
    assert numbers(ring.read()) == [7]


def test_the_stride(ring: Ring) -> None:
    assert ring.stride == STRIDE


def test_a_busy_record_holds_up_those_behind_it(producer: Producer, ring: Ring) -> None:
    producer.write(0)
    producer.write(1)
    busy = producer.write(2, BUSY)
    producer.write(3)
    assert numbers(ring.read()) == [0, 1]
    assert producer.consumed == 2 * STRIDE
    assert ring.read() == b""
    assert producer.consumed == 2 * STRIDE
    producer.commit(busy)
    assert numbers(ring.read()) == [2, 3]
    assert producer.consumed == 4 * STRIDE


def test_the_first_record_is_busy(producer: Producer, ring: Ring) -> None:
    at = producer.write(0, BUSY)
    assert ring.read() == b""
    producer.commit(at)
    assert numbers(ring.read()) == [0]


def test_most_records(producer: Producer, ring: Ring) -> None:
    for number in range(5):
        producer.write(number)
    assert numbers(ring.read(2)) == [0, 1]
    assert producer.consumed == 2 * STRIDE
    assert numbers(ring.read(2)) == [2, 3]
    assert numbers(ring.read(2)) == [4]


def test_a_full_ring(producer: Producer, ring: Ring) -> None:
    for number in range(FITS):
        producer.write(number)
    assert numbers(ring.read()) == list(range(FITS))


def test_records_that_lie_across_the_end(producer: Producer, ring: Ring) -> None:
    assert SIZE % STRIDE  # some record does
    expected = 0
    for batch in range(23):
        count = 3 + 5 * batch % (FITS - 3)
        for number in range(expected, expected + count):
            producer.write(number)
        assert numbers(ring.read()) == list(range(expected, expected + count))
        expected += count
        assert producer.consumed == expected * STRIDE
    assert producer.position > 3 * SIZE


def test_it_goes_on_where_the_last_consumer_stopped() -> None:
    producer = Producer(position=5 * SIZE + 96)
    ring = Ring(producer.fd, PAGES, RECORD)
    producer.write(42)
    assert numbers(ring.read()) == [42]
    ring.close()
    producer.close()


def test_positions_beyond_32_bits() -> None:
    producer = Producer(position=(1 << 32) - STRIDE)
    ring = Ring(producer.fd, PAGES, RECORD)
    producer.write(1)
    producer.write(2)
    assert numbers(ring.read()) == [1, 2]
    assert producer.consumed == (1 << 32) + STRIDE
    ring.close()
    producer.close()


def test_what_was_read_stays_when_the_ring_is_written_again(producer: Producer, ring: Ring) -> None:
    producer.write(1)
    data = ring.read()
    for number in range(2, 2 + FITS):
        producer.write(number)
    assert numbers(data) == [1]
