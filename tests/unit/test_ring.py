# SPDX-License-Identifier: Apache-2.0
"""The ring buffer's reader against one laid out in memory as kernel/bpf/ringbuf.c does."""

from __future__ import annotations

import itertools
import mmap
import os
import struct
from collections.abc import Iterator
from typing import Any, Callable, Union

import pytest

from zombiebpf.bpf.ringbuffer import RingBuffer, VariableRingBuffer

PAGE = mmap.PAGESIZE
PAGES = 2
SIZE = PAGES * PAGE
RECORD = 88
STRIDE = RECORD + 8
FITS = SIZE // STRIDE
BUSY, DISCARDED = 1 << 31, 1 << 30


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
        return self.write_bytes(payload(number), flags)

    def write_bytes(self, data: bytes, flags: int = 0) -> int:
        """One record of any size: the next begins at a multiple of 8."""
        at = self.position
        # the header's second word is the page of the record, for the kernel alone
        self.put(at, struct.pack("<II", len(data) | flags, at // PAGE % PAGES) + data)
        self.position += 8 + (len(data) + 7) // 8 * 8
        os.pwrite(self.fd, struct.pack("<Q", self.position), PAGE)
        return at

    def commit(self, at: int, size: int = RECORD, flags: int = 0) -> None:
        self.put(at, struct.pack("<I", size | flags))

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
        assert data[at : at + 4] == struct.pack("<I", RECORD)
        found.append(number)
    return found


@pytest.fixture
def producer() -> Iterator[Producer]:
    made = Producer()
    yield made
    made.close()


@pytest.fixture
def ring(producer: Producer) -> Iterator[RingBuffer]:
    made = RingBuffer(producer.fd, PAGES, RECORD)
    yield made
    made.close()


def test_an_empty_ring(producer: Producer, ring: RingBuffer) -> None:
    assert ring.read() == b""
    assert producer.consumed == 0


def test_records_come_once_and_in_order(producer: Producer, ring: RingBuffer) -> None:
    for number in range(7):
        producer.write(number)
    assert numbers(ring.read()) == list(range(7))
    assert producer.consumed == 7 * STRIDE
    assert ring.read() == b""
    producer.write(7)
    assert numbers(ring.read()) == [7]


def test_the_stride(ring: RingBuffer) -> None:
    assert ring.stride == STRIDE


def test_a_busy_record_holds_up_those_behind_it(producer: Producer, ring: RingBuffer) -> None:
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


def test_the_first_record_is_busy(producer: Producer, ring: RingBuffer) -> None:
    at = producer.write(0, BUSY)
    assert ring.read() == b""
    producer.commit(at)
    assert numbers(ring.read()) == [0]


def test_most_records(producer: Producer, ring: RingBuffer) -> None:
    for number in range(5):
        producer.write(number)
    assert numbers(ring.read(2)) == [0, 1]
    assert producer.consumed == 2 * STRIDE
    assert numbers(ring.read(2)) == [2, 3]
    assert numbers(ring.read(2)) == [4]


def test_a_full_ring(producer: Producer, ring: RingBuffer) -> None:
    for number in range(FITS):
        producer.write(number)
    assert numbers(ring.read()) == list(range(FITS))


def test_records_that_lie_across_the_end(producer: Producer, ring: RingBuffer) -> None:
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
    ring = RingBuffer(producer.fd, PAGES, RECORD)
    producer.write(42)
    assert numbers(ring.read()) == [42]
    ring.close()
    producer.close()


def test_positions_beyond_32_bits() -> None:
    producer = Producer(position=(1 << 32) - STRIDE)
    ring = RingBuffer(producer.fd, PAGES, RECORD)
    producer.write(1)
    producer.write(2)
    assert numbers(ring.read()) == [1, 2]
    assert producer.consumed == (1 << 32) + STRIDE
    ring.close()
    producer.close()


def test_what_was_read_stays_when_the_ring_is_written_again(
    producer: Producer, ring: RingBuffer
) -> None:
    producer.write(1)
    data = ring.read()
    for number in range(2, 2 + FITS):
        producer.write(number)
    assert numbers(data) == [1]


class Logged:
    """Memory that says when it is looked at, and when it is written to."""

    def __init__(self, memory: Any, says: Callable[[Any], str], log: list[str]) -> None:
        self._memory, self._says, self._log = memory, says, log

    def __getitem__(self, key: Any) -> Any:
        self._log.append(self._says(key))
        return self._memory[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._log.append("given back")
        self._memory[key] = value


def logged(
    ring: Union[RingBuffer, VariableRingBuffer], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """What the reader does with the memory, in its order."""
    log: list[str] = []
    fence = ring._fence

    def counted() -> None:
        log.append("fence")
        fence()

    def of_data(key: slice) -> str:
        return "payload" if key.step is None else "header"

    monkeypatch.setattr(ring, "_fence", counted)
    monkeypatch.setattr(ring, "_produced", Logged(ring._produced, lambda _: "position", log))
    monkeypatch.setattr(ring, "_consumed", Logged(ring._consumed, lambda _: "own", log))
    monkeypatch.setattr(ring, "_producer", Logged(ring._producer, of_data, log))
    if isinstance(ring, VariableRingBuffer):
        monkeypatch.setattr(ring, "_words", Logged(ring._words, lambda _: "header", log))
    return log


IN_ORDER = ["position", "fence", "header", "fence", "payload", "fence", "given back"]


def test_each_look_is_over_before_the_next_one(
    producer: Producer, ring: RingBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the machine may do a later load first, it would see what was there before."""
    producer.write(1)
    with monkeypatch.context() as patch:
        log = logged(ring, patch)
        assert numbers(ring.read()) == [1]
    assert log == IN_ORDER


def test_the_fence_comes_back_and_can_be_passed_again(ring: RingBuffer) -> None:
    """It is a lock that is held: nobody else may have it meanwhile."""
    for _ in range(3):
        ring._fence()
        assert ring._own.locked()


# records of any size


@pytest.fixture
def texts(producer: Producer) -> Iterator[VariableRingBuffer]:
    made = VariableRingBuffer(producer.fd, PAGES)
    yield made
    made.close()


def some(number: int, size: int) -> bytes:
    """Bytes that tell where they were cut, or taken from a neighbour."""
    return bytes((number + at) % 251 + 1 for at in range(size))


def test_an_empty_ring_of_texts(producer: Producer, texts: VariableRingBuffer) -> None:
    assert texts.read() == []
    assert producer.consumed == 0


SIZES = [*range(18), 31, 63, 64, 65, 1391, 4095, 4097]


def test_each_record_has_its_own_size(producer: Producer, texts: VariableRingBuffer) -> None:
    for size in SIZES:
        written = [some(1, 5), some(2, size), some(3, 3)]
        for data in written:
            producer.write_bytes(data)
        assert texts.read() == written
        assert producer.consumed == producer.position
        assert texts.read() == []


def test_each_look_at_texts_is_over_before_the_next_one(
    producer: Producer, texts: VariableRingBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer.write_bytes(some(1, 9))
    producer.write_bytes(some(2, 9), DISCARDED)
    with monkeypatch.context() as patch:
        log = logged(texts, patch)
        assert texts.read() == [some(1, 9)]
    assert list(dict.fromkeys(log)) == list(dict.fromkeys(IN_ORDER))
    assert [what for what, _ in itertools.groupby(log)] == IN_ORDER


def test_a_busy_text_holds_up_those_behind_it(
    producer: Producer, texts: VariableRingBuffer
) -> None:
    producer.write_bytes(some(0, 13))
    busy = producer.write_bytes(some(1, 21), BUSY)
    producer.write_bytes(some(2, 8))
    assert texts.read() == [some(0, 13)]
    assert producer.consumed == busy
    assert texts.read() == []
    assert producer.consumed == busy
    producer.commit(busy, 21)
    assert texts.read() == [some(1, 21), some(2, 8)]
    assert producer.consumed == producer.position


def test_a_busy_record_that_is_discarded_in_the_end(
    producer: Producer, texts: VariableRingBuffer
) -> None:
    busy = producer.write_bytes(some(0, 21), BUSY)
    producer.write_bytes(some(1, 3))
    assert texts.read() == []
    producer.commit(busy, 21, DISCARDED)
    assert texts.read() == [some(1, 3)]


def test_discarded_texts_are_stepped_over(producer: Producer, texts: VariableRingBuffer) -> None:
    producer.write_bytes(some(0, 9))
    producer.write_bytes(some(1, 100), DISCARDED)
    producer.write_bytes(some(2, 9))
    producer.write_bytes(some(3, 1), DISCARDED)
    assert texts.read() == [some(0, 9), some(2, 9)]
    assert producer.consumed == producer.position
    producer.write_bytes(some(4, 1), DISCARDED)
    assert texts.read() == []
    assert producer.consumed == producer.position


def test_texts_that_lie_across_the_end(producer: Producer, texts: VariableRingBuffer) -> None:
    across = 0
    for number in range(60 * PAGE // 4096):
        size = 1 + 397 * number % 1500
        at = producer.write_bytes(some(number, size))
        across += at % SIZE + 8 + size > SIZE
        assert texts.read() == [some(number, size)]
    assert across > 2
    assert producer.consumed == producer.position > 3 * SIZE


def test_a_header_at_the_very_end(texts: VariableRingBuffer, producer: Producer) -> None:
    """Its first 8 bytes are the last of the data, which begin anew right behind."""
    producer.write_bytes(some(0, SIZE - 16))
    assert texts.read() == [some(0, SIZE - 16)]
    at = producer.write_bytes(some(1, 24))
    assert at == SIZE - 8
    assert texts.read() == [some(1, 24)]


def test_texts_go_on_where_the_last_consumer_stopped() -> None:
    producer = Producer(position=(1 << 32) - 16)
    texts = VariableRingBuffer(producer.fd, PAGES)
    producer.write_bytes(some(0, 9))
    producer.write_bytes(some(1, 1))
    assert texts.read() == [some(0, 9), some(1, 1)]
    assert producer.consumed == (1 << 32) + 24
    texts.close()
    producer.close()


def test_texts_stay_when_the_ring_is_written_again(
    producer: Producer, texts: VariableRingBuffer
) -> None:
    producer.write_bytes(some(7, 30))
    kept = texts.read()
    for number in range(40 * PAGE // 4096):
        producer.write_bytes(some(number, 300))
        texts.read()
    assert producer.position > SIZE
    assert kept == [some(7, 30)]
