# SPDX-License-Identifier: Apache-2.0
"""The Perfetto report: Trace Event Format, for ui.perfetto.dev and chrome://tracing.

A process is a track with slices "running", "dying" and "zombie"; the waits of its threads
lie inside them. Arrows lead from a fork to the child and from an exit to its reap.
Instants are microseconds with three decimals after the first instant of the trace, so
that no digit is lost; otherData has that instant.

The format is "Trace Event Format" (Google, 2016). Two of its rules matter here: slices of
one thread nest, and a flow binds to the slice that encloses it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional, TextIO

from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Join
from zombiebpf.model.life import Actor, Life, ReapedBy
from zombiebpf.model.stack import Stack
from zombiebpf.reports.pid_index import PidIndex
from zombiebpf.reports.tree import fork_tree
from zombiebpf.wording.text import printable
from zombiebpf.wording.wording import Wording, full_line_name, line_name

INSTANT_NS = 1  # the width of a slice for an instant: an arrow needs a slice to end at
LIFE, WAIT, FORK, REAP = "life", "wait", "fork", "reap"  # categories
SYNTHETIC = 1 << 24  # above all PIDs (PID_MAX_LIMIT is 2^22): for the second user of a PID

Args = dict[str, Any]


class Slice(NamedTuple):
    """A span on a track."""

    pid: int  # of the track
    tid: int
    begin: int  # ns
    end: int
    name: str
    category: str
    args: Args


class Arrow(NamedTuple):
    """A flow from one slice to another."""

    category: str
    name: str
    begin: tuple[int, int, int]  # pid, tid, ns
    end: tuple[int, int, int]


def write(analysis: Analysis, out: TextIO) -> None:
    """Write the trace, an event a line."""
    trace = _Trace(analysis)
    events = sorted(trace.timed(), key=lambda event: event[0])
    zero = trace.zero_ns
    other = {
        "tool": f"zombiebpf {analysis.meta.version}",
        "kernel": analysis.meta.kernel,
        "command": " ".join(analysis.meta.command),
        "clock": analysis.meta.clock,
        "zero_ns": str(zero),
        "lost_events": str(analysis.meta.lost_events),
        "complete": str(analysis.meta.lost_events == 0).lower(),
    }
    out.write('{"displayTimeUnit": "ns",\n "otherData": ' + json.dumps(_clean(other)))
    out.write(',\n "traceEvents": [')
    separator = "\n  "
    for event in [*trace.metadata(), *(event for _, event in events)]:
        if "ts" in event:
            event["ts"] = (event["ts"] - zero) / 1000
        out.write(separator + json.dumps(_clean(event), ensure_ascii=True, allow_nan=False))
        separator = ",\n  "
    out.write("]}\n")


class _Trace:
    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._ended = analysis.meta.ended_ns
        self._words = Wording()
        self._lives = [node.life for node in fork_tree(analysis.lives)]
        self._index = PidIndex(self._lives)
        self._tracks = self._life_tracks()
        self._outside: dict[tuple[int, Optional[str]], int] = {}
        self._slices: list[Slice] = []
        self._arrows: list[Arrow] = []
        self._instants: list[tuple[int, Args]] = []
        for track, life in zip(self._tracks, self._lives):
            self._add_life(track, life)
        for join in analysis.joins or ():
            self._add_join(join)
        instants = [each.begin for each in self._slices] + [ns for ns, _ in self._instants]
        self.zero_ns = min([analysis.meta.started_ns, *instants])

    def _life_tracks(self) -> list[int]:
        """Return the track of each process: its PID, unless an earlier process has it."""
        first = {0: -1}  # PID -> index; 0 is no PID
        return [
            life.pid if first.setdefault(life.pid, index) == index else SYNTHETIC + index
            for index, life in enumerate(self._lives)
        ]

    def metadata(self) -> Iterator[Args]:
        """Return the events that name and order the tracks."""
        named = [
            (track, f"{self._words.pid(life)} {self._words.command(life)}")
            for track, life in zip(self._tracks, self._lives)
        ]
        named += [
            (track, f"{comm or '-'} {pid} (not observed)")
            for (pid, comm), track in self._outside.items()
        ]
        for place, (track, name) in enumerate(named):
            yield _about(track, track, "process_name", name=name[:500])
            yield _about(track, track, "process_sort_index", sort_index=place)
            yield _about(track, track, "thread_name", name=name[:500])

    def timed(self) -> Iterator[tuple[tuple[int, int, int], Args]]:
        """Return events with their sort keys: outer slices before inner ones, arrows last."""
        for each in nested(self._slices):
            length = each.end - each.begin
            event = {
                "ph": "X", "pid": each.pid, "tid": each.tid, "ts": each.begin,
                "dur": length / 1000, "name": each.name, "cat": each.category, "args": each.args,
            }  # fmt: skip
            yield (each.begin, 0, -length), event
        for ns, event in self._instants:
            yield (ns, 1, 0), {"ph": "i", "s": "t", "ts": ns, **event}
        for number, arrow in enumerate(self._arrows, start=1):
            for phase, (pid, tid, ns) in (("s", arrow.begin), ("f", arrow.end)):
                event = {
                    "ph": phase, "id": number, "pid": pid, "tid": tid, "ts": ns,
                    "name": arrow.name, "cat": arrow.category,
                }  # fmt: skip
                if phase == "f":
                    event["bp"] = "e"
                yield (ns, 2, number), event

    def _add_life(self, track: int, life: Life) -> None:
        begin = self._analysis.meta.started_ns if life.fork_ns is None else life.fork_ns
        dead = _first(life.exit_ns, life.zombie_ns, life.reap_ns)
        facts = self._facts(life)
        begin = min(begin, begin if dead is None else dead)
        last = self._ended if dead is None else dead
        if life.already_zombie:
            gone = self._ended if life.reap_ns is None else life.reap_ns
            name = "zombie since before the observation" + (", still" * (life.reap_ns is None))
            self._slice(track, track, self._analysis.meta.started_ns, gone, name, LIFE, facts)
        else:
            self._slice(track, track, begin, last, "running", LIFE, facts)
        end = _first(life.zombie_ns, life.reap_ns)
        if life.exit_ns is not None and end is not None and end > life.exit_ns:
            self._slice(track, track, life.exit_ns, end, "dying", LIFE, {})
        if life.zombie_ns is not None:
            gone = self._ended if life.reap_ns is None else life.reap_ns
            still = life.reap_ns is None
            interval = self._words.duration(max(gone - life.zombie_ns, 0))
            name = f"zombie for {interval}" + (", still" if still else "")
            self._slice(track, track, life.zombie_ns, gone, name, LIFE, facts)
        for each in life.reparents:
            name = f"reparented to {each.kind.value} {self._words.actor(each.to)}"
            args = {"from": self._words.actor(each.from_), "while_zombie": each.while_zombie,
                    "exact": each.exact}  # fmt: skip
            event = {"pid": track, "tid": track, "name": name, "cat": LIFE, "args": args}
            self._instants.append((each.ns, event))
        self._add_fork(track, life)
        self._add_reap(track, life)

    def _add_fork(self, track: int, life: Life) -> None:
        if life.fork_ns is None or life.forker is None:
            return
        pid, tid = self._thread(life.forker, life.fork_ns)
        site = f" at {line_name(life.fork_site)}" if life.fork_site else ""
        args = _stack(life.fork_stack)
        name = f"fork {self._words.pid(life)}{site}"
        self._slice(pid, tid, life.fork_ns, life.fork_ns, name, FORK, args)
        ends = (pid, tid, life.fork_ns), (track, track, life.fork_ns)
        self._arrows.append(Arrow(FORK, "fork", *ends))

    def _add_reap(self, track: int, life: Life) -> None:
        if life.reap_ns is None or life.reaper is None:
            return
        pid, tid = self._thread(life.reaper, life.reap_ns)
        call = life.reap_call
        kind = life.reap_kind
        args: Args = {"reaped_by": life.reaped_by.value if life.reaped_by else None}
        if call is not None:
            args.update(syscall=call.syscall, options=call.options, **_stack(call.stack))
            if call.began_ns is not None and call.began_ns < life.reap_ns:
                name = f"{call.syscall or 'wait'}: {self._words.pid(life)}"
                self._slice(pid, tid, call.began_ns, life.reap_ns, name, WAIT, {})
        name = f"reap {self._words.pid(life)} ({kind})"
        at = life.reap_ns - INSTANT_NS  # within the wait
        self._slice(pid, tid, at, life.reap_ns, name, REAP, args)
        death = _first(life.zombie_ns, life.exit_ns)
        if death is not None and death < at and life.reaped_by is not ReapedBy.KERNEL:
            self._arrows.append(Arrow(REAP, "reap", (track, track, death), (pid, tid, at)))

    def _add_join(self, join: Join) -> None:
        begin = _first(join.began_ns, join.ended_ns)
        if begin is None or not join.pid:
            return
        end = self._ended if join.ended_ns is None else join.ended_ns
        pid, tid = self._thread(Actor(join.pid, join.tid, None), begin)
        children: list[Optional[int]] = [each.pid for each in join.children]
        args: Args = {
            "children": children or [join.child_pid],
            "timeout_s": join.timeout_s,
            "returned": join.returned,
            "blocked_ns": join.blocked_ns,
            "site": full_line_name(join.site) if join.site else None,
            **_stack(join.stack),
        }
        name = f"join: {join.kind or 'wait'}"
        self._slice(pid, tid, begin, max(end, begin), name, WAIT, args)

    def _slice(
        self, pid: int, tid: int, begin: int, end: int, name: str, cat: str, args: Args
    ) -> None:
        self._slices.append(Slice(pid, tid, begin, max(end, begin + INSTANT_NS), name, cat, args))

    def _thread(self, actor: Actor, ns: int) -> tuple[int, int]:
        """Return the track and the thread of an actor."""
        index = self._index.find_actor(actor, ns)
        if index is not None:
            track, own = self._tracks[index], self._lives[index].pid
            return track, track if actor.tid in (None, own) else actor.tid or track
        key = (actor.pid, actor.comm)
        if key not in self._outside:
            taken = actor.pid in self._tracks or actor.pid in self._outside.values()
            number = SYNTHETIC + len(self._lives) + len(self._outside)
            self._outside[key] = number if taken or not actor.pid else actor.pid
        track = self._outside[key]
        return track, track

    def _facts(self, life: Life) -> Args:
        facts = {
            "pid": life.pid,
            "command": self._words.command(life),
            "forker": self._words.actor(life.forker) if life.forker else None,
            "parent": self._words.actor(life.parent) if life.parent else None,
            "forked_at": full_line_name(life.fork_site) if life.fork_site else None,
            "ended": self._words.ending(life),
            "reaper": self._words.reaper(life),
            "zombie_interval_ns": life.zombie_interval_ns,
            "reap_latency_ns": life.reap_latency_ns,
            "unseen": dict(life.unseen),
        }
        return {name: value for name, value in facts.items() if value not in (None, "", {})}


def nested(slices: Sequence[Slice]) -> Iterator[Slice]:
    """Return the slices so that those of each thread nest.

    A slice that reaches beyond the one it began in is shortened, and its `args` get its
    whole duration. A thread killed during a wait has such slices.
    """
    open_: dict[tuple[int, int], list[int]] = {}  # ends of the slices that enclose
    for each in sorted(slices, key=lambda one: (one.pid, one.tid, one.begin, -one.end)):
        ends = open_.setdefault((each.pid, each.tid), [])
        while ends and ends[-1] <= each.begin:
            ends.pop()
        if ends and each.end > ends[-1]:
            args = {**each.args, "whole_duration_ns": each.end - each.begin}
            each = each._replace(end=ends[-1], args=args)
        ends.append(each.end)
        yield each


def _first(*instants: Optional[int]) -> Optional[int]:
    return next((ns for ns in instants if ns is not None), None)


def _clean(value: Any) -> Any:
    """Return the value with every text made printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): _clean(each) for key, each in value.items()}
    return [_clean(each) for each in value] if isinstance(value, list) else value


def _stack(stack: Optional[Stack]) -> Args:
    """Return the arguments for a stack: a line a frame, innermost first."""
    if stack is None:
        return {}
    lines = [f"{frame.function} ({full_line_name(frame)})" for frame in stack.frames]
    return {"stack": lines, **({"stack_problem": stack.problem} if stack.problem else {})}


def _about(pid: int, tid: int, kind: str, **args: Any) -> Args:
    return {"ph": "M", "pid": pid, "tid": tid, "name": kind, "args": args}
