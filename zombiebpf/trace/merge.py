# SPDX-License-Identifier: Apache-2.0
"""Traces as one observation: the parts of one, or several of one boot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Optional

from zombiebpf.analysis import Analysis, Join, Meta
from zombiebpf.errors import UsageError
from zombiebpf.life import Life
from zombiebpf.trace.filters import Filters
from zombiebpf.trace.opening import damage, open_part
from zombiebpf.trace.part import Part

ALL = Filters()


def read_trace(path: str, filters: Filters = ALL) -> Analysis:
    """One trace, whole. UsageError if it cannot be read."""
    with open_traces([path]) as trace:
        return trace.analysis(filters)


def open_traces(paths: Sequence[str]) -> Trace:
    """UsageError if one cannot be read, or if they do not belong together."""
    with ExitStack() as stack:
        parts = []
        for path in paths:
            part = open_part(path)
            stack.callback(part.close)
            parts.append((path, part))
        trace = Trace(parts)
        stack.pop_all()
        return trace


class Trace:
    """Traces that are open. Whatever reads them raises UsageError where they are damaged."""

    def __init__(self, parts: Sequence[tuple[str, Part]]) -> None:
        self._all = [part for _, part in parts]
        known: dict[tuple[str, int], tuple[str, Part]] = {}
        for name, part in parts:
            known.setdefault((part.own.observation, part.own.part), (name, part))
        firsts: dict[str, int] = {}  # observation -> its start
        for _, part in known.values():
            started = firsts.get(part.own.observation, part.meta.started_ns)
            firsts[part.own.observation] = min(started, part.meta.started_ns)
        self._parts = sorted(
            known.values(),
            key=lambda each: (
                firsts[each[1].own.observation],
                each[1].own.observation,
                each[1].own.part,
            ),
        )
        self._several = len(firsts) > 1
        self._require_one_boot()
        self.meta = self._merged_meta()

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        for part in self._all:
            part.close()

    @property
    def first_part(self) -> int:
        """Its number, from 1 on."""
        return self._parts[0][1].own.part

    @property
    def looked_for_joins(self) -> bool:
        return any(part.own.joins for _, part in self._parts)

    @property
    def count(self) -> int:
        """Of lives in all traces."""
        total = 0
        for name, part in self._parts:
            with damage(name):
                total += part.count
        return total

    def lives(self, filters: Filters = ALL, ended: Optional[bool] = None) -> Iterator[Life]:
        """As they were written, one at a time: those that ended as they ended.

        `ended` True: only those reaped, False: only the others.
        """
        seen: set[tuple[int, int]] = set()
        for name, part in self._parts:
            with damage(name):
                for life in part.lives(filters, self.meta, ended):
                    if self._several:
                        if (life.pid, life.start_ns) in seen:
                            continue  # two observers have seen it
                        seen.add((life.pid, life.start_ns))
                    yield life

    def analysis(self, filters: Filters = ALL) -> Analysis:
        """What the filters keep, in the order of reports."""
        found: dict[tuple[int, int], Life] = {}
        for ended in (True, False) if self._several else (None,):
            for life in self.lives(filters, ended):
                found.setdefault((life.pid, life.start_ns), life)
        lives = sorted(found.values(), key=lambda life: life.fork_ns or 0)
        return Analysis(self.meta, lives, self._joins(filters, lives))

    def _joins(self, filters: Filters, lives: Sequence[Life]) -> Optional[list[Join]]:
        if not self.looked_for_joins:
            return None
        joins: list[Join] = []
        for name, part in self._parts:
            with damage(name):
                joins += part.joins()
        if filters:
            since, until = filters.window(self.meta)
            keys = {(life.pid, life.start_ns) for life in lives}
            pids = {life.pid for life in lives}
            joins = [
                join
                for join in joins
                if filters.keeps(join, keys, pids) and _within(join, since, until)
            ]
        return sorted(joins, key=lambda join: join.began_ns or 0)

    def _require_one_boot(self) -> None:
        if not self._several:
            return
        first, part = self._parts[0]
        for name, other in self._parts[1:]:
            if part.own.boot is None or part.own.boot != other.own.boot:
                raise UsageError(
                    f"{first} and {name} are of two boots, whose clocks cannot be compared",
                    "report them one by one",
                )

    def _merged_meta(self) -> Meta:
        observations: dict[str, list[Part]] = {}
        for _, part in self._parts:
            observations.setdefault(part.own.observation, []).append(part)
        metas = [_of_one(parts) for parts in observations.values()]
        first = metas[0]
        if len(metas) == 1:
            return first
        lost: dict[str, int] = {}
        for meta in metas:
            for cause, count in meta.lost_by.items():
                lost[cause] = lost.get(cause, 0) + count
        commands = {tuple(meta.command) for meta in metas}
        return replace(
            first,
            hooks={**metas[-1].hooks, **first.hooks},
            precision={**metas[-1].precision, **first.precision},
            ended_ns=max(meta.ended_ns for meta in metas),
            command=first.command if len(commands) == 1 else (),
            lost_events=sum(meta.lost_events for meta in metas),
            lost_by=lost,
            cut="; ".join(dict.fromkeys(meta.cut for meta in metas if meta.cut)) or None,
        )


def _of_one(parts: Sequence[Part]) -> Meta:
    """Of the parts of one observation, in their order. Each counts the lost from the start on."""
    last = parts[-1]
    numbers = [part.own.part for part in parts]
    missing = sorted(set(range(1, numbers[-1] + 1)) - set(numbers))[:3]
    reasons = [] if last.meta.cut is None else [last.meta.cut]
    if missing:
        reasons.append(f"part {missing[0]} of it was not given")
    elif last.own.closed and not last.own.last:
        reasons.append(f"what follows its part {last.own.part} was not given")
    return replace(last.meta, cut="; ".join(reasons) if reasons else None)


def _within(join: Join, since: Optional[int], until: Optional[int]) -> bool:
    if since is not None and join.ended_ns is not None and join.ended_ns < since:
        return False
    return until is None or join.began_ns is None or join.began_ns <= until
