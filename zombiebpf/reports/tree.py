# SPDX-License-Identifier: Apache-2.0
"""The fork tree: processes in depth-first order, forkers before their children."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from zombiebpf.model.life import Life
from zombiebpf.wording.text import Glyphs


class Node(NamedTuple):
    """A process in the fork tree."""

    life: Life
    depth: int  # 0: its forker was not observed
    siblings: tuple[bool, ...]  # on each level below the root: does a younger sibling follow?
    children: bool

    def prefix(self, glyphs: Glyphs, limit: int) -> str:
        """Return the branches before the name; beyond `limit` levels, the depth as a number."""
        if self.depth == 0:
            return ""
        if self.depth > limit:
            return f"{self._rails(glyphs, limit)}({self.depth}) "
        last = glyphs.branch if self.siblings[self.depth - 1] else glyphs.last
        return self._rails(glyphs, self.depth - 1) + last

    def margin(self, glyphs: Glyphs, limit: int) -> str:
        """Return the branches before further lines about the process."""
        rails = self._rails(glyphs, min(self.depth, limit))
        return rails + (glyphs.through if self.children and self.depth < limit else glyphs.blank)

    def _rails(self, glyphs: Glyphs, levels: int) -> str:
        return "".join(
            glyphs.through if follows else glyphs.blank for follows in self.siblings[:levels]
        )


DEEPEST = 12  # levels of branches that are drawn


def fork_tree(lives: Sequence[Life]) -> Iterator[Node]:
    """Return each process once; siblings and roots by fork time, those without one first.

    An actor is named by its PID alone: the forker is the process that had this PID when the
    child was forked.
    """
    in_order = sorted(
        lives, key=lambda life: (-1 if life.fork_ns is None else life.fork_ns, life.start_ns)
    )
    newest: dict[int, int] = {}  # pid -> index of the last process that had it so far
    children: dict[int, list[int]] = {}
    roots: list[int] = []
    for index, life in enumerate(in_order):
        above = life.forker or life.parent
        forker = newest.get(above.pid) if above is not None else None
        if forker is None or _gone(in_order[forker], life):
            roots.append(index)
        else:
            children.setdefault(forker, []).append(index)
        newest[life.pid] = index

    todo: list[tuple[int, int, tuple[bool, ...]]] = [(each, 0, ()) for each in reversed(roots)]
    while todo:
        index, depth, siblings = todo.pop()
        below = children.get(index, [])
        yield Node(in_order[index], depth, siblings, bool(below))
        for child in reversed(below):
            follows = siblings
            if depth < DEEPEST:
                follows = (*siblings, child != below[-1])
            todo.append((child, depth + 1, follows))


def _gone(forker: Life, child: Life) -> bool:
    """Return whether it was reaped before the fork: then another process had its PID."""
    if forker.reap_ns is None or child.fork_ns is None:
        return False
    return forker.reap_ns < child.fork_ns
