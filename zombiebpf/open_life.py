# SPDX-License-Identifier: Apache-2.0
"""A life that may still change, with what only the state machine needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Optional

from zombiebpf.events import ARGV_BYTES, Text, TextKind
from zombiebpf.life import Execution, Life, ReapedBy

NOTHING: Mapping[str, str] = MappingProxyType({})
UNSEEN_LOST = "its record, or a part of it, was lost"


class OpenLife(Life):
    """Its owner sets the fields of Life as events tell them; close() makes it a plain Life."""

    exit_signal: int
    birth_parent: int
    parent_pid: int
    parent_tid: int
    parent_start_ns: Optional[int] = None
    zombie_parent_tid: Optional[int] = None  # whose child it became a zombie
    reap_parent_tid: Optional[int] = None  # whose child it was when it was reaped
    last_parent_pid: Optional[int] = None  # at the reap, where that is a surprise
    program_ns: Optional[int] = None  # when the exec was that the next two belong to
    name: bytes = b""  # of its file, as far as it has come
    pieces: bytes = b""  # of its arguments

    def note_unseen(self, field: str, why: str) -> None:
        self.unseen = {**self.unseen, field: why}

    def new_program(self, ns: int) -> None:
        self.program_ns = ns
        self.argv, self.argv_cut = None, False
        self.name = self.pieces = b""

    def add_text(self, event: Text) -> None:
        """A piece of what the last program was called with."""
        if event.kind == TextKind.ARGV:
            self.pieces += event.data
            if len(self.pieces) >= min(event.total, ARGV_BYTES):
                self.argv = arguments(self.pieces)
                self.argv_cut = event.total > ARGV_BYTES
        elif self.execs and self.execs[-1].ns == event.ns:
            self.name += event.data
            name = self.name.decode("utf-8", "surrogateescape")
            self.execs = (*self.execs[:-1], Execution(event.ns, name))

    def set_reaper(self) -> None:
        """By the parent it was born to, or by the one it was given to."""
        if self.reaped_by is None or self.reaped_by is ReapedBy.PARENT:
            orphaned = self.birth_parent != self.parent_pid or self.orphaned
            self.reaped_by = ReapedBy.ADOPTER if orphaned else ReapedBy.PARENT

    def close(self) -> Life:
        """The same life, that changes no more."""
        if self.argv is None and self.program_ns is not None:
            self.note_unseen("argv", UNSEEN_LOST)
        self.__class__ = Life  # type: ignore[assignment]
        return self


def arguments(raw: bytes) -> tuple[str, ...]:
    """`a\\0b\\0` -> ("a", "b"); undecodable bytes become lone surrogates."""
    if not raw:
        return ()
    text = raw.decode("utf-8", "surrogateescape")
    return tuple(text[:-1].split("\0") if text.endswith("\0") else text.split("\0"))
