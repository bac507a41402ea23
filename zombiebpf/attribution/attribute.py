# SPDX-License-Identifier: Apache-2.0
"""A life's lines and calls: which line of the user's forked it, which call reaped it."""

from __future__ import annotations

from typing import Callable, Optional

from zombiebpf.attribution.frames import users_frame
from zombiebpf.attribution.rule import Rule
from zombiebpf.attribution.rules import Rules
from zombiebpf.life import Life, ReapedBy
from zombiebpf.stack import Frame, Stack

WNOHANG = 1  # include/uapi/linux/wait.h

NOT_PYTHON = "not Python"
OBSERVER = "zombiebpf"
KERNEL = "kernel"

_MOST_CACHED = 8192


class Attribution:
    """Fills what stacks tell into lives.

    `had_timeout` says of a reap, by the reaped process's (pid, start_ns), whether the join that
    did it was seen to have a timeout (Joins.had_timeout). `stacks` False: no stacks are
    collected, so that a reaper without one may well be Python. `observer` is our PID: who
    starts a command reaps it.
    """

    def __init__(
        self,
        rules: Rules,
        had_timeout: Callable[[int, int], bool] = lambda pid, start_ns: False,
        stacks: bool = True,
        observer: int = 0,
    ) -> None:
        self._rules = rules
        self._had_timeout = had_timeout
        self._stacks = stacks
        self._observer = observer
        self._sites: dict[Stack, Optional[Frame]] = {}

    def site(self, stack: Optional[Stack]) -> Optional[Frame]:
        """The user's line: the innermost frame outside the standard library, installed
        packages, `<frozen ...>` and zombiebpf itself. None: there is none."""
        if stack is None:
            return None
        try:
            return self._sites[stack]
        except KeyError:
            if len(self._sites) >= _MOST_CACHED:
                self._sites.clear()
            found = self._sites[stack] = users_frame(stack)
            return found

    def reap_kind(self, life: Life) -> Optional[str]:
        """Which call reaped it. None: not reaped, or it cannot be told."""
        if life.reaped_by is ReapedBy.KERNEL:
            return KERNEL
        call = life.reap_call
        if call is None:
            return None
        if call.stack is None:
            if life.reaper is not None and life.reaper.pid == self._observer != 0:
                return OBSERVER
            told = self._stacks and "reap_call.stack" not in life.unseen
            return NOT_PYTHON if told and life.reaper is not None else None
        rule = self._rule(life, call.stack)
        if rule is None:
            return None
        if rule.kind == "join" and (
            (call.options or 0) & WNOHANG  # join(0): multiprocessing/popen_fork.py wait()
            or self._had_timeout(life.pid, life.start_ns)
        ):
            return "join(timeout)"
        return rule.kind

    def complete(self, life: Life) -> None:
        """Fill in fork_site and the reaping call's kind and site; twice does no harm."""
        life.fork_site = self.site(life.fork_stack)
        call = life.reap_call
        if call is None:
            return
        kind, site = self.reap_kind(life), self.site(call.stack)
        if (call.kind, call.site) != (kind, site):
            life.reap_call = call._replace(kind=kind, site=site)

    def _rule(self, life: Life, stack: Stack) -> Optional[Rule]:
        if stack.problem is None:
            ran = life.execs[0].filename if life.execs else None
            by_child = self._rules.of_child(stack, life.fork_stack, ran)
            if by_child is not None:
                return by_child
        return self._rules.match(stack).rule
