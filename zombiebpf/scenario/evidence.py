# SPDX-License-Identifier: Apache-2.0
"""The timeline of a run: what the kernel and the workload told, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from zombiebpf.events import Wait
from zombiebpf.life import Life, ReapedBy, signal_name
from zombiebpf.scenario.calls import OPTIONS, WNOHANG, call_words, option_words
from zombiebpf.scenario.scene import KEEPER, Scene, called, duration


class Line(NamedTuple):
    ns: int  # CLOCK_MONOTONIC
    who: str  # did it
    what: str


def timeline(scene: Scene, waits: Sequence[Wait], syscalls: Mapping[int, str]) -> list[Line]:
    """Every event of the processes that play a role, by time; the keeper's own are left out."""
    lines: list[Line] = []
    for role, lives in scene.roles.items():
        if role == KEEPER:
            continue
        for life in lives:
            lines += _of_life(life, scene)
            name = scene.name(life)
            lines += [
                Line(wait.ns, name, _wait_words(wait, scene, syscalls))
                for wait in waits
                if (wait.pid, wait.start_ns) == (life.pid, life.start_ns)
            ]
    for fact in scene.facts:
        value = "" if fact.value is None else f": {fact.value!r}"
        who = _name_of(fact.pid, scene)
        lines.append(Line(fact.ns, who, f"tells: {fact.name.replace('_', ' ')}{value}"))
    for each in scene.joins:
        child = scene.name(each.child) if each.child else f"PID {each.join.child_pid}"
        who = _name_of(each.join.pid, scene)
        lines.append(Line(each.began_ns, who, f"calls {called(each)} of {child}"))
        lines.append(Line(each.ended_ns, who, f"{called(each)} returns: {each.join.returned}"))
    return sorted(lines, key=lambda line: line.ns)


def _name_of(pid: Optional[int], scene: Scene) -> str:
    for lives in scene.roles.values():
        for life in lives:
            if life.pid == pid:
                return scene.name(life)
    return f"PID {pid}"


def relative(lines: Sequence[Line]) -> Iterator[tuple[str, str, str]]:
    """(ms since the first line, who, what)."""
    if lines:
        first = lines[0].ns
        for line in lines:
            yield f"{(line.ns - first) / 1e6:.2f}", line.who, line.what


def _of_life(life: Life, scene: Scene) -> Iterator[Line]:
    name = scene.name(life)
    if life.fork_ns is not None and life.forker is not None:
        forker = scene.actor(life.forker, life.fork_ns)
        yield Line(life.fork_ns, forker, f"fork: {name} is PID {life.pid}")
    for each in life.execs:
        yield Line(each.ns, name, f"exec {each.filename}" if each.filename else "exec")
    if life.exit_ns is not None:
        yield Line(life.exit_ns, name, f"exit begins{_status(life)}")
    if life.zombie_ns is not None:
        late = "" if life.zombie_exact else ", at the latest"
        yield Line(life.zombie_ns, name, f"is a zombie{late}")
    for reparent in life.reparents:
        adopter = scene.actor(reparent.to, reparent.ns)
        zombie = " as a zombie" if reparent.while_zombie else ""
        yield Line(reparent.ns, name, f"is reparented to {adopter} ({reparent.kind.value}){zombie}")
    if life.reap_ns is not None:
        yield _reap(life, life.reap_ns, name, scene)


def _reap(life: Life, ns: int, name: str, scene: Scene) -> Line:
    zombie = life.zombie_interval_ns
    after = f", a zombie for {duration(max(zombie, 0))}" if zombie is not None else ""
    if life.reaped_by is ReapedBy.KERNEL:
        return Line(ns, "kernel", f"releases {name}: nobody waited")
    who = scene.actor(life.reaper, ns) if life.reaper is not None else "(unseen)"
    call = call_words(life.reap_call)
    blocked = life.reap_call.blocked_ns if life.reap_call else None
    how = f" with {call}" if call else ""
    if blocked is not None and life.reap_call and not (life.reap_call.options or 0) & WNOHANG:
        how += f", blocked for {duration(blocked)}"
    return Line(ns, who, f"reaps {name}{how}{after}")


def _status(life: Life) -> str:
    if life.signal is not None:
        return f", by {signal_name(life.signal)}"
    return "" if life.exit_status is None else f", status {life.exit_status}"


def _wait_words(wait: Wait, scene: Scene, syscalls: Mapping[int, str]) -> str:
    if wait.syscall < 0:
        return "begins to wait, the call was not seen"
    name = syscalls.get(wait.syscall, f"syscall_{wait.syscall}")
    if wait.options < 0 or not name.startswith("wait"):
        return f"begins to wait in {name}"
    target = "any child" if wait.target == -1 else _name_of(wait.target, scene)
    known = wait.options & (sum(OPTIONS.values()))
    how = "without blocking" if wait.options & WNOHANG else "blocking"
    skipped = f"; {wait.skipped} such calls before, not listed" if wait.skipped else ""
    return f"enters {name}({target}, {option_words(known)}), {how}{skipped}"
