# SPDX-License-Identifier: Apache-2.0
"""What the observer makes of both rings, without a kernel."""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import Any, Optional, cast

import pytest

from zombiebpf.bpf import loaded
from zombiebpf.kernel import observer as module
from zombiebpf.kernel.observer import MAX_BATCH, Observer
from zombiebpf.kernel.thread_activity import ThreadActivity
from zombiebpf.model import wire
from zombiebpf.model.stack import Stack
from zombiebpf.model.wire import Records

STACK_ID = 77


class FakeRing:
    """Batches of records, each with its header."""

    stride = wire.RECORD_BYTES + 8

    def __init__(self, order: list[str]) -> None:
        self.batches: list[bytes] = []
        self._order = order

    def read(self, most_records: int) -> bytes:
        assert most_records == MAX_BATCH
        self._order.append("events")
        return self.batches.pop(0) if self.batches else b""

    def close(self) -> None:
        self._order.append("closed")


class FakeTexts:
    """Records of the second ring."""

    def __init__(self, order: list[str]) -> None:
        self.records: list[bytes] = []
        self._order = order

    def read_all(self) -> list[bytes]:
        self._order.append("texts")
        found, self.records = self.records, []
        return found

    def close(self) -> None:
        self._order.append("closed")


class FakeDiscovery:
    def __init__(self) -> None:
        self.looked: list[Any] = []

    def look(self, events: Records) -> None:
        self.looked += events.events()


class FakeTable:
    map_fd = -1


class FakeProbes:
    def __getitem__(self, name: str) -> FakeTable:
        return FakeTable()

    def close(self) -> None:
        pass


class Rig:
    """An observer whose ring buffers are ours."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.order: list[str] = []
        self.ring, self.texts = FakeRing(self.order), FakeTexts(self.order)
        self.discovery = FakeDiscovery()
        patch.setattr(module, "RingBuffer", lambda *_: self.ring)
        patch.setattr(module, "VariableRingBuffer", lambda *_: self.texts)
        patch.setattr(module, "InterpreterDiscovery", lambda *_: self.discovery)
        self.observer = Observer(cast(loaded.Probes, FakeProbes()), [], {})


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def batch(*pids: int) -> bytes:
    record = b""
    for pid in pids:
        record += bytes(8) + struct.pack("<QQIH", 100, 200, pid, wire.STACK).ljust(88, b"\0")
    return record


def empty_stack(stack_id: int) -> bytes:
    """probes/pywire.h, struct zb_py_stack: no frames."""
    return struct.pack("<IIQII", 1, 0, stack_id, 5, 0)


def test_stacks_are_read_behind_the_events_that_speak_of_them(rig: Rig) -> None:
    rig.ring.batches.append(batch(20, 21))
    rig.texts.records.append(empty_stack(STACK_ID))
    events = rig.observer.read()
    assert [event.pid for event in events.events()] == [20, 21]
    assert rig.order == ["events", "texts"]
    assert rig.observer.stacks.get(STACK_ID) == Stack(())
    assert rig.discovery.looked == list(events.events())


def test_nothing_has_happened(rig: Rig) -> None:
    assert not rig.observer.read()
    assert rig.discovery.looked == []


def test_a_record_that_is_none_does_not_end_the_observation(rig: Rig) -> None:
    """It came from a program's memory."""
    rig.ring.batches.append(batch(20))
    for broken in (b"", b"\xff" * 40, empty_stack(1)[:-1], struct.pack("<II", 9, 0)):
        rig.texts.records.append(broken)
    rig.texts.records.append(empty_stack(STACK_ID))
    assert len(rig.observer.read()) == 1
    assert rig.observer.stacks.get(STACK_ID) == Stack(())


@pytest.mark.parametrize(
    "doing", [None, ThreadActivity("cat", "read", None, 0), ThreadActivity("a", "b", 1, 77)]
)
def test_a_note_may_speak_of_a_stack_that_was_not_read_yet(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, doing: Optional[ThreadActivity]
) -> None:
    asked = []

    def look_at(probes: object, pid: int, tid: int, kernel_tids: bool) -> Optional[ThreadActivity]:
        asked.append((pid, tid))
        rig.texts.records.append(empty_stack(STACK_ID))  # it goes to sleep at that moment
        return doing

    monkeypatch.setattr(module, "look_at", look_at)
    assert rig.observer.activity_of(20, 21) == doing
    assert asked == [(20, 21)]
    known = doing is not None and doing.stack_id != 0
    assert (rig.observer.stacks.get(STACK_ID) == Stack(())) == known


def test_losses_by_their_causes(rig: Rig) -> None:
    class Lost(dict[int, list[int]]):
        Key = int

    per_cpu = {index: [index, 10] for index in range(len(wire.LOST_CAUSES))}

    class Probes(dict[str, Lost]):
        def missed_runs(self, names: Collection[str]) -> int:
            assert {"on_sched_process_fork", "on_release_task"} <= set(names)
            assert "on_kmem_cache_free" not in names  # interrupts free memory, too
            return 7

    rig.observer._probes = cast(loaded.Probes, Probes(lost=Lost(per_cpu)))
    assert list(rig.observer.lost().items()) == [
        ("ring buffer full", 10),
        ("table of processes full", 11),
        ("auxiliary table full", 12),
        ("Python stack without room", 13),
        ("probe not run by the kernel", 7),
    ]


def test_closing_twice(rig: Rig) -> None:
    rig.observer.close()
    rig.observer.close()
    assert rig.order == ["closed", "closed"]
