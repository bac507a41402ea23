# SPDX-License-Identifier: Apache-2.0
"""Count what was forked and what was reaped at each line of the user's code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from zombiebpf.model.analysis import Meta
from zombiebpf.model.life import KIND_UNSEEN, LATE_NS, Life, State
from zombiebpf.model.stack import Frame
from zombiebpf.model.statistics import distribution, zombie_intervals
from zombiebpf.wording.wording import Wording, count_of


@dataclass(frozen=True)
class SiteSummary:
    """The children that one line of the user's code forked, or reaped. Nanoseconds."""

    site: Optional[Frame]  # None: the line is unknown, or its process is not Python
    children: int
    reaped_by: Mapping[str, int]  # kind of the reaping call -> children, most frequent first
    p50_ns: Optional[int]  # of the zombie intervals
    p99_ns: Optional[int]
    max_ns: Optional[int]
    late: int  # zombies for LATE_NS or longer, reaped or not
    still_zombies: int
    running: int
    lives: Sequence[Life]


def by_reap_kind(lives: Iterable[Life]) -> list[tuple[str, list[Life]]]:
    """Group the reaped processes by the call that reaped them, the most frequent first."""
    kinds: dict[str, list[Life]] = {}
    for life in lives:
        kind = life.reap_kind
        if kind is not None:
            kinds.setdefault(kind, []).append(life)
    return sorted(kinds.items(), key=lambda item: -len(item[1]))


def fork_sites(lives: Iterable[Life], meta: Meta) -> list[SiteSummary]:
    """Summarize by the line that forked: most late zombies first, then most children."""
    return _summaries(lives, meta, lambda life: life.fork_site)


def reap_sites(lives: Iterable[Life], meta: Meta) -> list[SiteSummary]:
    """Summarize the reaped processes by the line that reaped, in the order of fork_sites()."""
    reaped = (life for life in lives if life.state is State.REAPED)
    return _summaries(reaped, meta, lambda life: life.reap_call and life.reap_call.site)


def _summaries(
    lives: Iterable[Life], meta: Meta, site_of: Callable[[Life], Optional[Frame]]
) -> list[SiteSummary]:
    groups: dict[Optional[Frame], list[Life]] = {}
    for life in lives:
        groups.setdefault(site_of(life), []).append(life)
    found = [_summary(site, group, meta) for site, group in groups.items()]
    found.sort(key=lambda each: (each.site is None, -each.late, -each.children))
    return found


def _summary(site: Optional[Frame], lives: Sequence[Life], meta: Meta) -> SiteSummary:
    times = distribution(zombie_intervals(lives))
    kinds = Counter(kind for life in lives if (kind := life.reap_kind) is not None)
    durations = (life.zombie_duration_ns(meta.started_ns, meta.ended_ns) for life in lives)
    return SiteSummary(
        site=site,
        children=len(lives),
        reaped_by=dict(kinds.most_common()),
        p50_ns=times.p50_ns if times else None,
        p99_ns=times.p99_ns if times else None,
        max_ns=times.max_ns if times else None,
        late=sum((duration or 0) >= LATE_NS for duration in durations),
        still_zombies=sum(life.state is State.ZOMBIE for life in lives),
        running=sum(life.state is State.RUNNING for life in lives),
        lives=lives,
    )


def describe_fork_site(summary: SiteSummary, words: Wording) -> str:
    """Return `app.py:42 forked 120, 118 reaped by atexit after 3.2 s, 2 still zombies`.

    The time is the median zombie interval of what that call reaped.
    """
    name = words.line(summary.site) if summary.site is not None else "an unknown line"
    parts = [f"{name} forked {summary.children}"]
    for kind, count in summary.reaped_by.items():
        reaped = (life for life in summary.lives if life.reap_kind == kind)
        times = distribution(zombie_intervals(reaped))
        after = f" after {words.duration(times.p50_ns)}" if times else ""
        by = "by nobody seen" if kind == KIND_UNSEEN else f"by {kind}"
        parts.append(f"{count} reaped {by}{after}")
    if summary.still_zombies:
        parts.append(count_of(summary.still_zombies, "still zombie"))
    if summary.running:
        parts.append(f"{summary.running} running")
    return ", ".join(parts)
