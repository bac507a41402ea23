# SPDX-License-Identifier: Apache-2.0
"""A thread's Python call stack at one instant, as the probes captured it.

Frames are innermost first. A stack is either complete or `problem` says what is
missing; its frames are right in both cases, only outer frames can be absent.
"""

from __future__ import annotations

from typing import NamedTuple, Optional
from weakref import WeakValueDictionary


class Frame(NamedTuple):
    """A Python function at one of its lines."""

    function: str  # qualified (`Popen.wait`) from CPython 3.11 on, or if the source is readable
    file: str  # co_filename
    line: Optional[int]  # None: the instruction belongs to no line


class Stack:
    """A call stack. Immutable; equal stacks are one object.

    So it is compared and hashed by its address. It is the key of all caches of what is known
    of stacks, some ten times a child; a tuple's hash walks over all frames each time.
    """

    __slots__ = ("__weakref__", "frames", "problem")

    frames: tuple[Frame, ...]
    problem: Optional[str]  # what is missing; None: it is complete

    def __new__(cls, frames: tuple[Frame, ...], problem: Optional[str] = None) -> Stack:
        """Return the stack of these frames."""
        key = frames, problem
        stack = _STACKS.get(key)
        if stack is None:
            stack = super().__new__(cls)
            stack.frames, stack.problem = key
            _STACKS[key] = stack
        return stack

    def __repr__(self) -> str:
        return f"Stack({self.frames!r}, {self.problem!r})"

    @property
    def empty(self) -> bool:
        """Return whether the thread ran no Python code: the interpreter starts or ends."""
        return not self.frames and self.problem is None


_STACKS: WeakValueDictionary[tuple[tuple[Frame, ...], Optional[str]], Stack] = WeakValueDictionary()
