# SPDX-License-Identifier: Apache-2.0
"""The vocabulary keeps its promises."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from tests.unit.encoded_records import KINDS as NUMBERS
from tests.unit.encoded_records import records
from zombiebpf.lifecycle.lifecycle import Lifecycle
from zombiebpf.model import events
from zombiebpf.model.events import (
    Event,
    ReapFlags,
    SnapshotFlags,
    StackKind,
    StackProblem,
    TextKind,
    ZombieHook,
)
from zombiebpf.model.wire import RECORD_BYTES, TYPE_AT, Records

KINDS: tuple[Any, ...] = get_args(Event)


def test_all_of_them_are_events() -> None:
    declared = {
        each for each in vars(events).values() if isinstance(each, type) and issubclass(each, tuple)
    }
    assert set(KINDS) == declared
    assert len(KINDS) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_each_begins_with_when_and_who(kind: Any) -> None:
    assert kind._fields[:3] == ("ns", "start_ns", "pid")
    assert kind.__doc__


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_immutable_and_hashable(kind: Any) -> None:
    event = kind(*range(len(kind._fields)))
    with pytest.raises(AttributeError):
        event.ns = 1
    assert {event: 1}[kind(*range(len(kind._fields)))] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_machine_takes_each(kind: Any) -> None:
    (event,) = Records(bytes(TYPE_AT) + bytes([NUMBERS[kind]]) + bytes(RECORD_BYTES - 21)).events()
    assert type(event) is kind
    assert isinstance(Lifecycle({}).feed(records([event])), list)


def test_what_the_kernels_numbers_mean() -> None:
    # probes/wire.h; test_wire_records.py compares them
    assert (ZombieHook.SIGNAL_GENERATE, ZombieHook.LATE) == (0, 1)
    assert (TextKind.FILENAME, TextKind.ARGV) == (1, 2)
    assert (ReapFlags.EXITING, ReapFlags.BY_PARENT, ReapFlags.STACKED) == (1, 2, 4)
    assert (SnapshotFlags.EXITING, SnapshotFlags.ZOMBIE, SnapshotFlags.JOINED) == (1, 2, 4)
    assert [kind.value for kind in StackKind] == [1, 2, 3, 4]
    assert [problem.value for problem in StackProblem] == [0, 1, 2, 3, 4, 5]


def test_what_only_the_reader_knows_is_optional() -> None:
    existing = events.Snapshot(*range(14))
    assert (existing.parent_comm, existing.argv) == (None, None)
