# SPDX-License-Identifier: Apache-2.0
"""One capture of a thread's stack, with the call it is in and the objects on the stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

from zombiebpf.attribution.rules.matching import Match, Rules
from zombiebpf.model.events import Block, StackOf
from zombiebpf.model.life import Key
from zombiebpf.model.stack import Stack

_SLEEPS = frozenset({"nanosleep", "clock_nanosleep", "select", "pselect6"})  # of time.sleep()


class Capture(NamedTuple):
    """A captured stack and what it shows. Objects are the addresses of Process, Popen, Pool..."""

    process: Key
    tid: int
    ns: int
    stack: Stack
    match: Match
    addresses: tuple[int, ...]  # of the objects on the stack, up to the joining call
    call_address: int  # of the joining call's own object; 0: unknown


def capture_of(rules: Rules, event: Union[StackOf, Block], process: Key, stack: Stack) -> Capture:
    """Return the capture that an event of a thread of `process` brought."""
    match = rules.match(stack)
    call = match.call
    addresses: tuple[int, ...] = ()
    own = 0
    if call is not None:
        first = event.first if isinstance(event, StackOf) else 0
        found = object_addresses(rules, stack, first, event.selves)
        if found:
            addresses = tuple([address for index, address in found.items() if index <= call])
            own = found.get(call, 0)
    return Capture(process, event.tid, event.ns, stack, match, addresses, own)


def object_addresses(
    rules: Rules, stack: Optional[Stack], first: int, selves: Sequence[int]
) -> dict[int, int]:
    """Return frame index -> address of the object of children whose method the frame is.

    `selves` are the first local variables of the frames from index `first` on; 0: none.
    """
    if stack is None:
        return {}
    end = first + len(selves)
    return {
        index: selves[index - first]
        for index in rules.objects(stack)
        if first <= index < end and selves[index - first]
    }


def is_popen_sleep(stack: Stack, syscall: str) -> bool:
    """Return whether Popen.wait(timeout) sleeps between two polls: subprocess.py _wait().

    It sleeps for 1, 2, 4... 50 ms.
    """
    if syscall not in _SLEEPS or not stack.frames:
        return False
    return stack.frames[0].function.rsplit(".", 1)[-1] == "_wait"
