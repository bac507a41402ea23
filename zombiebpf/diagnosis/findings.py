# SPDX-License-Identifier: Apache-2.0
"""Find all problems in an observation."""

from __future__ import annotations

from dataclasses import replace

from zombiebpf.diagnosis.finding import SEVERITIES, DiagnosisContext, Finding
from zombiebpf.diagnosis.waits import lost_status, orphans, stolen_waits, wrong_process
from zombiebpf.diagnosis.zombies import late_zombies
from zombiebpf.model.life import LATE_NS
from zombiebpf.model.observation import Observation
from zombiebpf.wording.wording import UNICODE_WORDS, Wording

_CHECKS = (stolen_waits, lost_status, wrong_process, late_zombies, orphans)


def findings(
    observation: Observation, threshold_ns: int = LATE_NS, words: Wording = UNICODE_WORDS
) -> list[Finding]:
    """Return the findings on an observation, the most severe first.

    A zombie that was reaped within `threshold_ns` is not a problem. If records were lost,
    each finding is marked incomplete: a lost record might contradict it.
    """
    context = DiagnosisContext(observation, threshold_ns, words)
    found = [each for check in _CHECKS for each in check(context)]
    if observation.meta.lost_events:
        found = [replace(each, incomplete=True) for each in found]
    found.sort(key=lambda each: (SEVERITIES.index(each.severity), -len(each.processes)))
    return found
