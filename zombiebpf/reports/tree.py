# SPDX-License-Identifier: Apache-2.0
"""Draw the branches of the fork tree."""

from __future__ import annotations

from zombiebpf.model.observation import TREE_LEVELS, Branch, Group
from zombiebpf.wording.text import Glyphs
from zombiebpf.wording.wording import Wording

DEEPEST = TREE_LEVELS  # levels of branches that are drawn

WHOLE = 200  # processes that a text report lists one by one; if there are more, OUTLIERS are
OUTLIERS = 40


def prefix(branch: Branch, glyphs: Glyphs, limit: int) -> str:
    """Return the branches before the name; beyond `limit` levels, the depth as a number."""
    if branch.depth == 0:
        return ""
    if branch.depth > limit:
        return f"{_rails(branch, glyphs, limit)}({branch.depth}) "
    last = glyphs.branch if branch.siblings[branch.depth - 1] else glyphs.last
    return _rails(branch, glyphs, branch.depth - 1) + last


def margin(branch: Branch, glyphs: Glyphs, limit: int) -> str:
    """Return the branches before further lines about the process."""
    rails = _rails(branch, glyphs, min(branch.depth, limit))
    through = branch.children and branch.depth < limit
    return rails + (glyphs.through if through else glyphs.blank)


def _rails(branch: Branch, glyphs: Glyphs, levels: int) -> str:
    return "".join(
        glyphs.through if follows else glyphs.blank for follows in branch.siblings[:levels]
    )


def group_name(group: Group, words: Wording) -> str:
    """Return `1632 more, forked at app.py:42`."""
    if group.mixed:
        return f"{group.count} more, forked at other lines"
    if group.site is not None:
        return f"{group.count} more, forked{words.at_line(group.site)}"
    forker = f", forked by {words.actor(group.forker)}" if group.forker is not None else ""
    return f"{group.count} more{forker}"
