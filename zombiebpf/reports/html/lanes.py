# SPDX-License-Identifier: Apache-2.0
"""The lanes of the page's timeline: their order, and which processes share one.

Up to MAX_LANES processes have a lane each. If there are more, the least interesting ones
(no children, never adopted, reaped soon) share lanes with their siblings from the same
line, and the page says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional, Union

from zombiebpf.model.life import Life, State
from zombiebpf.reports.tree import fork_tree

MAX_LANES = 20_000
BINS = 400  # intervals of the observation that a shared lane is drawn in


class Lane(NamedTuple):
    """The lane of one process."""

    life: Life
    depth: int
    parent: int  # index of its forker's lane; -1: the forker has none


@dataclass
class SharedLane:
    """A lane of several siblings."""

    parent: int
    depth: int
    lives: list[Life] = field(default_factory=list)


def lanes(lives: Sequence[Life], most: int = MAX_LANES) -> list[Union[Lane, SharedLane]]:
    """Return the lanes in the order of the fork tree, a shared one at its first process."""
    alone = None if len(lives) <= most else _most_notable(lives, most)
    found: list[Union[Lane, SharedLane]] = []
    path: list[int] = []  # the lane of each level above
    shared: dict[tuple[int, Any], SharedLane] = {}
    for node in fork_tree(lives):
        del path[node.depth :]
        parent = path[-1] if path else -1
        if alone is None or id(node.life) in alone or node.children:
            path.append(len(found))
            found.append(Lane(node.life, node.depth, parent))
            continue
        key = (parent, node.life.fork_site)
        if key not in shared:
            shared[key] = SharedLane(parent, node.depth)
            found.append(shared[key])
        shared[key].lives.append(node.life)
    return found


def _most_notable(lives: Sequence[Life], most: int) -> set[int]:
    """Return the id() of the most interesting half of `most` records."""

    def weight(life: Life) -> tuple[bool, bool, int]:
        dead = life.state is State.ZOMBIE or life.already_zombie
        return (dead, bool(life.reparents), life.zombie_interval_ns or 0)

    return {id(life) for life in sorted(lives, key=weight, reverse=True)[: most // 2]}


def density(
    lives: Sequence[Life], began_ns: int, ended_ns: int, bins: int = BINS
) -> tuple[list[float], list[float]]:
    """Return the mean numbers of running processes and of zombies in each bin of the span."""
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
        if not life.already_zombie:
            add(running, life.fork_ns, dead)
        add(zombie, began_ns if life.already_zombie else life.zombie_ns, life.reap_ns)
    return [round(each, 3) for each in running], [round(each, 3) for each in zombie]
