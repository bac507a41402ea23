# SPDX-License-Identifier: Apache-2.0
"""All runs of a session on one HTML page, one after the other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Optional, TextIO

from zombiebpf.model.analysis import Analysis
from zombiebpf.model.observation import Observe
from zombiebpf.reports import html
from zombiebpf.reports.terminal import TextOptions
from zombiebpf.scenario.results import Session
from zombiebpf.wording.wording import count_of


def write(session: Session, out: TextIO, options: TextOptions, observe: Observe) -> None:
    """Write the page, unless nothing was observed."""
    whole = together(session)
    if whole is not None:
        with observe(whole) as observation:
            html.write_page(observation, out, options.source, about=about(session))


def about(session: Session) -> str:
    """Return the title: it says that the zombies are intended, unlike those of other pages."""
    runs = [run for run in session.runs if run.analysis is not None]
    count = len({run.scenario.name for run in runs})
    again = f" in {len(runs)} runs" if len(runs) > count else ""
    return f"{count_of(count, 'scenario')}{again}: zombies and orphans made on purpose"


def together(session: Session) -> Optional[Analysis]:
    """Return one analysis of all runs; None if nothing was observed."""
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
