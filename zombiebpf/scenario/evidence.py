# SPDX-License-Identifier: Apache-2.0
"""The timeline of a run: the kernel's events and the workload's own log, line by line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from zombiebpf.model.events import Wait
from zombiebpf.model.life import Life, ReapedBy, signal_name
from zombiebpf.scenario.observed_run import REAPER, ObservedRun
from zombiebpf.scenario.sentences import OPTIONS, WORDS, call_words, option_words


class TimelineEntry(NamedTuple):
    """One line of the timeline."""

    ns: int  # CLOCK_MONOTONIC
    who: str  # the role that acted
    what: str


def timeline(
    observed: ObservedRun, waits: Sequence[Wait], syscalls: Mapping[int, str]
) -> list[TimelineEntry]:
    """Return the events of all processes that play a role, except the reaper's, by time."""
    lines: list[TimelineEntry] = []
    for role, lives in observed.roles.items():
        if role == REAPER:
            continue
        for life in lives:
            lines += _of_life(life, observed)
            name = observed.name(life)
            lines += [
                TimelineEntry(wait.ns, name, _wait_words(wait, observed, syscalls))
                for wait in waits
                if (wait.pid, wait.start_ns) == (life.pid, life.start_ns)
            ]
    for fact in observed.facts:
        value = "" if fact.value is None else f": {fact.value!r}"
        who = _name_of(fact.pid, observed)
        lines.append(TimelineEntry(fact.ns, who, f"tells: {fact.name.replace('_', ' ')}{value}"))
    for each in observed.joins:
        call, who = each.call, _name_of(each.join.pid, observed)
        begins = f"calls {call} of {observed.child_name(each)}"
        lines.append(TimelineEntry(each.began_ns, who, begins))
        lines.append(TimelineEntry(each.ended_ns, who, f"{call} returns: {each.join.returned}"))
    return sorted(lines, key=lambda line: line.ns)


def _name_of(pid: Optional[int], observed: ObservedRun) -> str:
    for lives in observed.roles.values():
        for life in lives:
            if life.pid == pid:
                return observed.name(life)
    return f"PID {pid}"


def relative(lines: Sequence[TimelineEntry]) -> Iterator[tuple[str, str, str]]:
    """Return (milliseconds since the first line, who, what) for each line."""
    for line in lines:
        yield f"{(line.ns - lines[0].ns) / 1e6:.2f}", line.who, line.what


def _of_life(life: Life, observed: ObservedRun) -> Iterator[TimelineEntry]:
    name = observed.name(life)
    if life.fork_ns is not None and life.forker is not None:
        forker = observed.actor(life.forker, life.fork_ns)
        yield TimelineEntry(life.fork_ns, forker, f"fork: {name} is PID {life.pid}")
    for each in life.execs:
        yield TimelineEntry(each.ns, name, f"exec {each.filename}" if each.filename else "exec")
    if life.exit_ns is not None:
        yield TimelineEntry(life.exit_ns, name, f"exit begins{_status(life)}")
    if life.zombie_ns is not None:
        late = "" if life.zombie_exact else ", at the latest"
        yield TimelineEntry(life.zombie_ns, name, f"is a zombie{late}")
    for reparent in life.reparents:
        adopter = f"{observed.actor(reparent.to, reparent.ns)} ({reparent.kind.value})"
        zombie = " as a zombie" if reparent.while_zombie else ""
        yield TimelineEntry(reparent.ns, name, f"is reparented to {adopter}{zombie}")
    if life.reap_ns is not None:
        yield _reap(life, life.reap_ns, name, observed)


def _reap(life: Life, ns: int, name: str, observed: ObservedRun) -> TimelineEntry:
    if life.reaped_by is ReapedBy.KERNEL:
        return TimelineEntry(ns, "kernel", f"releases {name}: nobody waited")
    who = observed.actor(life.reaper, ns) if life.reaper is not None else "(unseen)"
    call, text = life.reap_call, f"reaps {name}"
    if call_words(call):
        text += f" with {call_words(call)}"
    if call is not None and call.blocked_ns is not None and not (call.options or 0) & os.WNOHANG:
        text += f", blocked for {WORDS.duration(call.blocked_ns)}"
    if life.zombie_interval_ns is not None:
        text += f", a zombie for {WORDS.duration(max(life.zombie_interval_ns, 0))}"
    return TimelineEntry(ns, who, text)


def _status(life: Life) -> str:
    if life.signal is not None:
        return f", by {signal_name(life.signal)}"
    return "" if life.exit_status is None else f", status {life.exit_status}"


def _wait_words(wait: Wait, observed: ObservedRun, syscalls: Mapping[int, str]) -> str:
    if wait.syscall < 0:
        return "begins to wait, the call was not seen"
    name = syscalls.get(wait.syscall, f"syscall_{wait.syscall}")
    if wait.options < 0 or not name.startswith("wait"):
        return f"begins to wait in {name}"
    target = _name_of(wait.target, observed)
    if wait.target <= 0:
        target = "any child" if wait.target == -1 else "some children"
    known = wait.options & (sum(OPTIONS.values()))
    how = "without blocking" if wait.options & os.WNOHANG else "blocking"
    skipped = f"; {wait.skipped} such calls before, not listed" if wait.skipped else ""
    return f"enters {name}({target}, {option_words(known)}), {how}{skipped}"
