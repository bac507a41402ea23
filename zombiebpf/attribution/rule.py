# SPDX-License-Identifier: Apache-2.0
"""What a rule is made of. docs/attribution.md says how one is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from zombiebpf.attribution.frames import Origin
from zombiebpf.stack import Frame


class Pattern:
    """`module:function`, several of them with `|`; `*` stands for any characters.

    A `<` in front: it called the frame of the pattern before, with none between.

    Where the interpreter gave no qualified name (before 3.11, source unreadable),
    the pattern's last component decides: `BaseProcess.join` takes `join`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.direct = text.startswith("<")  # the very next frame: it called the one before
        text = text.lstrip("<")
        self._alternatives = [_halves(each.strip()) for each in text.split("|")]

    def matches(self, frame: Frame, where: Origin) -> bool:
        name = frame.function
        qualified = "." in name
        return any(
            module.fullmatch(where.module) and (full if qualified else last).fullmatch(name)
            for module, full, last in self._alternatives
        )

    @property
    def of_user(self) -> bool:
        """May it match the user's own code?"""
        return any(each.strip()[:1] in "*/" for each in self.text.lstrip("<").split("|"))


def _halves(text: str) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """ValueError if it is no `module:function`."""
    module, separator, function = text.partition(":")
    if not separator or not module or not function or ":" in function or " " in text:
        raise ValueError(f"{text!r} is no module:function")
    last = function.rsplit(".", 1)[-1]
    either = re.compile(f"{_expression(function)}|{_expression(last)}")
    return _glob(module), _glob(function), either


def _expression(text: str) -> str:
    return ".*".join(re.escape(part) for part in text.split("*"))


def _glob(text: str) -> re.Pattern[str]:
    return re.compile(_expression(text), re.DOTALL)


@dataclass(frozen=True)
class Rule:
    """If it holds, the call is of `kind`."""

    kind: str
    stack: Sequence[Pattern]  # in this order from the innermost frame on, others may lie between
    # Its innermost user's frame was called by such a function, which calls nobody's code: it
    # can only have interrupted it.
    interrupted: Optional[Pattern] = None
    join: Optional[str] = None  # it waits for a child: the kind of the join
    call: Optional[Pattern] = None  # the frame that is that call, else the outermost of `stack`
    many: bool = False  # ... for several children
    needs_caller: bool = False  # no rule for what an incomplete stack shows no caller of
    forked: bool = False  # the same line forked the child: one C function did both
    ran: Optional[str] = None  # the program that the child ran first
    helper: bool = False  # as a fork: of the library's own process, for none of the objects
    empty: bool = False  # no Python code at all was on the stack
    goes_on: bool = False  # as a join: that a poll ran out of time does not end it
    only_waits: bool = False  # as a join: only the wait system calls count, if they may block
