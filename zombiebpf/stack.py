# SPDX-License-Identifier: Apache-2.0
"""A thread's Python stack at one instant, as the kernel side captured it.

Frames are innermost first: frames[0] is where the thread stood. A stack is
right, or `problem` says which part of it is missing: what is there then is
still right, its outer end is not there.
"""

from __future__ import annotations

from typing import NamedTuple, Optional


class Frame(NamedTuple):
    """One Python function at one line."""

    function: str  # qualified (`Popen.wait`) from CPython 3.11 on, or where the source told
    file: str  # co_filename, as the interpreter has it
    line: Optional[int]  # None: the instruction belongs to no line


class Stack(NamedTuple):
    """Interned: equal stacks of one observation are one object."""

    frames: tuple[Frame, ...]
    problem: Optional[str] = None  # None: whole

    @property
    def empty(self) -> bool:
        """A Python thread outside of any Python code: the interpreter's start or end."""
        return not self.frames and self.problem is None
