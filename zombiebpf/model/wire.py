# SPDX-License-Identifier: Apache-2.0
"""Take the probes' records apart. The layout is declared once, in `zombiebpf.model.events`."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
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

# by type: takes a record's bytes and its place in them, returns its members in order
UNPACK: Mapping[int, Callable[[bytes, int], tuple[Any, ...]]] = {
    kind: struct.Struct(form).unpack_from for kind, form in FORMATS.items()
}


class _Comms(dict[bytes, str]):
    """The text of each comm: there are few."""

    def __missing__(self, raw: bytes) -> str:
        if len(self) >= _MAX_COMMS:
            self.clear()
        found = self[raw] = raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
        return found


COMMS = _Comms()


def _decoder(kind: int) -> Decoder:
    """Make the decoder of a record type."""
    event, unpack = EVENTS[kind], UNPACK[kind]
    new = tuple.__new__  # NamedTuple's own __new__ takes three times as long
    forms = [member.form for member in members(kind)]
    comms = [place for place, form in enumerate(forms) if form == "16s"]
    added = (None,) * (len(event._fields) - len(forms))  # what is not in the record
    count = len(forms) - 1
    if forms[-1][:-1].isdigit() and forms[-1].endswith("Q"):  # an array, after all others

        def decode(data: bytes, at: int) -> Event:
            values = unpack(data, at)
            return new(event, (*values[:count], values[count:]))  # type: ignore[no-any-return]

    elif comms or added:

        def decode(data: bytes, at: int) -> Event:
            values = [*unpack(data, at), *added]
            for place in comms:
                values[place] = COMMS[values[place]]
            return new(event, values)  # type: ignore[no-any-return]

    else:

        def decode(data: bytes, at: int) -> Event:
            return new(event, unpack(data, at))  # type: ignore[no-any-return]

    return decode


def unknown(data: bytes, at: int) -> Event:
    """Raise WireError for a record whose type is not known."""
    raise WireError(f"record type {data[at + TYPE_AT]}")


# by type: a list, as an index costs less than a key
DECODE: Sequence[Decoder] = [_decoder(kind) if kind in EVENTS else unknown for kind in range(256)]


class Records:
    """The records of one read, not decoded, in the order in which the kernel wrote them.

    `data` holds them `stride` bytes apart, the first at `first`. `kinds` has the type of
    each, as a byte, and `places` where each begins.
    """

    __slots__ = ("data", "kinds", "places")

    def __init__(self, data: bytes = b"", stride: int = RECORD_BYTES, first: int = 0) -> None:
        self.data = data
        self.kinds = data[first + TYPE_AT :: stride]
        self.places = range(first, len(data), stride)

    def __len__(self) -> int:
        return len(self.kinds)

    def ns(self, index: int) -> int:
        """Return the time of a record, CLOCK_MONOTONIC."""
        at = self.places[index]
        return int.from_bytes(self.data[at : at + 8], "little")

    def events(self, *kinds: int) -> Iterator[Event]:
        """Yield the events of these types, of all if none is named, in order.

        Raise WireError for a record of an unknown type.
        """
        wanted = set(kinds)
        if wanted and not any(kind in self.kinds for kind in wanted):
            return
        for at, kind in zip(self.places, self.kinds):
            if not wanted or kind in wanted:
                yield DECODE[kind](self.data, at)
