# SPDX-License-Identifier: Apache-2.0
"""A join that has not returned, or whose result no event has shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from zombiebpf.attribution.joins.capture import Capture
from zombiebpf.attribution.joins.children import ChildRecord
from zombiebpf.attribution.rules.rule import Rule
from zombiebpf.model.events import Block
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import Actor
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.model.units import NS_PER_MS, NS_PER_S

SLACK_NS = NS_PER_MS  # poll() counts in ms, and is entered before the thread leaves the CPU
REPOLL_SLACK_NS = 2 * NS_PER_MS  # a poll of the same call waits for no more than what was left

# wait options with which a call returns for other events than an exit: WUNTRACED (WSTOPPED),
# WCONTINUED, WNOWAIT (include/uapi/linux/wait.h)
NON_EXIT_OPTIONS = 2 | 8 | 0x01000000


class OpenJoin:
    """A join under construction: one call of a thread, from its first to its last event."""

    ended_ns: Optional[int] = None  # None: the thread may still be in the call
    blocked_ns: Optional[int] = None
    wait_ns = 0  # when it entered the last wait call
    waited = False  # in a wait call that may block
    options = 0
    syscall: Optional[str] = None  # of the wait call
    timeout_ns: Optional[int] = None
    deadline_ns: Optional[int] = None  # of the last poll
    timed_out = False
    sleeps = 0  # of Popen.wait(timeout), which polls and sleeps by turns
    last_sleep = False  # one was shorter than its turn: it took the time that was left
    pipe = 0  # that it polled last; a fork server reports one child by it
    child: Optional[ChildRecord] = None
    unrecorded_child: Optional[Child] = None  # that it reaped
    children: Sequence[ChildRecord] = ()  # of a join for several
    reaped = False  # by this thread in this call

    def __init__(self, capture: Capture, rule: Rule, began_ns: int) -> None:
        self.process, self.tid = capture.process, capture.tid
        self.rule, self.stack = rule, capture.stack
        call = capture.match.call
        assert call is not None
        self.call: Frame = capture.stack.frames[call]
        self.outer = capture.stack.frames[call + 1 :]
        self.addresses: set[int] = set(capture.addresses)
        self.began_ns = began_ns
        self.last_ns = began_ns

    def index_in(self, stack: Stack) -> Optional[int]:
        """Return the index of this call's frame in a later stack; None: the call is over."""
        if stack is self.stack:
            return len(stack.frames) - len(self.outer) - 1
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

    def is_for(self, capture: Capture, child: Optional[ChildRecord]) -> bool:
        """Return whether a capture at the same call may be for the same child."""
        if self.addresses and capture.addresses:
            return not self.addresses.isdisjoint(capture.addresses)
        return self.child is None or child is None or self.child is child

    def block(self, began_ns: int, ended_ns: int) -> None:
        """Add a time that the thread was off the CPU."""
        self.blocked_ns = (self.blocked_ns or 0) + ended_ns - began_ns
        self.ended_ns = self.last_ns = ended_ns

    @property
    def kind(self) -> str:
        """Return `Process.join`, or `Process.join(timeout)` if it was seen to have a timeout."""
        name = self.rule.join or self.rule.kind
        if name == "os.wait*":
            name = "os.waitid" if self.syscall == "waitid" else "os.waitpid"
        if (self.timeout_ns is None and self.sleeps == 0) or self.rule.goes_on:
            return name
        return name if name.endswith(")") else name + "(timeout)"

    def join(self, site: Optional[Frame]) -> Join:
        """Return the join as it is known now. `site` is the line of the user's code."""
        returned, by = self._returned()
        children = [Child(*each.key) for each in self.children]
        if self.child is not None:
            children = [Child(*self.child.key)]
        elif self.unrecorded_child is not None:
            children = [self.unrecorded_child]
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

    def _returned(self) -> tuple[Optional[str], Optional[Actor]]:
        """Return `Join.returned` and `Join.by`."""
        if self.reaped:
            return "reaped", None
        if self.rule.many:
            return self._all_returned()
        child = self.child
        if child is not None and self._was_reaped(child):
            return self._reaped_by_another(child)
        if self.ended_ns is None:
            return None, None
        if self.timed_out or self.sleeps:
            return "timeout", None
        if self.timeout_ns is not None and (
            self.ended_ns - self.began_ns >= self.timeout_ns - max(SLACK_NS, self.timeout_ns // 10)
        ):
            return "timeout", None
        if child is None or self.options & NON_EXIT_OPTIONS or self._is_wrong_process(child):
            return None, None
        if child.exit_ns is not None and child.exit_ns <= self.ended_ns:
            return None, None  # the child was dead: why the call did not reap it is unknown
        return "interrupted", None

    def _all_returned(self) -> tuple[Optional[str], Optional[Actor]]:
        if not self.children or not all(self._was_reaped(each) for each in self.children):
            return None, None
        last = max(self.children, key=lambda each: each.reap_ns or 0)
        assert last.reap_ns is not None
        by = last.reaper if last.reaper is None or last.reaper.tid != self.tid else None
        return ("already_reaped" if last.reap_ns < self.began_ns else "reaped"), by

    def _reaped_by_another(self, child: ChildRecord) -> tuple[Optional[str], Optional[Actor]]:
        assert child.reap_ns is not None
        if child.by_kernel:
            return "stolen", None
        if child.parent != self.process:
            if self._is_wrong_process(child):
                return None, child.reaper
            # under a fork server: it reaps the child and reports that through a pipe
            return ("reaped" if child.reap_ns >= self.began_ns else "already_reaped"), child.reaper
        if not self.addresses.isdisjoint(child.reap_objects):
            return "already_reaped", child.reaper
        return "stolen", child.reaper

    def _was_reaped(self, child: ChildRecord) -> bool:
        return child.reap_ns is not None and (
            self.ended_ns is None or child.reap_ns <= self.ended_ns + SLACK_NS
        )

    def _is_wrong_process(self, child: ChildRecord) -> bool:
        """Return whether it asked the kernel for a child of another process."""
        return self.waited and child.parent != self.process


def starts_new_call(join: OpenJoin, block: Block) -> bool:
    """Return whether a sleep in Popen.wait(timeout) belongs to another call than `join`.

    The sleeps of one call last at least 1, 2, 4... 32, 50, 50... ms. Only the last one is
    shorter, as it takes the time that is left: subprocess.py 3.7:1640, 3.11:2014.
    """
    if join.last_sleep:
        return True
    slept_ns = block.ended_ns - block.ns
    if slept_ns >= min(NS_PER_MS << min(join.sleeps, 6), 50 * NS_PER_MS):
        return False
    join.last_sleep = slept_ns >= 2 * NS_PER_MS
    return not join.last_sleep
