# SPDX-License-Identifier: Apache-2.0
"""Where a thread stood at one capture of its stack, and for which objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

from zombiebpf.attribution.children import Key
from zombiebpf.attribution.rules import Match, Rules
from zombiebpf.events import StackOf
from zombiebpf.stack import Stack

_NAPS = frozenset({"nanosleep", "clock_nanosleep", "select", "pselect6"})  # of time.sleep()


class Place(NamedTuple):
    process: Key
    tid: int
    ns: int
    stack: Stack
    match: Match
    addresses: tuple[int, ...]  # of the objects on the stack, up to the joining call
    call_address: int  # of the joining call's own object; 0: unknown


class Places:
    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def of(self, event: StackOf, process: Key, stack: Stack) -> Place:
        return self.at(process, event.tid, event.ns, stack, event.first, event.selves)

    def at(
        self, process: Key, tid: int, ns: int, stack: Stack, first: int, selves: Sequence[int]
    ) -> Place:
        match = self._rules.match(stack)
        call = match.call
        if call is None:
            return Place(process, tid, ns, stack, match, (), 0)
        found = self.objects(stack, first, selves)
        addresses = tuple(address for index, address in found.items() if index <= call)
        return Place(process, tid, ns, stack, match, addresses, found.get(call, 0))

    def objects(self, stack: Optional[Stack], first: int, selves: Sequence[int]) -> dict[int, int]:
        """Frame's index -> address of the child's, or children's, object whose method it is."""
        if stack is None:
            return {}
        is_object = self._rules.objects(stack)
        return {
            index: address
            for index, address in enumerate(selves, first)
            if address and index < len(is_object) and is_object[index]
        }


def is_nap(stack: Stack, syscall: str) -> bool:
    """Popen.wait(timeout) asks, sleeps for 1, 2, 4... 50 ms, asks again: subprocess.py _wait()."""
    innermost = stack.frames[0].function if stack.frames else ""
    return syscall in _NAPS and innermost.rsplit(".", 1)[-1] == "_wait"
