# SPDX-License-Identifier: Apache-2.0
"""Ask for findings, sites and pages of analyses that are built by hand: traces in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional, TypeVar

from zombiebpf.diagnosis.finding import Finding
from zombiebpf.diagnosis.findings import findings as all_findings
from zombiebpf.diagnosis.headline import headline as make_headline
from zombiebpf.model.analysis import Analysis, Meta
from zombiebpf.model.join import Join
from zombiebpf.model.life import LATE_NS, Life
from zombiebpf.model.observation import Observation, SiteSummary
from zombiebpf.model.stack import Frame
from zombiebpf.reports.html import write_page
from zombiebpf.trace import observe
from zombiebpf.wording.wording import UNICODE_WORDS, Wording

Value = TypeVar("Value")


@dataclass(frozen=True)
class Found:
    """A finding, with the records of its processes and joins."""

    finding: Finding
    kind: str
    severity: str
    title: str
    evidence: Sequence[str]
    fix: str
    site: Optional[Frame]
    lives: Sequence[Life]
    joins: Sequence[Join]
    incomplete: bool


def asked(analysis: Analysis, question: Callable[[Observation], Value]) -> Value:
    """Return the answer of an observation of these processes."""
    with observe(analysis) as observation:
        return question(observation)


def findings(
    analysis: Analysis, threshold_ns: int = LATE_NS, words: Wording = UNICODE_WORDS
) -> list[Found]:
    with observe(analysis) as observation:
        return [
            Found(
                each,
                each.kind,
                each.severity,
                each.title,
                each.evidence,
                each.fix,
                each.site,
                list(observation.some(each.processes)),
                list(observation.some_joins(each.joins)),
                each.incomplete,
            )
            for each in all_findings(observation, threshold_ns, words)
        ]


def headline(analysis: Analysis, found: Sequence[Found], words: Wording = UNICODE_WORDS) -> str:
    with observe(analysis) as observation:
        return make_headline(observation, [each.finding for each in found], words)


def fork_sites(lives: Sequence[Life], meta: Meta) -> Sequence[SiteSummary]:
    return asked(Analysis(meta, lives), lambda observation: observation.fork_sites())


def reap_sites(lives: Sequence[Life], meta: Meta) -> Sequence[SiteSummary]:
    return asked(Analysis(meta, lives), lambda observation: observation.reap_sites(latencies=True))


def page_of(analysis: Analysis, **options: Any) -> str:
    out = io.StringIO()
    source = options.pop("source", lambda frame: None)
    with observe(analysis) as observation:
        write_page(observation, out, source, **options)
    return out.getvalue()
