# SPDX-License-Identifier: Apache-2.0
"""Which call is this? Rules over a stack, each one data: module and function -> kind.

rules.yaml beside this file holds those of the standard library and of known
packages; docs/attribution.md says how a rule is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Optional

from zombiebpf.attribution import files
from zombiebpf.attribution.frames import Origin, library_end, origins, users_index
from zombiebpf.attribution.rule import Pattern, Rule
from zombiebpf.stack import Stack

_NOTHING: Mapping[str, str] = MappingProxyType({})
_MOST_CACHED = 8192  # stacks of which the match is remembered


class Match(NamedTuple):
    """What a stack says."""

    rule: Optional[Rule]
    call: Optional[int]  # index of the frame that is the joining call; None: no join
    user: int  # index of the innermost user's frame, else the number of frames
    whose: tuple[Origin, ...]  # of each frame


class Rules:
    """Rules in the order in which they are asked; the first that holds decides."""

    def __init__(self, rules: Sequence[Rule], objects: Sequence[Pattern] = ()) -> None:
        self.rules = tuple(rules)
        self._by_stack = [rule for rule in rules if not (rule.forked or rule.ran)]
        self._by_child = [rule for rule in rules if rule.forked or rule.ran]
        self._objects = tuple(objects)
        self._cache: dict[Stack, Match] = {}
        self._object_cache: dict[Stack, tuple[bool, ...]] = {}

    @classmethod
    def load(cls, paths: Sequence[str] = (), environ: Mapping[str, str] = _NOTHING) -> Rules:
        """Rules of the files at `paths`, of those that $ZOMBIEBPF_RULES names, the built-in ones.

        RulesError for a file that cannot be read or is wrong.
        """
        rules, objects = files.load(paths, environ)
        return cls(rules, objects)

    def match(self, stack: Stack) -> Match:
        """The first rule that the stack alone tells to hold."""
        found = self._cache.get(stack)
        if found is None:
            if len(self._cache) >= _MOST_CACHED:
                self._cache.clear()
            found = self._cache[stack] = self._match(stack)
        return found

    def of_child(
        self, stack: Stack, forked_at: Optional[Stack], ran: Optional[str]
    ) -> Optional[Rule]:
        """A rule that looks at the child too. `ran` is the child's first program."""
        for rule in self._by_child:
            if rule.forked and (
                forked_at is None or not stack.frames or forked_at.frames != stack.frames
            ):
                continue
            if rule.ran is None or rule.ran == ran:
                return rule
        return None

    def objects(self, stack: Stack) -> tuple[bool, ...]:
        """Of each frame: does its first variable stand for a child, or for a set of them?"""
        found = self._object_cache.get(stack)
        if found is None:
            if len(self._object_cache) >= _MOST_CACHED:
                self._object_cache.clear()
            found = self._object_cache[stack] = tuple(
                any(pattern.matches(frame, where) for pattern in self._objects)
                for frame, where in zip(stack.frames, origins(stack))
            )
        return found

    def _match(self, stack: Stack) -> Match:
        whose = origins(stack)
        user, library = users_index(whose), library_end(stack, whose)
        callerless = stack.problem is not None and user == len(whose)
        if not stack.frames and stack.problem is not None:
            return Match(None, None, user, whose)
        for rule in self._by_stack:
            if rule.empty != stack.empty:
                continue
            if rule.needs_caller and callerless:
                continue
            outermost = _holds(rule, stack, whose, user, library)
            if outermost is not None:
                call = _call(rule, stack, whose, library, outermost)
                return Match(rule, call, user, whose)
        return Match(None, None, user, whose)


def _holds(
    rule: Rule, stack: Stack, whose: tuple[Origin, ...], user: int, library: int
) -> Optional[int]:
    """Index of the outermost frame that it names; -1: it names none. None: it does not hold."""
    if rule.interrupted is not None and not _interrupts(rule.interrupted, stack, whose, user):
        return None
    end = library  # what the user's own code was called by says nothing of what it calls
    if any(pattern.of_user for pattern in rule.stack):
        end = len(whose)
    index = -1
    for pattern in rule.stack:
        index += 1
        if not pattern.direct:
            while index < end and not pattern.matches(stack.frames[index], whose[index]):
                index += 1
        if index >= end or not pattern.matches(stack.frames[index], whose[index]):
            return None
    return index


def _interrupts(pattern: Pattern, stack: Stack, whose: tuple[Origin, ...], user: int) -> bool:
    index = user
    while index < len(whose) and whose[index].user:
        index += 1
    if index in (user, len(whose)):
        return False
    if stack.frames[index - 1].function.rsplit(".", 1)[-1] == "__del__":
        return False
    return pattern.matches(stack.frames[index], whose[index])


def _call(
    rule: Rule, stack: Stack, whose: tuple[Origin, ...], library: int, outermost: int
) -> Optional[int]:
    if rule.join is None or not stack.frames:
        return None
    if rule.call is None:
        return max(outermost, 0)
    for index in range(library):
        if rule.call.matches(stack.frames[index], whose[index]):
            return index
    return None
