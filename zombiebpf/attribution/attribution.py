# SPDX-License-Identifier: Apache-2.0
"""Name the source line that forked a process, and the line and call that reaped it."""

from __future__ import annotations

import os
from typing import Callable, Optional

from zombiebpf.attribution.rules.matching import Rules
from zombiebpf.lifecycle.builder import LifeBuilder
from zombiebpf.model.life import KIND_KERNEL, ReapedBy
from zombiebpf.model.stack import Frame, Stack

KIND_NOT_PYTHON = "not Python"
KIND_OBSERVER = "zombiebpf"


class Attribution:
    """The source lines and reaping calls of process records, as attribution rules name them.

    `had_timeout(pid, start_ns)` says whether the join that reaped a process was seen to have
    a timeout (Joins.had_timeout). `observer` is the PID of zombiebpf, which starts a command
    and reaps it; 0: it starts none.
    """

    def __init__(
        self,
        rules: Rules,
        had_timeout: Callable[[int, int], bool] = lambda pid, start_ns: False,
        observer: int = 0,
    ) -> None:
        self._rules = rules
        self._had_timeout = had_timeout
        self._observer = observer

    def site(self, stack: Optional[Stack]) -> Optional[Frame]:
        """Return the innermost frame of the user's own code (Match.user_frame), or None."""
        return None if stack is None else self._rules.match(stack).user_frame

    def reap_kind(self, life: LifeBuilder) -> Optional[str]:
        """Return the kind of the call that reaped a process; None: not reaped, or unknown."""
        if life.reaped_by is ReapedBy.KERNEL:
            return KIND_KERNEL
        if not life.reap_called:
            return None
        stack = life.reap_stack
        if stack is None:
            return None if "reap_call.stack" in life.unseen else self._kind_without_stack(life)
        rule = None
        if stack.problem is None:
            ran = life.execs[0].filename if life.execs else None
            rule = self._rules.of_child(stack, life.fork_stack, ran)
        rule = rule or self._rules.match(stack).rule
        if rule is None:
            return None
        if rule.kind == "join" and (
            (life.reap_options or 0) & os.WNOHANG  # join(0): multiprocessing/popen_fork.py wait()
            or self._had_timeout(life.pid, life.start_ns)
        ):
            return "join(timeout)"
        return rule.kind

    def _kind_without_stack(self, life: LifeBuilder) -> Optional[str]:
        if not life.reap_called or life.reaper_pid is None:
            return None
        return KIND_OBSERVER if life.reaper_pid == self._observer != 0 else KIND_NOT_PYTHON

    def complete(self, life: LifeBuilder) -> None:
        """Set fork_site and the reaping call's kind and site. A second call changes nothing."""
        if not life.rare:  # no stack, and nothing that is not known
            life.reap_kind = self._kind_without_stack(life)
            return
        if life.fork_stack is not None:
            life.fork_site = self.site(life.fork_stack)
        if life.reap_called:
            life.reap_kind = self.reap_kind(life)
            if life.reap_stack is not None:
                life.reap_site = self.site(life.reap_stack)
