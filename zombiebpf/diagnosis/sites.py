# SPDX-License-Identifier: Apache-2.0
"""Say in words what one line of the user's code forked."""

from __future__ import annotations

from zombiebpf.model.life import KIND_UNSEEN
from zombiebpf.model.observation import SiteSummary
from zombiebpf.wording.wording import Wording, count_of


def describe_fork_site(summary: SiteSummary, words: Wording) -> str:
    """Return `app.py:42 forked 120, 118 reaped by atexit after 3.2 s, 2 still zombies`.

    The time is the median zombie interval of what that call reaped.
    """
    name = words.line(summary.site) if summary.site is not None else "an unknown line"
    parts = [f"{name} forked {summary.children}"]
    for kind, count in summary.reaped_by.items():
        median_ns = summary.medians.get(kind)
        after = f" after {words.duration(median_ns)}" if median_ns is not None else ""
        by = "by nobody seen" if kind == KIND_UNSEEN else f"by {kind}"
        parts.append(f"{count} reaped {by}{after}")
    if summary.still_zombies:
        parts.append(count_of(summary.still_zombies, "still zombie"))
    if summary.running:
        parts.append(f"{summary.running} running")
    return ", ".join(parts)
