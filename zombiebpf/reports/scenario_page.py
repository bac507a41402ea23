# SPDX-License-Identifier: Apache-2.0
"""All runs of a session on one HTML page: their processes one after the other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Optional, TextIO

from zombiebpf.analysis import Analysis
from zombiebpf.reports import html
from zombiebpf.reports.terminal import TextOptions
from zombiebpf.scenario.results import Session


def write(session: Session, out: TextIO, options: TextOptions) -> None:
    """The page `--format html` makes, of everything that was observed."""
    whole = together(session)
    if whole is not None:
        html.write_page(whole, out, options.source, about=about(session))


def about(session: Session) -> str:
    """What the page is of: else its findings would look like news."""
    runs = [run for run in session.runs if run.analysis is not None]
    count = len({run.scenario.name for run in runs})
    what = "1 scenario" if count == 1 else f"{count} scenarios"
    again = f" in {len(runs)} runs" if len(runs) > count else ""
    return f"{what}{again}: zombies and orphans made on purpose"


def together(session: Session) -> Optional[Analysis]:
    """One observation of them all; None if nothing was observed."""
    found = [run.analysis for run in session.runs if run.analysis is not None]
    if not found:
        return None
    lost: Counter[str] = Counter()
    for each in found:
        lost.update(each.meta.lost_by)
    names = [run.scenario.name for run in session.runs if run.analysis is not None]
    meta = replace(
        found[0].meta,
        ended_ns=max(each.meta.ended_ns for each in found),
        command=("zombiebpf", "scenario", "run", *dict.fromkeys(names)),
        lost_events=sum(each.meta.lost_events for each in found),
        lost_by=dict(lost),
    )
    lives = [life for each in found for life in each.lives]
    joins = [join for each in found for join in each.joins or ()]
    return Analysis(meta, lives, joins)
