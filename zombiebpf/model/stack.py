# SPDX-License-Identifier: Apache-2.0
"""A thread's Python call stack at one instant, as the probes captured it.

Frames are innermost first. A stack is either complete or `problem` says what is
missing; its frames are right in both cases, only outer frames can be absent.
"""

from __future__ import annotations

from typing import NamedTuple, Optional


class Frame(NamedTuple):
    """A Python function at one of its lines."""

    function: str  # qualified (`Popen.wait`) from CPython 3.11 on, or if the source is readable
    file: str  # co_filename
    line: Optional[int]  # None: the instruction belongs to no line


class Stack:
    """A call stack. Immutable; equal stacks of one observation are one object.

    It is the key of every cache of what is known of stacks, some ten times a child, so
    its hash is computed once: that of a tuple walks over all frames each time.
    """

    __slots__ = ("_hash", "frames", "problem")

    def __init__(self, frames: tuple[Frame, ...], problem: Optional[str] = None) -> None:
        """`problem` says what is missing; None: the stack is complete."""
        self.frames = frames
        self.problem = problem
        self._hash = hash((frames, problem))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Stack)
            and self.frames == other.frames
            and self.problem == other.problem
        )

    def __repr__(self) -> str:
        return f"Stack({self.frames!r}, {self.problem!r})"

    @property
    def empty(self) -> bool:
        """Return whether the thread ran no Python code: the interpreter starts or ends."""
        return not self.frames and self.problem is None
