# SPDX-License-Identifier: Apache-2.0
"""All verdicts on an observation, the gravest first."""

from __future__ import annotations

from dataclasses import replace

from zombiebpf.analysis import Analysis
from zombiebpf.attribution.finding import SEVERITIES, Case, Finding
from zombiebpf.attribution.late_zombies import late_zombies
from zombiebpf.attribution.other_verdicts import lost_status, orphans, stolen_waits, wrong_process
from zombiebpf.attribution.sites import LONG_NS

_VERDICTS = (stolen_waits, lost_status, wrong_process, late_zombies, orphans)


def findings(analysis: Analysis, threshold_ns: int = LONG_NS) -> list[Finding]:
    """Pure. A zombie that waited for less than `threshold_ns` is nobody's fault.

    Where records were lost, each is marked incomplete: what is missing might contradict it.
    """
    case = Case(analysis, threshold_ns)
    found = [each for verdict in _VERDICTS for each in verdict(case)]
    if analysis.meta.lost_events:
        found = [replace(each, incomplete=True) for each in found]
    found.sort(key=lambda each: (SEVERITIES.index(each.severity), -len(each.lives)))
    return found
