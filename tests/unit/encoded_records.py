# SPDX-License-Identifier: Apache-2.0
"""Encode events as the probes do, so that what reads records can be given events."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from zombiebpf.model import wire
from zombiebpf.model.events import Event
from zombiebpf.model.wire import RECORD_BYTES, TYPE_AT, Records

KINDS = {event: kind for kind, event in wire.EVENTS.items()}
_MEMBERS = {kind: wire.members(kind) for kind in wire.EVENTS}


def encoded(event: Event) -> bytes:
    """Return the record of an event; what a record does not hold is left out."""
    kind = KINDS[type(event)]
    record = bytearray(RECORD_BYTES)
    struct.pack_into("<H", record, TYPE_AT, kind)
    for name, offset, form in _MEMBERS[kind]:
        value = getattr(event, name)
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape")
        struct.pack_into(
            "<" + form, record, offset, *(value if isinstance(value, tuple) else (value,))
        )
    return bytes(record)


def records(events: Iterable[Event]) -> Records:
    """Return the records of events, as one read gives them."""
    return Records(b"".join(map(encoded, events)))
