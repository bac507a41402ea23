# SPDX-License-Identifier: Apache-2.0
"""The data for the page's scripts: a column a fact, each text and each stack once.

Instants are nanoseconds after the start of the observation. They are exact as JavaScript
numbers below 2^53 ns, which is 104 days. -1 and null mean none.

Up to MAX_LANES processes have a lane each. If there are more, the outliers and the processes with
most children have one, and all others share the lanes of their siblings from the same line.
"""

from __future__ import annotations

from typing import Any, Optional

from zombiebpf.model.life import LATE_NS, Actor, Life, ReapedBy, Reparenting
from zombiebpf.model.observation import Branch, Density, Group, Observation, PlacedJoin
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.reports.html.embed import TextTable
from zombiebpf.wording.text import printable
from zombiebpf.wording.wording import UNICODE_WORDS as WORDS
from zombiebpf.wording.wording import call_name, count_of

REAPED_BY_CODES = {each: number for number, each in enumerate(ReapedBy, start=1)}  # 0: not reaped
MAX_LANES = 20_000  # processes that have a lane each
MAX_JOINS = 20_000  # that are in the page; if there are more, the longest ones
BINS = 400  # intervals of the observation that a shared lane is drawn in
ZOMBIE_LATE, REAP_LATE, ORPHANED, CORE, FOUND_DEAD = 1, 2, 4, 8, 16  # bits of the column "flags"

COLUMNS = (
    "pid", "start", "nspid", "comm", "command", "cgroup", "parent", "depth", "fork", "exit",
    "zombie", "reap", "ended", "flags", "by", "forker", "above", "forkSite", "forkStack", "reaper",
    "reaperLane", "call", "kind", "began", "reapSite", "reapStack", "unseen",
)  # fmt: skip


class PageData:
    """Builds `value`. `lane_of` maps the number of a process to its lane, if it has one alone.

    `shared` is the number of processes that have none.
    """

    def __init__(self, observation: Observation, most: int = MAX_LANES) -> None:
        """Build the data of a page with a lane for each of `most` processes."""
        self._observation = observation
        self._zero = observation.meta.started_ns
        self._texts = TextTable()
        self._frames: dict[Frame, int] = {}
        self._stacks: dict[Stack, int] = {}
        self._outside: dict[tuple[int, Optional[str]], int] = {}
        self._lanes = observation.tree(most, most // 2, percentiles=False)
        self.lane_of = {
            lane.n: number for number, lane in enumerate(self._lanes) if lane.n is not None
        }
        self.shared = sum(lane.group.count for lane in self._lanes if lane.group is not None)
        self.value = self._build()

    def _build(self) -> dict[str, Any]:
        meta = self._observation.meta
        columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        sparse: dict[str, dict[str, Any]] = {
            each: {} for each in ("execs", "reparents", "meanwhile", "shared")
        }
        densities = self._observation.densities(BINS, (meta.started_ns, meta.ended_ns))
        for number, lane in enumerate(self._lanes):
            if lane.group is not None:
                row = self._shared_row(lane, lane.group)
                sparse["shared"][str(number)] = _shared(lane.group, densities[lane.group.number])
            else:
                assert lane.life is not None
                row = self._row(lane, lane.life)
                self._add_sparse(sparse, str(number), lane.life)
            for name, cell in zip(COLUMNS, row):
                columns[name].append(cell)
        joins = [
            join
            for each in self._observation.placed_joins(MAX_JOINS)
            if (join := self._join(each)) is not None
        ]
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

    def _row(self, lane: Branch, life: Life) -> tuple[Any, ...]:
        call = life.reap_call
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

    def _shared_row(self, lane: Branch, group: Group) -> tuple[Any, ...]:
        """Return the row of a shared lane: what its processes have in common."""
        row: dict[str, Any] = dict.fromkeys(COLUMNS, -1)
        processes = count_of(group.count, "process", "processes")
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
            forker=self._actor(group.forker),
            forkSite=self._frame(group.site),
            began=None,
            fork=self._offset(group.first_ns),
            exit=None,
            zombie=None,
            reap=None,
        )
        return tuple(row[name] for name in COLUMNS)

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

    def _join(self, placed: PlacedJoin) -> Optional[list[Any]]:
        """Return a join; None if neither who waited nor a child has a lane, though it could."""
        join, waiter = placed.join, -1
        if placed.waiter is not None:
            waiter = self.lane_of.get(placed.waiter, -1)
        children = [self.lane_of[each] for each in placed.children if each in self.lane_of]
        if self.shared and waiter < 0 and not children:
            return None
        return [
            waiter,
            join.tid,
            self._offset(join.began_ns),
            self._offset(join.ended_ns),
            self._text(join.returned),
            self._text(join.kind),
            join.timeout_s,
            children,
            self._frame(join.site),
            self._stack(join.stack),
            join.blocked_ns,
        ]

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
        """Return the lane of an actor; -1 minus its number if it was not observed; None: none."""
        if actor is None:
            return None
        n = self._observation.at(actor.pid, ns)
        if n is not None:
            return self.lane_of.get(n)
        key = (actor.pid, actor.comm)
        return -1 - self._outside.setdefault(key, len(self._outside))


def _shared(group: Group, density: Density) -> dict[str, Any]:
    return {
        "count": group.count,
        "running": density.running,
        "zombie": density.zombie,
        "longest": group.longest_ns or 0,
    }
