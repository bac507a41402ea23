# SPDX-License-Identifier: Apache-2.0
"""Sections of the text report about the program's code: joins, fork and reap sites, findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Optional

from zombiebpf.diagnosis.finding import ERROR, NOTE, Finding
from zombiebpf.diagnosis.findings import findings
from zombiebpf.diagnosis.headline import headline
from zombiebpf.diagnosis.sites import SiteSummary, describe_fork_site, fork_sites, reap_sites
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Join
from zombiebpf.model.stack import Frame
from zombiebpf.model.statistics import distribution
from zombiebpf.reports.text_page import TextPage
from zombiebpf.wording.wording import Wording

SHOWN = 10  # sites, and groups of joins; the JSON report has all

_STYLES = {ERROR: "bold red", NOTE: ""}


def write_joins(page: TextPage, analysis: Analysis) -> None:
    """Write the joins, grouped by kind, line and result; the largest groups first."""
    groups: dict[tuple[str, Optional[Frame], str], list[Join]] = {}
    for join in analysis.joins or ():
        end = "lasts on" if join.ended_ns is None else join.returned or "not known what came of it"
        key = (join.kind or "a wait", join.site, end.replace("_", " "))
        groups.setdefault(key, []).append(join)
    if not groups:
        return
    page.heading("Joins")
    words = page.wording
    shown = sorted(groups.items(), key=lambda item: -len(item[1]))[:SHOWN]
    for (kind, where, end), joins in shown:
        phrases = [f"{words.printable(kind)}{words.site(where)}: {words.printable(end)}"]
        lasted = distribution(
            join.ended_ns - join.began_ns
            for join in joins
            if join.ended_ns is not None and join.began_ns is not None
        )
        if lasted is not None and len(joins) == 1:
            phrases.append(f"lasted {words.duration(lasted.max_ns)}")
        elif lasted is not None:
            p50, most = words.duration(lasted.p50_ns), words.duration(lasted.max_ns)
            phrases.append(f"lasted {p50} (median), {most} at the most")
        if len(joins) == 1 and joins[0].child_pid is not None:
            phrases.append(f"for {joins[0].child_pid}")
        by = {words.actor(join.by) for join in joins if join.by is not None}
        if len(by) == 1:
            phrases.append(f"by {by.pop()}")
        margin = f"  {len(joins):>5}  "
        page.wrapped(margin, phrases, gap=", ", hang=" " * (len(margin) + 2))
    if len(groups) > len(shown):
        page.line(f"         and {len(groups) - len(shown)} more kinds")


def write_sites(page: TextPage, analysis: Analysis) -> None:
    """Write what each line of the user's code forked, and what each reaped."""
    forks = fork_sites(analysis.lives, analysis.meta)
    _write_sites(page, "Fork sites", forks, describe_fork_site)
    reaps = reap_sites(analysis.lives, analysis.meta)
    _write_sites(page, "Reap sites", reaps, _describe_reap_site)


def _write_sites(
    page: TextPage,
    title: str,
    summaries: Sequence[SiteSummary],
    describe: Callable[[SiteSummary, Wording], str],
) -> None:
    known = [each for each in summaries if each.site is not None]
    if not known:
        return
    page.heading(title)
    words = page.wording
    for each in known[:SHOWN]:
        phrases = [words.printable(describe(each, words))]
        if each.p50_ns is not None and each.p99_ns is not None and each.max_ns is not None:
            figures = (each.p50_ns, each.p99_ns, each.max_ns)
            p50, p99, most = (words.duration(ns) for ns in figures)
            phrases.append(f"zombies for p50 {p50}, p99 {p99}, max {most}")
        page.wrapped("  ", phrases, hang="    ")
    if len(known) > SHOWN:
        page.line(f"    and {len(known) - SHOWN} more lines")


def _describe_reap_site(summary: SiteSummary, words: Wording) -> str:
    kinds = ", ".join(f"{count} by {kind}" for kind, count in summary.reaped_by.items())
    return f"{words.site(summary.site).removeprefix(' at ')} reaped {summary.children}, {kinds}"


def write_findings(page: TextPage, analysis: Analysis) -> None:
    """Write the findings. They come last, so that they are not overlooked on a terminal."""
    words = page.wording
    found = findings(analysis, words=words)
    page.heading("Findings")
    if not found:
        page.wrapped("  ", [words.printable(headline(analysis, found, words))])
    for number, each in enumerate(found, 1):
        _write_finding(page, number, each)


def _write_finding(page: TextPage, number: int, each: Finding) -> None:
    words = page.wording
    margin = f"  {number}. "
    hang = " " * len(margin)
    name = f"{each.kind}{' (incomplete: records were lost)' if each.incomplete else ''}"
    title = f"{name}: {words.printable(each.title)}"
    page.wrapped(margin, [title], _STYLES.get(each.severity, "yellow"), hang=hang)
    for sentence in each.evidence:
        page.wrapped(hang + "- ", [words.printable(sentence)], hang=hang + "  ")
    page.wrapped(hang + "fix: ", [words.printable(each.fix)], hang=hang + "  ")
