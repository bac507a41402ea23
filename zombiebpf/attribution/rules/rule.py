# SPDX-License-Identifier: Apache-2.0
"""The parts of an attribution rule. docs/attribution.md describes how one is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Optional

from zombiebpf.attribution.frames import Origin
from zombiebpf.model.stack import Frame

_Test = Callable[[str], bool]


class Pattern:
    """A pattern of frames: `module:function`, or alternatives separated by `|`.

    `*` stands for any characters. A leading `<` demands that the frame directly called that
    of the pattern before. If the interpreter gave no qualified name (before 3.11, source
    unreadable), the pattern's last component decides: `BaseProcess.join` matches `join`.
    Raise ValueError if the text is not such a pattern.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.direct = text.startswith("<")  # only the very next frame matches
        self._halves = [_halves(each.strip()) for each in text.lstrip("<").split("|")]

    @cached_property
    def _alternatives(self) -> Sequence[tuple[_Test, _Test, _Test]]:
        """Tests of a module, a qualified name and a bare one, made when they are first needed."""
        return [
            (_glob(module), _glob(function), _glob(function.rsplit(".", 1)[-1]))
            for module, function in self._halves
        ]

    def matches(self, frame: Frame, where: Origin) -> bool:
        """Return whether a frame of this origin matches an alternative."""
        name = frame.function
        qualified = "." in name
        return any(
            module(where.module) and (full(name) or (not qualified and last(name)))
            for module, full, last in self._alternatives
        )

    @property
    def of_user(self) -> bool:
        """Return whether it may match the user's own code."""
        return any(each.strip()[:1] in "*/" for each in self.text.lstrip("<").split("|"))


def _halves(text: str) -> tuple[str, str]:
    module, _, function = text.partition(":")
    if not module or not function or ":" in function or " " in text:
        raise ValueError(f"{text!r} is no module:function")
    return module, function


def _glob(text: str) -> _Test:
    if "*" not in text:
        return lambda name: name == text
    expression = re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)
    return lambda name: expression.fullmatch(name) is not None


@dataclass(frozen=True)
class Rule:
    """A rule: a call whose stack and child it matches is of `kind`."""

    kind: str
    stack: Sequence[Pattern]  # in this order from the innermost frame on, others may lie between
    # The caller of the innermost user frame. That function calls no user code: a signal handler
    # has interrupted it.
    interrupted: Optional[Pattern] = None
    join: Optional[str] = None  # the kind of the join, if the call waits for a child
    call: Optional[Pattern] = None  # the frame that is that call, else the outermost of `stack`
    many: bool = False  # it waits for several children
    needs_caller: bool = False  # not for an incomplete stack without a user frame
    forked: bool = False  # the same line forked the child: one C function forks and waits
    ran: Optional[str] = None  # the program that the child ran first
    helper: bool = False  # a fork of the library's own process, not for one of the objects
    empty: bool = False  # the stack has no Python code
    goes_on: bool = False  # a join that goes on after a poll has timed out
    only_waits: bool = False  # a join only in a wait system call that may block
