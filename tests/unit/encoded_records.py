# SPDX-License-Identifier: Apache-2.0
"""Encode events as the probes do, so that what reads records can be given events."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from zombiebpf.model import wire
from zombiebpf.model.events import Event
from zombiebpf.model.wire import RECORD_BYTES, TYPE_AT, Records

KINDS = {event: kind for kind, event in wire.EVENTS.items()}
_NAMES = {kind: [member.name for member in wire.members(kind)] for kind in wire.EVENTS}
_PACK_INTO = {kind: struct.Struct(form).pack_into for kind, form in wire.FORMATS.items()}


def record(kind: int, *values: Any) -> bytes:
    """Return a record of its members' values: texts are bytes, an array is one value each."""
    made = bytearray(RECORD_BYTES)
    _PACK_INTO[kind](made, 0, *values)
    made[TYPE_AT] = kind
    return bytes(made)


def encoded(event: Event) -> bytes:
    """Return the record of an event; what a record does not hold is left out."""
    kind = KINDS[type(event)]
    values: list[Any] = []
    for name in _NAMES[kind]:
        value = getattr(event, name)
        if isinstance(value, tuple):
            values += value
        else:
            values.append(
                value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            )
    return record(kind, *values)


def records(events: Iterable[Event]) -> Records:
    """Return the records of events, as one read gives them."""
    return Records(b"".join(map(encoded, events)))
