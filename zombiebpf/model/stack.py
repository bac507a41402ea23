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


class Stack(NamedTuple):
    """A call stack. Equal stacks of one observation are one object."""

    frames: tuple[Frame, ...]
    problem: Optional[str] = None  # None: complete

    @property
    def empty(self) -> bool:
        """Return whether the thread ran no Python code: the interpreter starts or ends."""
        return not self.frames and self.problem is None
