# SPDX-License-Identifier: Apache-2.0
"""Sections of the text report about the program's code: joins, fork and reap sites, findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zombiebpf.diagnosis.finding import ERROR, NOTE, Finding
from zombiebpf.diagnosis.findings import findings
from zombiebpf.diagnosis.headline import headline
from zombiebpf.diagnosis.sites import describe_fork_site
from zombiebpf.model.observation import Observation, SiteSummary
from zombiebpf.reports.text_page import TextPage
from zombiebpf.wording.wording import Wording

SHOWN = 10  # sites, and groups of joins; the JSON report has all

_STYLES = {ERROR: "bold red", NOTE: ""}


def write_joins(page: TextPage, observation: Observation) -> None:
    """Write the joins, grouped by kind, line and result; the largest groups first."""
    shown, left = observation.joins_by_line(SHOWN)
    if not shown:
        return
    page.heading("Joins")
    words = page.wording
    for each in shown:
        end = "lasts on" if each.lasting else each.returned or "not known what came of it"
        kind = words.printable(each.kind or "a wait")
        phrases = [f"{kind}{words.site(each.site)}: {words.printable(end.replace('_', ' '))}"]
        if each.longest_ns is not None and each.count == 1:
            phrases.append(f"lasted {words.duration(each.longest_ns)}")
        elif each.longest_ns is not None and each.median_ns is not None:
            p50, most = words.duration(each.median_ns), words.duration(each.longest_ns)
            phrases.append(f"lasted {p50} (median), {most} at the most")
        if each.child_pid is not None:
            phrases.append(f"for {each.child_pid}")
        by = {words.actor(actor) for actor in each.by}
        if len(by) == 1:
            phrases.append(f"by {by.pop()}")
        margin = f"  {each.count:>5}  "
        page.wrapped(margin, phrases, gap=", ", hang=" " * (len(margin) + 2))
    if left:
        page.line(f"         and {left} more kinds")


def write_sites(page: TextPage, observation: Observation) -> None:
    """Write what each line of the user's code forked, and what each reaped."""
    _write_sites(page, "Fork sites", observation.fork_sites(), describe_fork_site)
    _write_sites(page, "Reap sites", observation.reap_sites(), _describe_reap_site)


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
        times = each.intervals
        if times is not None:
            p50, p99, most = map(words.duration, (times.p50_ns, times.p99_ns, times.max_ns))
            phrases.append(f"zombies for p50 {p50}, p99 {p99}, max {most}")
        page.wrapped("  ", phrases, hang="    ")
    if len(known) > SHOWN:
        page.line(f"    and {len(known) - SHOWN} more lines")


def _describe_reap_site(summary: SiteSummary, words: Wording) -> str:
    kinds = ", ".join(f"{count} by {kind}" for kind, count in summary.reaped_by.items())
    return f"{words.site(summary.site).removeprefix(' at ')} reaped {summary.children}, {kinds}"


def write_findings(page: TextPage, observation: Observation) -> None:
    """Write the findings. They come last, so that they are not overlooked on a terminal."""
    words = page.wording
    found = findings(observation, words=words)
    page.heading("Findings")
    if not found:
        page.wrapped("  ", [words.printable(headline(observation, found, words))])
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
