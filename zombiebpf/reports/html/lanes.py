# SPDX-License-Identifier: Apache-2.0
"""The order of the timeline's lanes, and which of very many lives share one.

Up to MOST lives each has a lane of its own. Beyond, those that tell least
(no children, no adoption, soon reaped) are put together with their siblings
from the same line; the page says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional, Union

from zombiebpf.attribution.sites import found_dead
from zombiebpf.life import Life, State
from zombiebpf.reports.tree import fork_tree

MOST = 20_000
BINS = 400  # of a shared lane, along the observation


class Lane(NamedTuple):
    """A life of its own lane."""

    life: Life
    depth: int
    parent: int  # index of its forker's lane; -1: not among the lanes


@dataclass
class Shared:
    """Siblings in one lane: how many of them ran, and were zombies, in each bin."""

    parent: int
    depth: int
    lives: list[Life] = field(default_factory=list)


def lanes(lives: Sequence[Life], most: int = MOST) -> list[Union[Lane, Shared]]:
    """In the order of the fork tree; a shared lane stands where its first life would."""
    alone = None if len(lives) <= most else _telling(lives, most)
    found: list[Union[Lane, Shared]] = []
    path: list[int] = []  # the lane of each level above
    shared: dict[tuple[int, Any], Shared] = {}
    for node in fork_tree(lives):
        del path[node.depth :]
        parent = path[-1] if path else -1
        if alone is None or id(node.life) in alone or node.children:
            path.append(len(found))
            found.append(Lane(node.life, node.depth, parent))
            continue
        key = (parent, node.life.fork_site)
        if key not in shared:
            shared[key] = Shared(parent, node.depth)
            found.append(shared[key])
        shared[key].lives.append(node.life)
    return found


def _telling(lives: Sequence[Life], most: int) -> set[int]:
    """ids of the lives that tell most."""

    def weight(life: Life) -> tuple[bool, bool, int]:
        dead = life.state is State.ZOMBIE or found_dead(life)
        return (dead, bool(life.reparents), life.zombie_interval_ns or 0)

    return {id(life) for life in sorted(lives, key=weight, reverse=True)[: most // 2]}


def density(
    lives: Sequence[Life], began_ns: int, ended_ns: int, bins: int = BINS
) -> tuple[list[float], list[float]]:
    """How many ran, and how many were zombies, on an average over each bin of the span."""
    running, zombie = [0.0] * bins, [0.0] * bins
    width = max(ended_ns - began_ns, 1) / bins

    def add(means: list[float], begin: Optional[int], end: Optional[int]) -> None:
        if begin is None:
            return
        low = max(begin - began_ns, 0) / width
        high = ((ended_ns if end is None else end) - began_ns) / width
        for bin_ in range(int(low), min(int(high), bins - 1) + 1):
            means[bin_] += max(min(high, bin_ + 1) - max(low, bin_), 0.0)

    for life in lives:
        dead = next((ns for ns in (life.exit_ns, life.zombie_ns, life.reap_ns) if ns), None)
        if not found_dead(life):
            add(running, life.fork_ns, dead)
        add(zombie, began_ns if found_dead(life) else life.zombie_ns, life.reap_ns)
    return [round(each, 3) for each in running], [round(each, 3) for each in zombie]
