# SPDX-License-Identifier: Apache-2.0
"""A join that lasts, or has ended without anything having told what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from zombiebpf.analysis import Child, Join
from zombiebpf.attribution.children import Known
from zombiebpf.attribution.place import Place
from zombiebpf.attribution.rule import Rule
from zombiebpf.events import Block
from zombiebpf.life import Actor
from zombiebpf.stack import Frame, Stack

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
SLACK_NS = 1_000_000  # poll() counts in ms, and is entered before the thread leaves the CPU
BARELY_NS = 2_000_000

# wait options with which a call returns for something else than a death: WUNTRACED (WSTOPPED),
# WCONTINUED, WNOWAIT (include/uapi/linux/wait.h)
OTHER_NEWS = 2 | 8 | 0x01000000


class OpenJoin:
    def __init__(self, place: Place, rule: Rule, began_ns: int) -> None:
        self.process, self.tid = place.process, place.tid
        self.rule, self.stack = rule, place.stack
        call = place.match.call
        assert call is not None
        self.call: Frame = place.stack.frames[call]
        self.outer = place.stack.frames[call + 1 :]
        self.addresses: set[int] = set(place.addresses)
        self.began_ns = began_ns
        self.last_ns = began_ns
        self.ended_ns: Optional[int] = None  # None: the thread may stand in it still
        self.blocked_ns: Optional[int] = None
        self.wait_ns = 0  # when it entered the last wait call
        self.waited = False  # by a wait call that may block
        self.options = 0
        self.syscall: Optional[str] = None  # of the wait call
        self.timeout_ns: Optional[int] = None
        self.deadline_ns: Optional[int] = None  # of the last poll
        self.timed_out = False
        self.naps = 0  # Popen.wait(timeout): it asks, sleeps, asks again
        self.last_nap = False  # it took what remained
        self.pipe = 0  # that it polled last: a fork server tells of one child by it
        self.child: Optional[Known] = None
        self.bare: Optional[Child] = None  # the same, where no more is known of it
        self.several: Sequence[Known] = ()
        self.reaped = False  # by this thread, in this call

    def stands_at(self, stack: Stack) -> Optional[int]:
        """Index of this call's frame in another capture of the thread; None: it is over."""
        frames, outer = stack.frames, self.outer
        cut = self.stack.problem is not None or stack.problem is not None
        for index in range(len(frames) - 1, -1, -1):
            frame = frames[index]
            if (frame.function, frame.file) != (self.call.function, self.call.file):
                continue
            rest = frames[index + 1 :]
            if rest == outer:
                break
            if cut:
                both = min(len(rest), len(outer))
                if both and rest[:both] == outer[:both]:
                    break
        else:
            return None
        if frame.line != self.call.line and self.rule.only_waits:
            return None  # another line of the user's own function
        return index

    def is_for(self, place: Place, child: Optional[Known]) -> bool:
        """Is a capture at the same call for the same child?"""
        if self.addresses and place.addresses:
            return not self.addresses.isdisjoint(place.addresses)
        return self.child is None or child is None or self.child is child

    def block(self, began_ns: int, ended_ns: int) -> None:
        self.blocked_ns = (self.blocked_ns or 0) + ended_ns - began_ns
        self.ended_ns = self.last_ns = ended_ns

    @property
    def kind(self) -> str:
        name = self.rule.join or self.rule.kind
        if name == "os.wait*":
            name = "os.waitid" if self.syscall == "waitid" else "os.waitpid"
        if (self.timeout_ns is None and self.naps == 0) or self.rule.goes_on:
            return name
        return name if name.endswith(")") else name + "(timeout)"

    def join(self, site: Optional[Frame]) -> Join:
        """What is known of it, as the contract has it."""
        returned, by = self.returned()
        children = [Child(*known.key) for known in self.several]
        one = self.child.key if self.child is not None else self.bare
        if one is not None:
            children = [Child(*one)]
        return Join(
            pid=self.process[0],
            tid=self.tid,
            child_pid=children[0].pid if len(children) == 1 else None,
            timeout_s=None if self.timeout_ns is None else self.timeout_ns / NS_PER_S,
            began_ns=self.began_ns,
            ended_ns=self.ended_ns,
            returned=returned,
            kind=self.kind,
            children=tuple(children),
            blocked_ns=self.blocked_ns,
            by=by,
            stack=self.stack,
            site=site,
        )

    def returned(self) -> tuple[Optional[str], Optional[Actor]]:
        """What came of it, and who reaped where it was not this call. See analysis.Join."""
        if self.reaped:
            return "reaped", None
        if self.rule.many:
            return self._of_several()
        child = self.child
        if child is not None and self._was_reaped(child):
            return self._by_another(child)
        if self.ended_ns is None:
            return None, None
        if self.timed_out or self.naps:
            return "timeout", None
        if self.timeout_ns is not None and (
            self.ended_ns - self.began_ns >= self.timeout_ns - max(SLACK_NS, self.timeout_ns // 10)
        ):
            return "timeout", None
        if child is None or self.options & OTHER_NEWS or self._is_wrong_process(child):
            return None, None
        if child.exit_ns is not None and child.exit_ns <= self.ended_ns:
            return None, None  # it had died: why the call ended without a reap cannot be told
        return "interrupted", None

    def _of_several(self) -> tuple[Optional[str], Optional[Actor]]:
        if not self.several or not all(self._was_reaped(each) for each in self.several):
            return None, None
        last = max(self.several, key=lambda each: each.reap_ns or 0)
        assert last.reap_ns is not None
        by = last.reaper if last.reaper is None or last.reaper.tid != self.tid else None
        return ("already_reaped" if last.reap_ns < self.began_ns else "reaped"), by

    def _by_another(self, child: Known) -> tuple[Optional[str], Optional[Actor]]:
        assert child.reap_ns is not None
        if child.by_kernel:
            return "stolen", None
        if child.parent != self.process:
            if self._is_wrong_process(child):
                return None, child.reaper
            # under a fork server: it reaps, and tells the joiner by a pipe
            return ("reaped" if child.reap_ns >= self.began_ns else "already_reaped"), child.reaper
        if not self.addresses.isdisjoint(child.reap_objects):
            return "already_reaped", child.reaper
        return "stolen", child.reaper

    def _was_reaped(self, child: Known) -> bool:
        return child.reap_ns is not None and (
            self.ended_ns is None or child.reap_ns <= self.ended_ns + SLACK_NS
        )

    def _is_wrong_process(self, child: Known) -> bool:
        """It asked the kernel for somebody else's child."""
        return self.waited and child.parent != self.process


def reaped_before(child: Optional[Known], ns: int) -> bool:
    return child is not None and child.reap_ns is not None and child.reap_ns <= ns


def begins_anew(join: OpenJoin, block: Block) -> bool:
    """Does this nap begin another call? In one call they are of 1, 2, 4... 32, 50, 50... ms, at
    the least, but for the last, which takes what remains: subprocess.py 3.7:1640, 3.11:2014."""
    if join.last_nap:
        return True
    nap_ns = block.ended_ns - block.ns
    if nap_ns >= min(NS_PER_MS << min(join.naps, 6), 50 * NS_PER_MS):
        return False
    join.last_nap = nap_ns >= 2 * NS_PER_MS
    return not join.last_nap
