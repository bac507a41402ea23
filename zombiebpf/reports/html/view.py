# SPDX-License-Identifier: Apache-2.0
"""What the template shows, in words: every text of it is printable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

from zombiebpf.analysis import Analysis, Meta
from zombiebpf.attribution.finding import NOTE, Finding
from zombiebpf.attribution.findings import findings
from zombiebpf.attribution.headline import headline
from zombiebpf.attribution.sites import (
    LONG_NS,
    Line,
    Site,
    fork_sites,
    found_dead,
    least_ns,
    reap_sites,
)
from zombiebpf.life import Life
from zombiebpf.reports.html.histograms import HEIGHT, WIDTH, chart
from zombiebpf.reports.html.payload import Payload
from zombiebpf.reports.places import where, where_in_full
from zombiebpf.reports.summary import FACTS, absences
from zombiebpf.reports.terminal import Source
from zombiebpf.reports.wording import Wording, printable
from zombiebpf.stack import Frame
from zombiebpf.statistics import distribution, reap_latencies, totals, zombie_intervals

FINDINGS_SHOWN = 50
PLACES_SHOWN = 500

WORDS = Wording()


def view(
    analysis: Analysis, payload: Payload, source: Source, about: Optional[str] = None
) -> dict[str, Any]:
    """The template's variables."""
    meta, lives = analysis.meta, analysis.lives
    found = findings(analysis)
    return {
        "version": meta.version,
        "headline": _sentence(headline(analysis, found)) if about is None else printable(about),
        "answer": None if about is None else _sentence(headline(analysis, found)),
        "bad": about is None and any(each.severity != NOTE for each in found),
        "command": " ".join(printable(each) for each in meta.command),
        "kernel": printable(meta.kernel),
        "observed": WORDS.duration(max(meta.ended_ns - meta.started_ns, 0)),
        "figures": _figures(analysis),
        "findings": [_finding(each, payload, source) for each in found[:FINDINGS_SHOWN]],
        "findings_left": max(len(found) - FINDINGS_SHOWN, 0),
        "lives": len(lives),
        "long_ns": LONG_NS,
        "long": WORDS.duration(LONG_NS),
        "shared": payload.shared,
        "charts": [
            (
                "Zombie interval",
                "From the instant it could be waited for to its reap.",
                chart(lives, zombie_intervals),
            ),
            (
                "Reap latency",
                "From the beginning of its exit to its reap.",
                chart(lives, reap_latencies),
            ),
        ],
        "chart_size": (WIDTH, HEIGHT),
        "fork_places": [
            _place(each, meta, source) for each in fork_sites(lives, meta)[:PLACES_SHOWN]
        ],
        "reap_places": [
            _place(each, meta, source) for each in reap_sites(lives, meta)[:PLACES_SHOWN]
        ],
        "hooks": _hooks(analysis),
        "clock": printable(meta.clock),
        "started_ns": meta.started_ns,
        "cut": None if meta.cut is None else printable(meta.cut),
        "lost": meta.lost_events,
        "lost_by": [(printable(cause), count) for cause, count in meta.lost_by.items() if count],
        "absences": _absences(lives),
    }


def _figures(analysis: Analysis) -> list[tuple[str, str, str]]:
    """Title, value, class."""
    lives = analysis.lives
    count = totals(lives)
    intervals = distribution(zombie_intervals(lives))
    latencies = distribution(reap_latencies(lives))
    waited = [least_ns(each, analysis.meta) or 0 for each in lives]
    longest, late = max(waited, default=0), sum(each >= LONG_NS for each in waited)
    bound = ">= " if any(map(found_dead, lives)) else ""
    lost = analysis.meta.lost_events
    return [
        ("processes", str(count.processes), ""),
        ("still zombie at the end", str(count.zombie), "bad" if count.zombie else ""),
        (f"zombie for {WORDS.duration(LONG_NS)} or more", str(late), "bad" if late else ""),
        ("longest zombie", bound + WORDS.duration(longest), "bad" if late else ""),
        ("zombie interval, median", WORDS.duration(intervals.p50_ns) if intervals else "-", ""),
        ("reap latency, median", WORDS.duration(latencies.p50_ns) if latencies else "-", ""),
        ("orphaned", str(count.orphaned), ""),
        ("lost records", str(lost), "bad" if lost else ""),
    ]


def _finding(found: Finding, payload: Payload, source: Source) -> dict[str, Any]:
    lanes = [payload.index[id(life)] for life in found.lives if id(life) in payload.index]
    return {
        "kind": printable(found.kind),
        "severity": found.severity,
        "sentence": _sentence(found.title),
        "evidence": [_sentence(each) for each in found.evidence],
        "cure": _sentence(found.cure),
        "site": _site(found.site, source) if found.site else None,
        "lane": lanes[0] if lanes else None,
        "pid": WORDS.pid(found.lives[0]) if found.lives else None,
        "incomplete": found.incomplete,
    }


def _sentence(text: str) -> str:
    """A sentence begins with a capital; a name at its beginning stays as it is."""
    safe = printable(text)
    first = safe.split(" ", 1)[0]
    return safe[:1].upper() + safe[1:] if first in ("the", "a", "no", "nothing") else safe


def _site(place: Line, source: Source) -> dict[str, Any]:
    text = source(Frame(place.function, place.file, place.line))
    return {
        "where": printable(where(place)),
        "full": printable(where_in_full(place)),
        "function": printable(place.function),
        "text": None if text is None else printable(text.strip()[:400]),
    }


def _place(place: Site, meta: Meta, source: Source) -> dict[str, Any]:
    waited = [ns for each in place.lives if (ns := least_ns(each, meta)) is not None]
    longest = max(waited, default=None)
    bound = ">= " if any(map(found_dead, place.lives)) else ""
    latencies = distribution(reap_latencies(place.lives))
    return {
        "site": _site(place.where, source) if place.where else None,
        "children": len(place.lives),
        "zombies": place.still_zombies,
        "figures": [_cell(place.p50_ns), _cell(place.p99_ns), _cell(longest, bound)],
        "latency": _cell(latencies.p50_ns if latencies else None),
        "calls": [(printable(kind), count) for kind, count in place.reaped_by.items()],
    }


def _cell(ns: Optional[int], bound: str = "") -> tuple[Union[int, str], str]:
    """What it sorts by, and in words."""
    return ("", "-") if ns is None else (ns, bound + WORDS.duration(ns))


def _hooks(analysis: Analysis) -> list[tuple[str, str, str]]:
    meta = analysis.meta
    facts = [*meta.hooks, *(fact for fact in meta.precision if fact not in meta.hooks)]
    return [
        (
            printable(fact),
            printable(meta.hooks.get(fact, "-")),
            printable(meta.precision.get(fact, "-")),
        )
        for fact in facts
    ]


def _absences(lives: Sequence[Life]) -> list[tuple[str, int]]:
    """What was not seen, why, and of how many."""
    counts: dict[str, int] = {}
    for life in lives:
        for field, reason in absences(life, WORDS):
            text = f"{FACTS.get(field, field.replace('_', ' '))}: {reason}"
            counts[text] = counts.get(text, 0) + 1
    return [(printable(text), count) for text, count in counts.items()]
