# SPDX-License-Identifier: Apache-2.0
"""Decode the probes' records. The layout is declared once, in `zombiebpf.model.events`."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Callable, NamedTuple, get_args, get_type_hints

from zombiebpf.model import events
from zombiebpf.model.events import Event

RECORD_BYTES = 88
TYPE_AT = 20  # offset of the 16-bit type; all types fit in its first byte
_BODY_AT = 24

# enum zb_type of probes/wire.h
FORK, EXEC, TEXT, EXIT, ZOMBIE, REPARENT, WAIT, REAP, FREED, STACK, BLOCK, SNAPSHOT = range(1, 13)
EVENTS: Mapping[int, type[Any]] = MappingProxyType(dict(enumerate(get_args(Event), 1)))

LOST_STACKS = "Python stack without room"
# why records were lost, by index in the probes' array `lost`
LOST_CAUSES = (
    "ring buffer full",
    "table of processes full",
    "auxiliary table full",
    LOST_STACKS,
)

NOT_RUN = "probe not run by the kernel"  # one more cause, counted by the kernel itself

_MAX_COMMS = 4096

Decoder = Callable[[bytes, int], Event]


class WireError(ValueError):
    """A record of an unknown type."""


class Member(NamedTuple):
    """A member of a record: where it lies, and its format for the struct module."""

    name: str
    offset: int
    form: str


def members(kind: int) -> list[Member]:
    """Return the members of a record type in order, laid out as the C ABI does.

    The widths come from the annotations of the event's class; each member is aligned
    to its own width. A record starts with `ns start_ns pid` and the 16-bit type.
    """
    found, at = [], 0
    for name, hint in get_type_hints(EVENTS[kind], vars(events), include_extras=True).items():
        form = getattr(hint, "__metadata__", (None,))[0]
        if form is None:
            continue  # not in the record
        if name not in ("ns", "start_ns", "pid"):
            at = max(at, _BODY_AT)
        align = struct.calcsize(form[-1])
        at = (at + align - 1) // align * align
        found.append(Member(name, at, form))
        at += struct.calcsize("<" + form)
    return found


def _format(kind: int) -> str:
    """Return the format by which the struct module unpacks a record type."""
    form, end = "<", 0
    for member in members(kind):
        if member.offset > end:
            form += f"{member.offset - end}x"
        form += member.form
        end = member.offset + struct.calcsize("<" + member.form)
    return form


FORMATS: Mapping[int, str] = {kind: _format(kind) for kind in EVENTS}

_comms: dict[bytes, str] = {}


def _comm(raw: bytes) -> str:
    """Decode a comm and cache it: there are few."""
    if len(_comms) >= _MAX_COMMS:
        _comms.clear()
    found = _comms[raw] = raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    return found


def _decoder(kind: int) -> Decoder:
    """Make the decoder of a record type, as source text: no loop over members at run time."""
    event = EVENTS[kind]
    taken, given = [], []
    for name, _, form in members(kind):
        count = int(form[:-1] or 1) if form[-1] == "Q" else 1
        parts = [name] if count == 1 else [f"{name}_{index}" for index in range(count)]
        taken += parts
        if form == "16s":
            given.append(f"_known.get({name}) or _text({name})")
        else:
            given.append(name if count == 1 else f"({', '.join(parts)})")
    given += ["None"] * (len(event._fields) - len(given))
    source = (
        f"def decode(data, at):\n"
        f"    {', '.join(taken)} = _unpack(data, at)\n"
        f"    return _new(_event, ({', '.join(given)}))\n"
    )
    scope: dict[str, Any] = {
        "_unpack": struct.Struct(FORMATS[kind]).unpack_from,
        "_new": tuple.__new__,  # NamedTuple's own __new__ takes three times as long
        "_event": event,
        "_known": _comms,
        "_text": _comm,
    }
    exec(source, scope)
    decode: Decoder = scope["decode"]
    return decode


def _unknown(data: bytes, at: int) -> Event:
    raise WireError(f"record type {data[at + TYPE_AT]}")


# by type: a list, as an index costs less than a key
_DECODERS = [_decoder(kind) if kind in EVENTS else _unknown for kind in range(256)]


def decode(data: bytes, stride: int = RECORD_BYTES, first: int = 0) -> list[Event]:
    """Return the events of whole records that lie `stride` bytes apart, the first at `first`.

    Raise WireError for a record of an unknown type.
    """
    decoders = _DECODERS
    return [decoders[data[at + TYPE_AT]](data, at) for at in range(first, len(data), stride)]
