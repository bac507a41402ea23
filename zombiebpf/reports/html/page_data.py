# SPDX-License-Identifier: Apache-2.0
"""The data for the page's scripts: a column a fact, each text and each stack once.

Instants are nanoseconds after the start of the observation. They are exact as JavaScript
numbers below 2^53 ns, which is 104 days. -1 and null mean none.
"""

from __future__ import annotations

from typing import Any, Optional

from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import LATE_NS, Actor, Life, ReapedBy, Reparenting
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.reports.html.embed import TextTable
from zombiebpf.reports.html.lanes import MAX_LANES, Lane, SharedLane, density, lanes
from zombiebpf.reports.pid_index import PidIndex
from zombiebpf.wording.text import printable
from zombiebpf.wording.wording import UNICODE_WORDS as WORDS
from zombiebpf.wording.wording import call_name, count_of

REAPED_BY_CODES = {each: number for number, each in enumerate(ReapedBy, start=1)}  # 0: not reaped
ZOMBIE_LATE, REAP_LATE, ORPHANED, CORE, FOUND_DEAD = 1, 2, 4, 8, 16  # bits of the column "flags"

COLUMNS = (
    "pid", "start", "nspid", "comm", "command", "cgroup", "parent", "depth", "fork", "exit",
    "zombie", "reap", "ended", "flags", "by", "forker", "above", "forkSite", "forkStack", "reaper",
    "reaperLane", "call", "kind", "began", "reapSite", "reapStack", "unseen",
)  # fmt: skip


class PageData:
    """Builds `value`. `lane_of` maps the id() of a record to its lane, if it has one alone."""

    def __init__(self, analysis: Analysis, most: int = MAX_LANES) -> None:
        """Build the data of a page with about `most` lanes."""
        self._zero = analysis.meta.started_ns
        self._texts = TextTable()
        self._frames: dict[Frame, int] = {}
        self._stacks: dict[Stack, int] = {}
        self._outside: dict[tuple[int, Optional[str]], int] = {}
        self._lanes = lanes(analysis.lives, most)
        alone = [lane.life for lane in self._lanes if isinstance(lane, Lane)]
        numbers = [n for n, lane in enumerate(self._lanes) if isinstance(lane, Lane)]
        self._index, self._numbers = PidIndex(alone), numbers
        self.lane_of = {id(life): number for life, number in zip(alone, numbers)}
        self.shared = sum(len(lane.lives) for lane in self._lanes if isinstance(lane, SharedLane))
        self.value = self._build(analysis)

    def _build(self, analysis: Analysis) -> dict[str, Any]:
        meta = analysis.meta
        columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        sparse: dict[str, dict[str, Any]] = {
            each: {} for each in ("execs", "reparents", "meanwhile", "shared")
        }
        for number, lane in enumerate(self._lanes):
            if isinstance(lane, SharedLane):
                row = self._shared_row(lane)
                sparse["shared"][str(number)] = self._density(lane, meta.started_ns, meta.ended_ns)
            else:
                row = self._row(lane)
                self._add_sparse(sparse, str(number), lane.life)
            for name, cell in zip(COLUMNS, row):
                columns[name].append(cell)
        joins = [self._join(each) for each in analysis.joins or ()]
        return {
            "long": LATE_NS,
            "span": meta.ended_ns - meta.started_ns,
            "started": str(meta.started_ns),
            "lives": columns,
            **sparse,
            "joins": joins,
            "outside": [[pid, self._text(comm)] for pid, comm in self._outside],
            "hooks": {
                printable(fact): [printable(hook), printable(meta.precision.get(fact, ""))]
                for fact, hook in meta.hooks.items()
            },
            "frames": [
                [self._text(frame.function), self._text(frame.file), frame.line]
                for frame in self._frames
            ],
            "stacks": [
                [self._text(stack.problem), [self._frames[frame] for frame in stack.frames]]
                for stack in self._stacks
            ],
            "texts": self._texts.all,
        }

    def _row(self, lane: Lane) -> tuple[Any, ...]:
        life, call = lane.life, lane.life.reap_call
        nspid = life.pidns.pid if life.pidns is not None else 0
        flags = (0 if life.zombie_exact else ZOMBIE_LATE) | (0 if life.reap_exact else REAP_LATE)
        flags |= (ORPHANED if life.orphaned else 0) | (CORE if life.core_dumped else 0)
        flags |= FOUND_DEAD if life.already_zombie else 0
        unseen = "; ".join(f"{name}: {why}" for name, why in life.unseen.items())
        return (
            life.pid,
            str(life.start_ns),
            0 if nspid == life.pid else nspid,
            self._text(life.comm),
            self._texts.number(WORDS.command(life)),
            self._text(life.cgroup),
            lane.parent,
            lane.depth,
            self._offset(life.fork_ns),
            self._offset(life.exit_ns),
            self._offset(life.zombie_ns),
            self._offset(life.reap_ns),
            self._texts.number(WORDS.ending(life)),
            flags,
            REAPED_BY_CODES[life.reaped_by] if life.reaped_by else 0,
            self._actor(life.forker),
            self._actor(life.parent),
            self._frame(life.fork_site),
            self._stack(life.fork_stack),
            self._actor(life.reaper),
            self._lane_of(life.reaper, life.reap_ns),
            self._text(call_name(life)),
            self._text(life.reap_kind),
            self._offset(call.began_ns) if call else None,
            self._frame(call.site) if call else -1,
            self._stack(call.stack) if call else -1,
            self._text(unseen or None),
        )

    def _shared_row(self, lane: SharedLane) -> tuple[Any, ...]:
        """Return the row of a shared lane: what its processes have in common."""
        first, processes = lane.lives[0], count_of(len(lane.lives), "process", "processes")
        row: dict[str, Any] = dict.fromkeys(COLUMNS, -1)
        row.update(
            pid=0,
            start="",
            nspid=0,
            command=self._texts.number(f"{processes} together"),
            parent=lane.parent,
            depth=lane.depth,
            ended=self._texts.number(""),
            flags=0,
            by=0,
            forker=self._actor(first.forker),
            forkSite=self._frame(first.fork_site),
            began=None,
        )
        forks = [each.fork_ns for each in lane.lives if each.fork_ns is not None]
        row.update(fork=self._offset(min(forks, default=None)), exit=None, zombie=None, reap=None)
        return tuple(row[name] for name in COLUMNS)

    def _density(self, lane: SharedLane, began_ns: int, ended_ns: int) -> dict[str, Any]:
        running, zombie = density(lane.lives, began_ns, ended_ns)
        longest = max((each.zombie_interval_ns or 0 for each in lane.lives), default=0)
        return {
            "count": len(lane.lives),
            "running": running,
            "zombie": zombie,
            "longest": longest,
        }

    def _add_sparse(self, sparse: dict[str, dict[str, Any]], key: str, life: Life) -> None:
        if life.execs:
            sparse["execs"][key] = [
                [self._offset(each.ns), self._text(each.filename)] for each in life.execs
            ]
        if life.reparents:
            sparse["reparents"][key] = [self._reparenting(each) for each in life.reparents]
        seen = life.meanwhile
        if seen is not None:
            sparse["meanwhile"][key] = [
                self._offset(seen.ns),
                self._actor(seen.thread),
                self._offset(seen.blocked_since_ns),
                self._text(seen.syscall),
                self._frame(seen.site),
                self._stack(seen.stack),
            ]

    def _reparenting(self, each: Reparenting) -> list[Any]:
        return [
            self._offset(each.ns),
            self._actor(each.from_),
            self._actor(each.to),
            self._lane_of(each.to, each.ns),
            self._texts.number(each.kind.value),
            int(each.while_zombie),
            int(each.exact),
        ]

    def _join(self, join: Join) -> list[Any]:
        instant = join.began_ns if join.began_ns is not None else join.ended_ns
        waiter = self._index.find(join.pid, instant)
        children = join.children or [Child(join.child_pid or 0, None)]
        found = [self._child(each, instant) for each in children]
        return [
            -1 if waiter is None else self._numbers[waiter],
            join.tid,
            self._offset(join.began_ns),
            self._offset(join.ended_ns),
            self._text(join.returned),
            self._text(join.kind),
            join.timeout_s,
            [self._numbers[each] for each in found if each is not None],
            self._frame(join.site),
            self._stack(join.stack),
            join.blocked_ns,
        ]

    def _child(self, child: Child, instant: Optional[int]) -> Optional[int]:
        """Return the process with the child's start, else the one that had its PID then."""
        index = self._index.find_started(child.pid, child.start_ns)
        return self._index.find(child.pid, instant) if index is None else index

    def _offset(self, ns: Optional[int]) -> Optional[int]:
        return None if ns is None else ns - self._zero

    def _text(self, text: Optional[str]) -> int:
        return self._texts.number(None if text is None else printable(text))

    def _actor(self, actor: Optional[Actor]) -> int:
        return -1 if actor is None else self._texts.number(WORDS.actor(actor))

    def _frame(self, frame: Optional[Frame]) -> int:
        return -1 if frame is None else self._frames.setdefault(frame, len(self._frames))

    def _stack(self, stack: Optional[Stack]) -> int:
        if stack is None:
            return -1
        for frame in stack.frames:
            self._frame(frame)
        return self._stacks.setdefault(stack, len(self._stacks))

    def _lane_of(self, actor: Optional[Actor], ns: Optional[int]) -> Optional[int]:
        """Return the lane of an actor; -1 minus its number if it was not observed."""
        if actor is None:
            return None
        index = self._index.find_actor(actor, ns)
        if index is not None:
            return self._numbers[index]
        key = (actor.pid, actor.comm)
        return -1 - self._outside.setdefault(key, len(self._outside))
