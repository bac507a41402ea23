# SPDX-License-Identifier: Apache-2.0
"""The parts of the report for people that lines of Python make: joins, sites, findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from zombiebpf.analysis import Analysis, Join
from zombiebpf.attribution.finding import ERROR, NOTE, Finding
from zombiebpf.attribution.findings import findings
from zombiebpf.attribution.headline import headline
from zombiebpf.attribution.sites import Line, Site, fork_sites, line_of, phrase, reap_sites
from zombiebpf.reports.page import Page
from zombiebpf.statistics import distribution

SHOWN = 10  # sites, and groups of joins; the JSON report has all

FORKS, REAPS = "Fork sites", "Reap sites"

_STYLES = {ERROR: "bold red", NOTE: ""}

_GroupKey = tuple[str, Optional[Line], str]


def write_joins(page: Page, analysis: Analysis) -> None:
    """Joins, those of one line that came to the same together."""
    groups: dict[_GroupKey, list[Join]] = {}
    for join in analysis.joins or ():
        end = "lasts on" if join.ended_ns is None else join.returned or "not known what came of it"
        key = (join.kind or "a wait", line_of(join.site), end.replace("_", " "))
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


def write_sites(page: Page, analysis: Analysis) -> None:
    """What each line of the user's forked, and what each reaped."""
    _write_sites(page, FORKS, fork_sites(analysis.lives, analysis.meta))
    _write_sites(page, REAPS, reap_sites(analysis.lives, analysis.meta))


def _write_sites(page: Page, title: str, sites: Sequence[Site]) -> None:
    known = [site for site in sites if site.where is not None]
    if not known:
        return
    page.heading(title)
    words = page.wording
    for site in known[:SHOWN]:
        forked = title == FORKS
        text = phrase(site, words.duration) if forked else _reaped(page, site)
        phrases = [words.printable(text)]
        if site.p50_ns is not None and site.p99_ns is not None and site.max_ns is not None:
            figures = (site.p50_ns, site.p99_ns, site.max_ns)
            p50, p99, most = (words.duration(each) for each in figures)
            phrases.append(f"zombies for p50 {p50}, p99 {p99}, max {most}")
        page.wrapped("  ", phrases, hang="    ")
    if len(known) > SHOWN:
        page.line(f"    and {len(known) - SHOWN} more lines")


def _reaped(page: Page, site: Site) -> str:
    kinds = ", ".join(f"{count} by {kind}" for kind, count in site.reaped_by.items())
    return f"{page.wording.site(site.where)[4:]} reaped {site.children}, {kinds}"


def write_findings(page: Page, analysis: Analysis) -> None:
    """The verdicts: the last thing, so that nobody overlooks them."""
    found = findings(analysis)
    page.heading("Findings")
    if not found:
        page.wrapped("  ", [page.wording.printable(headline(analysis, found))])
    for number, each in enumerate(found, 1):
        _write_finding(page, number, each)


def _write_finding(page: Page, number: int, each: Finding) -> None:
    words = page.wording
    margin = f"  {number}. "
    hang = " " * len(margin)
    name = f"{each.kind}{' (incomplete: records were lost)' if each.incomplete else ''}"
    title = f"{name}: {words.printable(each.title)}"
    page.wrapped(margin, [title], _STYLES.get(each.severity, "yellow"), hang=hang)
    for sentence in each.evidence:
        page.wrapped(hang + "- ", [words.printable(sentence)], hang=hang + "  ")
    page.wrapped(hang + "cure: ", [words.printable(each.cure)], hang=hang + "  ")
