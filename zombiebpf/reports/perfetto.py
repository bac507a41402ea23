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
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Optional, TextIO

from zombiebpf.model.join import Join
from zombiebpf.model.life import Actor, Life, ReapedBy
from zombiebpf.model.observation import Observation
from zombiebpf.model.stack import Stack
from zombiebpf.wording.text import printable
from zombiebpf.wording.wording import Wording, full_line_name, line_name

INSTANT_NS = 1  # the width of a slice for an instant: an arrow needs a slice to end at
LIFE, WAIT, FORK, REAP = "life", "wait", "fork", "reap"  # categories
SYNTHETIC = 1 << 24  # above all PIDs (PID_MAX_LIMIT is 2^22): for the second user of a PID

Args = dict[str, Any]
Row = tuple[int, int, int, int, str]
_End = tuple[int, int, int]  # of an arrow: track, thread, instant


# Sort keys in place of a track: what are no slices.
_NAMES, _INSTANTS, _ARROWS = -1, 1 << 60, (1 << 60) + 1


def write(observation: Observation, out: TextIO) -> None:
    """Write the trace, an event a line: names, then all by time."""
    trace = _Trace(observation)
    # sorted by thread, so that slices can be made to nest, then by time
    events = observation.ordered(_nested(observation.ordered(trace.rows())))
    first = next(events, None)  # all rows were made now, so the first instant is known
    meta, zero = observation.meta, trace.zero_ns
    other = {
        "tool": f"zombiebpf {meta.version}",
        "kernel": meta.kernel,
        "command": " ".join(meta.command),
        "clock": meta.clock,
        "zero_ns": str(zero),
        "lost_events": str(meta.lost_events),
        "complete": str(meta.lost_events == 0).lower(),
    }
    out.write('{"displayTimeUnit": "ns",\n "otherData": ' + json.dumps(_clean(other)))
    out.write(',\n "traceEvents": [')
    separator = "\n  "
    for line in _lines(chain((first,) if first else (), events), zero):
        out.write(separator + line)
        separator = ",\n  "
    out.write("]}\n")


def _lines(rows: Iterable[Row], zero: int) -> Iterator[str]:
    """Yield the events with their instants."""
    for ns, _, _, _, text in rows:
        instant = "" if ns == _NAMES else f'"ts": {json.dumps((ns - zero) / 1000)}, '
        yield f"{{{instant}{text}}}"


def _nested(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows by time, outer slices before inner ones, arrows last; slices of a thread nest.

    A slice that reaches beyond the one it began in is shortened, and its `args` get its
    whole duration. A thread killed during a wait has such slices.
    """
    thread: Optional[tuple[int, int]] = None
    ends: list[int] = []  # of the slices that enclose
    for track, tid, ns, minus_end, text in rows:
        if track == _NAMES:
            yield _NAMES, tid, ns, 0, text
        elif track == _INSTANTS:
            yield ns, 1, 0, 0, text
        elif track == _ARROWS:
            yield ns, 2, tid, 0, text
        else:
            if thread != (track, tid):
                thread, ends = (track, tid), []
            end = -minus_end
            while ends and ends[-1] <= ns:
                ends.pop()
            if ends and end > ends[-1]:
                comma = "" if text.endswith("{}") else ", "
                text = f'{text[:-1]}{comma}"whole_duration_ns": {end - ns}}}'
                end = ends[-1]
            ends.append(end)
            length = json.dumps((end - ns) / 1000)
            line = f'"ph": "X", "pid": {track}, "tid": {tid}, "dur": {length}, {text}'
            yield ns, 0, ns - end, 0, line


class _Trace:
    """Makes rows of events to be sorted: track, thread, begin, - end, and the JSON of the rest."""

    def __init__(self, observation: Observation) -> None:
        self._observation = observation
        self._ended = observation.meta.ended_ns
        self._started = observation.meta.started_ns
        self._words = Wording()
        self._outside: dict[tuple[int, Optional[str]], int] = {}
        self._rows: list[Row] = []
        self._arrows = 0
        self.zero_ns = self._started

    def rows(self) -> Iterator[Row]:
        """Yield all rows; `zero_ns` is right after the last one."""
        place = 0
        for place, n in enumerate(self._observation.in_tree(), start=1):
            life = self._observation.life(n)
            track = self._track(n, life.pid)
            name = f"{self._words.pid(life)} {self._words.command(life)}"
            yield from self._named(place, track, name)
            self._add_life(track, life)
            yield from self._made()
        for join in self._observation.joins():
            self._add_join(join)
            yield from self._made()
        for number, ((pid, comm), track) in enumerate(self._outside.items(), start=place + 1):
            yield from self._named(number, track, f"{comm or '-'} {pid} (not observed)")

    def _made(self) -> list[Row]:
        rows, self._rows = self._rows, []
        return rows

    @staticmethod
    def _named(place: int, track: int, name: str) -> Iterator[Row]:
        """Yield the events that name and order a track."""
        about: Args = {"process_name": {"name": name[:500]},
                       "process_sort_index": {"sort_index": place - 1},
                       "thread_name": {"name": name[:500]}}  # fmt: skip
        for number, (kind, args) in enumerate(about.items()):
            event = {"ph": "M", "pid": track, "tid": track, "name": kind, "args": args}
            yield _NAMES, place, number, 0, _encoded(event)[1:-1]

    def _track(self, n: int, pid: int) -> int:
        """Return the track of a process: its PID, unless an earlier process has it."""
        return pid if pid and not self._observation.had_pid(pid, n) else SYNTHETIC + n

    def _add_life(self, track: int, life: Life) -> None:
        begin = self._started if life.fork_ns is None else life.fork_ns
        dead = _first(life.exit_ns, life.zombie_ns, life.reap_ns)
        facts = self._facts(life)
        begin = min(begin, begin if dead is None else dead)
        last = self._ended if dead is None else dead
        if life.already_zombie:
            gone = self._ended if life.reap_ns is None else life.reap_ns
            name = "zombie since before the observation" + (", still" * (life.reap_ns is None))
            self._slice(track, track, self._started, gone, name, LIFE, facts)
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
            event = {"ph": "i", "s": "t", "pid": track, "tid": track, "name": name, "cat": LIFE,
                     "args": args}  # fmt: skip
            self._row(_INSTANTS, 0, each.ns, 0, event)
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
        self._arrow(FORK, (pid, tid, life.fork_ns), (track, track, life.fork_ns))

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
            self._arrow(REAP, (track, track, death), (pid, tid, at))

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
        self._row(pid, tid, begin, -max(end, begin + INSTANT_NS),
                  {"name": name, "cat": cat, "args": args})  # fmt: skip

    def _arrow(self, name: str, begin: _End, end: _End) -> None:
        self._arrows += 1
        for phase, (pid, tid, ns) in (("s", begin), ("f", end)):
            event = {
                "ph": phase, "id": self._arrows, "pid": pid, "tid": tid, "name": name, "cat": name,
            }  # fmt: skip
            if phase == "f":
                event["bp"] = "e"
            self._row(_ARROWS, self._arrows, ns, 0, event)

    def _row(self, track: int, tid: int, ns: int, minus_end: int, event: Args) -> None:
        self.zero_ns = min(self.zero_ns, ns)
        self._rows.append((track, tid, ns, minus_end, _encoded(event)[1:-1]))

    def _thread(self, actor: Actor, ns: int) -> tuple[int, int]:
        """Return the track and the thread of an actor."""
        n = self._observation.at(actor.pid, ns)
        if n is not None:
            track = self._track(n, actor.pid)
            return track, track if actor.tid in (None, actor.pid) else actor.tid or track
        key = (actor.pid, actor.comm)
        if key not in self._outside:
            taken = self._observation.had_pid(actor.pid) or actor.pid in self._outside.values()
            number = SYNTHETIC + self._observation.count + 1 + len(self._outside)
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


def _encoded(event: Args) -> str:
    return json.dumps(_clean(event), ensure_ascii=True, allow_nan=False)
