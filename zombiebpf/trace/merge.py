# SPDX-License-Identifier: Apache-2.0
"""Read traces as one observation: the parts of one trace, or several traces of one boot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Callable

from zombiebpf.errors import UsageError
from zombiebpf.model.analysis import Analysis, Meta
from zombiebpf.trace.filters import Filters
from zombiebpf.trace.index import Index
from zombiebpf.trace.observation import TraceObservation
from zombiebpf.trace.open_file import damage_of, open_part
from zombiebpf.trace.part import Part

ALL = Filters()  # excludes nothing
_STEPS = 1_000_000  # of SQLite's virtual machine, some 10 ms, between two calls of `progress`


def read_trace(path: str, filters: Filters = ALL) -> Analysis:
    """Return what one trace file holds. Raise UsageError if it cannot be read."""
    with open_traces([path]) as trace:
        return trace.analysis(filters)


def open_traces(paths: Sequence[str]) -> Trace:
    """Open traces. Raise UsageError if one cannot be read or they are of different boots."""
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
    """Open traces, read as one. Methods that read raise DamagedTraceError."""

    def __init__(self, parts: Sequence[tuple[str, Part]]) -> None:
        self._all = [part for _, part in parts]
        known: dict[tuple[str, int], tuple[str, Part]] = {}
        for name, part in parts:
            known.setdefault((part.info.observation, part.info.part), (name, part))
        firsts: dict[str, int] = {}  # observation -> its start
        for _, part in known.values():
            started = firsts.get(part.info.observation, part.meta.started_ns)
            firsts[part.info.observation] = min(started, part.meta.started_ns)

        def order(each: tuple[str, Part]) -> tuple[int, str, int]:
            info = each[1].info
            return firsts[info.observation], info.observation, info.part

        self._parts = sorted(known.values(), key=order)
        self._several = len(firsts) > 1
        self._require_one_boot()
        self.meta = self._merged_meta()

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *_: object) -> None:
        for part in self._all:
            part.close()

    @property
    def first_part(self) -> int:
        """The number of the first part, from 1."""
        return self._parts[0][1].info.part

    @property
    def observed_joins(self) -> bool:
        """Whether joins were observed, even if there are none."""
        return any(part.info.joins for _, part in self._parts)

    @property
    def count(self) -> int:
        """The number of processes in all traces."""
        total = 0
        for name, part in self._parts:
            with damage_of(name):
                total += part.count
        return total

    @contextmanager
    def observation(
        self,
        filters: Filters = ALL,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[TraceObservation]:
        """Index the processes that pass `filters` and their joins, and answer questions on them.

        `progress` is called with the number of processes read, and of all; with 0 and 0 during
        queries. One observation of a trace can be open at a time.
        """
        with damage_of(", ".join(dict.fromkeys(name for name, _ in self._parts[:3]))):
            parts = [part for _, part in self._parts]
            for part in parts:
                part.db.set_progress_handler(lambda: progress(0, 0), _STEPS)
            index = Index(parts, self.meta, filters, unique=self._several)
            yield TraceObservation(index, self.meta, self.observed_joins, progress)

    def analysis(self, filters: Filters = ALL) -> Analysis:
        """Return everything that passes `filters`. Only for what is known to be small."""
        with self.observation(filters) as found:
            return found.analysis()

    def _require_one_boot(self) -> None:
        if not self._several:
            return
        first, part = self._parts[0]
        for name, other in self._parts[1:]:
            if part.info.boot is None or part.info.boot != other.info.boot:
                raise UsageError(
                    f"{first} and {name} are of two boots, whose clocks cannot be compared",
                    "report them one by one",
                )

    def _merged_meta(self) -> Meta:
        observations: dict[str, list[Part]] = {}
        for _, part in self._parts:
            observations.setdefault(part.info.observation, []).append(part)
        metas = [_meta_of_parts(parts) for parts in observations.values()]
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


def _meta_of_parts(parts: Sequence[Part]) -> Meta:
    """Return the meta of one observation: each of its sorted parts counts all losses so far."""
    last = parts[-1]
    numbers = [part.info.part for part in parts]
    missing = sorted(set(range(1, numbers[-1] + 1)) - set(numbers))[:3]
    reasons = [] if last.meta.cut is None else [last.meta.cut]
    if missing:
        reasons.append(f"part {missing[0]} of it was not given")
    elif last.info.closed and not last.info.last:
        reasons.append(f"what follows its part {last.info.part} was not given")
    return replace(last.meta, cut="; ".join(reasons) if reasons else None)
