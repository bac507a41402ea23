# SPDX-License-Identifier: Apache-2.0
"""Match rules against a call stack, to name the call that it is in.

rules.yaml beside this file holds the rules of the standard library and of known
packages; docs/attribution.md describes how a rule is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Callable, NamedTuple, Optional

from zombiebpf.attribution.frames import Origin, library_end, origins, user_index
from zombiebpf.attribution.rules.rule import Pattern, Rule
from zombiebpf.model.stack import Frame, Stack

_MAX_CACHED = 8192  # stacks


class Match(NamedTuple):
    """The rule that a stack matches, and where on the stack."""

    rule: Optional[Rule]
    call: Optional[int]  # index of the frame that is the joining call; None: not a join
    # The innermost frame of the user's own code: outside the standard library, installed
    # packages, `<frozen ...>` and zombiebpf itself.
    user_frame: Optional[Frame]


class Rules:
    """Rules in their order of precedence: the first one that holds decides.

    match(stack) returns the Match of the rules that need only the stack. objects(stack) returns
    the indexes of the frames whose first local variable is the object of children.
    of_child(stack, fork_stack, ran) returns the rule that holds if it is one of those that need
    the child's fork or its first program, `ran`. All are cached.
    """

    def __init__(self, rules: Sequence[Rule], objects: Sequence[Pattern] = ()) -> None:
        self._by_stack = [rule for rule in rules if not (rule.forked or rule.ran)]
        self._by_child = [rule for rule in rules if rule.forked or rule.ran]
        self._places = {id(rule): place for place, rule in enumerate(rules)}
        self._objects = tuple(objects)
        self.match: Callable[[Stack], Match] = lru_cache(_MAX_CACHED)(self._match)
        self.of_child: Callable[[Stack, Optional[Stack], Optional[str]], Optional[Rule]] = (
            lru_cache(_MAX_CACHED)(self._of_child)
        )
        self.objects: Callable[[Stack], tuple[int, ...]] = lru_cache(_MAX_CACHED)(
            self._object_frames
        )

    def _of_child(
        self, stack: Stack, fork_stack: Optional[Stack], ran: Optional[str]
    ) -> Optional[Rule]:
        by_stack = self.match(stack).rule
        end = len(self._places) if by_stack is None else self._places[id(by_stack)]
        for rule in self._by_child:
            if self._places[id(rule)] > end:
                break
            if rule.forked and (
                fork_stack is None or not stack.frames or fork_stack.frames != stack.frames
            ):
                continue
            if (rule.ran is None or rule.ran == ran) and _view(stack).outermost(rule) is not None:
                return rule
        return None

    def _object_frames(self, stack: Stack) -> tuple[int, ...]:
        return tuple(
            index
            for index, (frame, where) in enumerate(zip(stack.frames, origins(stack)))
            if any(pattern.matches(frame, where) for pattern in self._objects)
        )

    def _match(self, stack: Stack) -> Match:
        view = _view(stack)
        user_frame = stack.frames[view.user] if view.user < len(view.found) else None
        if not stack.frames and stack.problem is not None:
            return Match(None, None, None)
        for rule in self._by_stack:
            outermost = view.outermost(rule)
            if outermost is not None:
                return Match(rule, _call(rule, stack, view, outermost), user_frame)
        return Match(None, None, user_frame)


class _View(NamedTuple):
    """A stack, with what rules ask of it."""

    stack: Stack
    found: tuple[Origin, ...]
    user: int  # index of the user's innermost frame; len(found): none
    library: int  # where the library's frames end

    def outermost(self, rule: Rule) -> Optional[int]:
        """Return the index of the outermost frame that the rule names; -1: it names none.

        None: the rule does not hold.
        """
        stack, found = self.stack, self.found
        if rule.empty != stack.empty:
            return None
        if rule.needs_caller and stack.problem is not None and self.user == len(found):
            return None
        if rule.interrupted is not None and not _interrupts(rule.interrupted, self):
            return None
        end = self.library  # the callers of the user's code do not say what it calls
        if any(pattern.of_user for pattern in rule.stack):
            end = len(found)
        index = -1
        for pattern in rule.stack:
            index += 1
            if not pattern.direct:
                while index < end and not pattern.matches(stack.frames[index], found[index]):
                    index += 1
            if index >= end or not pattern.matches(stack.frames[index], found[index]):
                return None
        return index


def _view(stack: Stack) -> _View:
    found = origins(stack)
    return _View(stack, found, user_index(found), library_end(stack, found))


def _interrupts(pattern: Pattern, view: _View) -> bool:
    stack, found, user, _ = view
    index = user
    while index < len(found) and found[index].user:
        index += 1
    if index in (user, len(found)):
        return False
    if stack.frames[index - 1].function.rsplit(".", 1)[-1] == "__del__":
        return False
    return pattern.matches(stack.frames[index], found[index])


def _call(rule: Rule, stack: Stack, view: _View, outermost: int) -> Optional[int]:
    """Return the index of the frame that is the joining call; None: the rule is not a join."""
    if rule.join is None or not stack.frames:
        return None
    if rule.call is None:
        return max(outermost, 0)
    for index in range(view.library):
        if rule.call.matches(stack.frames[index], view.found[index]):
            return index
    return None
