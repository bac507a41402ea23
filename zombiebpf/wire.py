# SPDX-License-Identifier: Apache-2.0
"""Record bytes -> events. The mirror of probes/wire.h."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Callable

from zombiebpf.events import (
    Block,
    Event,
    Exec,
    Existing,
    Exit,
    Fork,
    Freed,
    Reap,
    Reparent,
    StackOf,
    Text,
    Wait,
    Zombie,
)

RECORD_BYTES = 88
TEXT_BYTES = 56  # of a Text record

FORK, EXEC, TEXT, EXIT, ZOMBIE, REPARENT, WAIT, REAP, FREED, STACK, BLOCK, EXISTING = range(1, 13)

# Each format covers its record from the start; `ns start_ns pid` come first, in every one,
# and the rest comes in the order of the event's fields.
HEADER = "<QQI"
FORMATS = {
    FORK: HEADER + "4xQQIIIIiII4x16s",
    EXEC: HEADER + "4xI16s",
    TEXT: HEADER + "4xII56s",
    EXIT: HEADER + "4xIII16s",
    ZOMBIE: HEADER + "4xIIII",
    REPARENT: HEADER + "4xQIIII16s16s",
    WAIT: HEADER + "4xIiiiI",
    REAP: HEADER + "4xQQIIIIIiiI16s",
    FREED: HEADER + "4xII",
    STACK: HEADER + "4xQIBBBx6Q",
    BLOCK: HEADER + "4xQQqIiI4x3Q",
    EXISTING: HEADER + "4xQQIIiIIIII16s",
}
TYPE_AT = 20  # offset of the 16-bit type; all types fit in its first byte

REPARENT_INIT, REPARENT_RESOLVED, REPARENT_EXACT = 1, 2, 4

LOST_STACKS = "Python stack without room"
# why records were lost: the indexes of the probes' array `lost`
LOST_CAUSES = (
    "ring buffer full",
    "table of processes full",
    "auxiliary table full",
    LOST_STACKS,
)

NOT_RUN = "probe not run by the kernel"  # one more cause, counted by the kernel itself

_comms: dict[bytes, str] = {}


class WireError(ValueError):
    """A record that is none of ours."""


def text_of(raw: bytes) -> str:
    """A NUL-padded string of the kernel; bytes that are no UTF-8 become lone surrogates."""
    return raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _comm(raw: bytes) -> str:
    known = _comms.get(raw)
    if known is None:
        if len(_comms) >= 4096:
            _comms.clear()
        known = _comms[raw] = text_of(raw)
    return known


def _decoders() -> Sequence[Callable[[bytes, int], Event]]:
    """One decoder a type. The hot ones build their tuple without NamedTuple's __new__."""
    unpack = {kind: struct.Struct(form).unpack_from for kind, form in FORMATS.items()}
    unpack_fork, unpack_exit = unpack[FORK], unpack[EXIT]
    unpack_zombie, unpack_wait, unpack_reap = unpack[ZOMBIE], unpack[WAIT], unpack[REAP]
    new, comms = tuple.__new__, _comms

    def unknown(data: bytes, at: int) -> Event:
        raise WireError(f"record type {data[at + TYPE_AT]}")

    def fork(data: bytes, at: int) -> Event:
        (
            ns,
            start,
            pid,
            f_start,
            cgroup,
            f_pid,
            f_tid,
            p_pid,
            p_tid,
            signal,
            pidns,
            ns_pid,
            raw,
        ) = unpack_fork(data, at)
        comm = comms.get(raw) or _comm(raw)
        return new(Fork, (ns, start, pid, f_start, cgroup, f_pid, f_tid, p_pid, p_tid, signal,
                          pidns, ns_pid, comm))  # fmt: skip

    def exec_(data: bytes, at: int) -> Event:
        ns, start, pid, old, comm = unpack[EXEC](data, at)
        return Exec(ns, start, pid, old, _comm(comm))

    def text(data: bytes, at: int) -> Event:
        ns, start, pid, kind, total, raw = unpack[TEXT](data, at)
        return Text(ns, start, pid, kind >> 16, total, raw[: kind & 0xFFFF])

    def exit_(data: bytes, at: int) -> Event:
        ns, start, pid, tid, parent, code, raw = unpack_exit(data, at)
        return new(Exit, (ns, start, pid, tid, parent, code, comms.get(raw) or _comm(raw)))

    def zombie(data: bytes, at: int) -> Event:
        return new(Zombie, unpack_zombie(data, at))

    def reparent(data: bytes, at: int) -> Event:
        ns, start, pid, a_start, tid, a_pid, a_tid, flags, comm, adopter = unpack[REPARENT](
            data, at
        )
        return Reparent(
            ns,
            start,
            pid,
            a_start,
            tid,
            a_pid,
            a_tid,
            bool(flags & REPARENT_INIT),
            bool(flags & REPARENT_RESOLVED),
            bool(flags & REPARENT_EXACT),
            _comm(comm),
            _comm(adopter),
        )

    def wait(data: bytes, at: int) -> Event:
        return new(Wait, unpack_wait(data, at))

    def reap(data: bytes, at: int) -> Event:
        (ns, start, pid, r_start, wait_ns, r_pid, r_tid, p_pid, p_tid, code, call, options, flags,
         raw) = unpack_reap(data, at)  # fmt: skip
        comm = comms.get(raw) or _comm(raw)
        return new(Reap, (ns, start, pid, r_start, wait_ns, r_pid, r_tid, p_pid, p_tid, code, call,
                          options, flags, comm))  # fmt: skip

    def freed(data: bytes, at: int) -> Event:
        return Freed(*unpack[FREED](data, at))

    unpack_stack, unpack_block = unpack[STACK], unpack[BLOCK]

    def stack(data: bytes, at: int) -> Event:
        values = unpack_stack(data, at)
        return new(StackOf, (*values[:8], values[8:]))

    def block(data: bytes, at: int) -> Event:
        values = unpack_block(data, at)
        return new(Block, (*values[:9], values[9:]))

    def existing(data: bytes, at: int) -> Event:
        *values, comm = unpack[EXISTING](data, at)
        return new(Existing, (*values, _comm(comm), None, None))

    known = [unknown, fork, exec_, text, exit_, zombie, reparent, wait, reap, freed, stack, block,
             existing]  # fmt: skip
    return known + [unknown] * (256 - len(known))


_DECODERS = _decoders()


def decode(data: bytes, stride: int = RECORD_BYTES, first: int = 0) -> list[Event]:
    """The events of whole records lying `stride` bytes apart, the first at `first`.

    WireError for a record of an unknown type.
    """
    decoders = _DECODERS
    return [decoders[data[at + TYPE_AT]](data, at) for at in range(first, len(data), stride)]
