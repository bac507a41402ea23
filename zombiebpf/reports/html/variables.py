# SPDX-License-Identifier: Apache-2.0
"""The variables of the page's template: facts in words. Every text is printable."""

from __future__ import annotations

from collections import Counter
from typing import Any, Optional, Union

from zombiebpf.diagnosis.finding import NOTE, Finding
from zombiebpf.diagnosis.findings import findings
from zombiebpf.diagnosis.headline import headline
from zombiebpf.model.life import LATE_NS
from zombiebpf.model.observation import Observation, SiteSummary
from zombiebpf.model.stack import Frame
from zombiebpf.reports.html.histograms import HEIGHT, WIDTH, chart
from zombiebpf.reports.html.page_data import PageData
from zombiebpf.reports.summary import absences, fact_name, hook_rows
from zombiebpf.reports.terminal import SourceReader
from zombiebpf.wording.text import printable
from zombiebpf.wording.wording import UNICODE_WORDS as WORDS
from zombiebpf.wording.wording import full_line_name, line_name

FINDINGS_SHOWN = 50
SITES_SHOWN = 500


def template_variables(
    observation: Observation, page_data: PageData, source: SourceReader, about: Optional[str] = None
) -> dict[str, Any]:
    """Return the variables of page.html.j2; `about` is a title to use instead of the answer."""
    meta = observation.meta
    found = findings(observation, words=WORDS)
    answer = _sentence(headline(observation, found, WORDS))
    return {
        "version": meta.version,
        "headline": answer if about is None else printable(about),
        "answer": None if about is None else answer,
        "bad": about is None and any(each.severity != NOTE for each in found),
        "command": " ".join(printable(each) for each in meta.command),
        "kernel": printable(meta.kernel),
        "observed": WORDS.duration(max(meta.ended_ns - meta.started_ns, 0)),
        "figures": _figures(observation),
        "findings": [
            _finding(each, observation, page_data, source) for each in found[:FINDINGS_SHOWN]
        ],
        "findings_left": max(len(found) - FINDINGS_SHOWN, 0),
        "lives": observation.count,
        "long_ns": LATE_NS,
        "long": WORDS.duration(LATE_NS),
        "shared": page_data.shared,
        "charts": [
            (
                "Zombie interval",
                "From the instant it could be waited for to its reap.",
                chart(observation.zombie_intervals()),
            ),
            (
                "Reap latency",
                "From the beginning of its exit to its reap.",
                chart(observation.reap_latencies()),
            ),
        ],
        "chart_size": (WIDTH, HEIGHT),
        "fork_sites": [_summary(each, source) for each in observation.fork_sites()[:SITES_SHOWN]],
        "reap_sites": [
            _summary(each, source) for each in observation.reap_sites(latencies=True)[:SITES_SHOWN]
        ],
        "hooks": hook_rows(meta, WORDS),
        "clock": printable(meta.clock),
        "started_ns": meta.started_ns,
        "cut": None if meta.cut is None else printable(meta.cut),
        "lost": meta.lost_events,
        "lost_by": [(printable(cause), count) for cause, count in meta.lost_by.items() if count],
        "absences": _absences(observation),
    }


def _figures(observation: Observation) -> list[tuple[str, str, str]]:
    """Return title, value and CSS class of each figure."""
    count = observation.totals()
    intervals = observation.zombie_intervals().whole.distribution
    latencies = observation.reap_latencies().whole.distribution
    longest, late = count.longest_zombie_ns or 0, count.late
    bound = ">= " if count.already_zombies else ""
    lost = observation.meta.lost_events
    return [
        ("processes", str(count.processes), ""),
        ("still zombie at the end", str(count.zombie), "bad" if count.zombie else ""),
        (f"zombie for {WORDS.duration(LATE_NS)} or more", str(late), "bad" if late else ""),
        ("longest zombie", bound + WORDS.duration(longest), "bad" if late else ""),
        ("zombie interval, median", WORDS.duration(intervals.p50_ns) if intervals else "-", ""),
        ("reap latency, median", WORDS.duration(latencies.p50_ns) if latencies else "-", ""),
        ("orphaned", str(count.orphaned), ""),
        ("lost records", str(lost), "bad" if lost else ""),
    ]


def _finding(
    found: Finding, observation: Observation, page_data: PageData, source: SourceReader
) -> dict[str, Any]:
    first = found.processes[0] if found.processes else None
    shown = next((each for each in found.processes if each in page_data.lane_of), first)
    return {
        "kind": printable(found.kind),
        "severity": found.severity,
        "sentence": _sentence(found.title),
        "evidence": [_sentence(each) for each in found.evidence],
        "fix": _sentence(found.fix),
        "site": _site(found.site, source) if found.site else None,
        "lane": None if shown is None else page_data.lane_of.get(shown),
        "pid": None if shown is None else WORDS.pid(observation.life(shown)),
        "incomplete": found.incomplete,
    }


def _sentence(text: str) -> str:
    """Return `text` with a capital, unless it begins with a name."""
    safe = printable(text)
    first = safe.split(" ", 1)[0]
    return safe[:1].upper() + safe[1:] if first in ("the", "a", "no", "nothing") else safe


def _site(frame: Frame, source: SourceReader) -> dict[str, Any]:
    text = source(frame)
    return {
        "where": printable(line_name(frame)),
        "full": printable(full_line_name(frame)),
        "function": printable(frame.function),
        "text": None if text is None else printable(text.strip()[:400]),
    }


def _summary(summary: SiteSummary, source: SourceReader) -> dict[str, Any]:
    bound = ">= " if summary.already_zombies else ""
    times = summary.intervals
    p50, p99 = (times.p50_ns, times.p99_ns) if times is not None else (None, None)
    return {
        "site": _site(summary.site, source) if summary.site else None,
        "children": summary.children,
        "zombies": summary.still_zombies,
        "figures": [_cell(p50), _cell(p99), _cell(summary.longest_ns, bound)],
        "latency": _cell(summary.latency_p50_ns),
        "calls": [(printable(kind), count) for kind, count in summary.reaped_by.items()],
    }


def _cell(ns: Optional[int], bound: str = "") -> tuple[Union[int, str], str]:
    """Return the sort key of a duration, and its words."""
    return ("", "-") if ns is None else (ns, bound + WORDS.duration(ns))


def _absences(observation: Observation) -> list[tuple[str, int]]:
    """Return each kind of unknown fact with its reason, and the number of processes."""
    counts: Counter[str] = Counter()
    for life, count in observation.absences():
        for field, reason in absences(life, WORDS):
            counts[printable(f"{fact_name(field)}: {reason}")] += count
    return list(counts.items())
