# SPDX-License-Identifier: Apache-2.0
"""What was forked at each line of the user's, what was reaped at each: counts and times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

from zombiebpf.analysis import Meta
from zombiebpf.life import Life, ReapedBy, State
from zombiebpf.stack import Frame
from zombiebpf.statistics import distribution, zombie_intervals

LONG_NS = 100_000_000  # a zombie that waits longer was not waited for

UNSEEN = "unseen"


class Line(NamedTuple):
    """A function's line; the innermost one of the user's own code."""

    file: str
    line: Optional[int]
    function: str


@dataclass(frozen=True)
class Site:
    """A line of the user's, and the children that it forked, or reaped. Nanoseconds.

    `where` None: the children whose line is not known, or whose forker is not Python.
    """

    where: Optional[Line]
    children: int
    reaped_by: Mapping[str, int]  # kind of the reaping call -> children, the most first
    p50_ns: Optional[int]  # of the zombie intervals
    p99_ns: Optional[int]
    max_ns: Optional[int]
    late: int  # zombies for LONG_NS or longer, also those that are it still
    still_zombies: int
    running: int
    lives: Sequence[Life]


def kind_of(life: Life) -> Optional[str]:
    """How it was reaped: the rule's kind, else the system call. None: it was not."""
    if life.state is not State.REAPED:
        return None
    if life.reaped_by is ReapedBy.KERNEL:
        return "kernel"
    call = life.reap_call
    if life.reaper is None or call is None:
        return UNSEEN
    return call.kind or call.syscall or UNSEEN


def waited_ns(life: Life, ended_ns: int) -> Optional[int]:
    """How long it was a zombie, until now if it is one still."""
    if life.state is State.ZOMBIE and life.zombie_ns is not None:
        return max(ended_ns - life.zombie_ns, 0)
    interval = life.zombie_interval_ns
    return None if interval is None else max(interval, 0)


def found_dead(life: Life) -> bool:
    """Was it a zombie when the observation began? Then since when is not known."""
    return life.was_zombie and life.zombie_ns is None and life.exit_ns is None


def least_ns(life: Life, meta: Meta) -> Optional[int]:
    """The same; of one that was a zombie when the observation began, at the least.

    How long such a one was a zombie before is not known: it is in no statistics.
    """
    if found_dead(life):
        end_ns = meta.ended_ns if life.reap_ns is None else life.reap_ns
        return max(end_ns - meta.started_ns, 0)
    return waited_ns(life, meta.ended_ns)


def line_of(frame: Optional[Frame]) -> Optional[Line]:
    return None if frame is None else Line(frame.file, frame.line, frame.function)


def fork_sites(lives: Iterable[Life], meta: Meta) -> list[Site]:
    """By the line that forked; those with most late zombies first, then with most children."""
    return _sites(lives, meta, lambda life: life.fork_site)


def reap_sites(lives: Iterable[Life], meta: Meta) -> list[Site]:
    """The same by the line that reaped; what was not reaped is not there."""
    reaped = (life for life in lives if life.state is State.REAPED)
    return _sites(reaped, meta, lambda life: life.reap_call and life.reap_call.site)


def _sites(
    lives: Iterable[Life], meta: Meta, frame_of: Callable[[Life], Optional[Frame]]
) -> list[Site]:
    groups: dict[Optional[Line], list[Life]] = {}
    for life in lives:
        groups.setdefault(line_of(frame_of(life)), []).append(life)
    found = [_site(where, group, meta) for where, group in groups.items()]
    found.sort(key=lambda site: (site.where is None, -site.late, -site.children))
    return found


def _site(where: Optional[Line], lives: Sequence[Life], meta: Meta) -> Site:
    times = distribution(zombie_intervals(lives))
    kinds = Counter(kind for life in lives if (kind := kind_of(life)) is not None)
    return Site(
        where=where,
        children=len(lives),
        reaped_by=dict(kinds.most_common()),
        p50_ns=times.p50_ns if times else None,
        p99_ns=times.p99_ns if times else None,
        max_ns=times.max_ns if times else None,
        late=sum((least_ns(life, meta) or 0) >= LONG_NS for life in lives),
        still_zombies=sum(life.state is State.ZOMBIE for life in lives),
        running=sum(life.state is State.RUNNING for life in lives),
        lives=lives,
    )


def short(where: Line) -> str:
    """`app.py:42`."""
    name = where.file.rsplit("/", 1)[-1]
    return name if where.line is None else f"{name}:{where.line}"


def phrase(site: Site, duration: Callable[[int], str]) -> str:
    """`app.py:42 forked 120, 118 reaped by atexit after 3.2 s, 2 zombies still`.

    The time is the median of what that call reaped.
    """
    name = short(site.where) if site.where is not None else "an unknown line"
    parts = [f"{name} forked {site.children}"]
    for kind, count in site.reaped_by.items():
        times = distribution(zombie_intervals(life for life in site.lives if kind_of(life) == kind))
        after = f" after {duration(times.p50_ns)}" if times else ""
        by = "by nobody seen" if kind == UNSEEN else f"by {kind}"
        parts.append(f"{count} reaped {by}{after}")
    if site.still_zombies:
        parts.append(f"{site.still_zombies} still zombie{'s' * (site.still_zombies > 1)}")
    if site.running:
        parts.append(f"{site.running} running")
    return ", ".join(parts)
