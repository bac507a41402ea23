# SPDX-License-Identifier: Apache-2.0
"""Results: of one run of a scenario, and of a session of runs."""

from __future__ import annotations

import enum
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from zombiebpf.errors import EXIT_EXPECTATION, EXIT_FAILURE, EXIT_SIGNAL
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Join
from zombiebpf.model.life import Life
from zombiebpf.scenario.bounds import Tristate
from zombiebpf.scenario.evidence import TimelineEntry
from zombiebpf.scenario.expectations import Outcome
from zombiebpf.scenario.python_versions import Version
from zombiebpf.scenario.schema import Scenario


class Verdict(enum.Enum):
    """Whether the expectations of a run held."""

    HELD = "held"
    NOT_HELD = "not held"
    INCOMPLETE = "incomplete"  # facts are missing: nothing is concluded
    FAILED = "failed"  # the workload crashed or did not end in time
    SKIPPED = "skipped"  # the scenario does not support this Python or start method


@dataclass(frozen=True)
class Interpreter:
    """A Python that workloads run under."""

    path: str
    version: Version

    @property
    def name(self) -> str:
        """Return `3.11.2`."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True)
class Run:
    """One run of a scenario."""

    scenario: Scenario
    interpreter: Interpreter
    start_method: Optional[str]
    knobs: Mapping[str, object]
    verdict: Verdict
    why: str = ""  # the reason for INCOMPLETE, FAILED or SKIPPED
    outcomes: Sequence[Outcome] = ()
    analysis: Optional[Analysis] = None
    says: str = ""  # the article's sentence, with the measured values
    answer: Sequence[str] = ()
    evidence: Sequence[TimelineEntry] = ()
    output: str = ""  # what the workload printed
    lives: Sequence[Life] = ()  # of the workload's descendants, without its main process
    logged_joins: Sequence[Join] = ()  # by the workload itself
    disagreements: Sequence[str] = ()  # between observed and logged joins
    reaps: Sequence[tuple[str, str]] = ()  # (reaper, call) of each reaped process in `lives`

    @property
    def article_verdict(self) -> str:
        """Return right, wrong or imprecise; `-` if the article makes no claim."""
        article = self.scenario.article
        return "-" if article is None else article.verdict_of(self.start_method)

    @property
    def agrees(self) -> Tristate:
        """Return whether the article's claim agrees with the kernel; None: not concluded."""
        if self.verdict is not Verdict.HELD or self.scenario.article is None:
            return None
        return self.article_verdict == "right"


@dataclass
class Session:
    """All runs of one invocation."""

    runs: list[Run] = field(default_factory=list)
    planned: int = 0
    interrupted: bool = False  # by Ctrl-C: fewer runs than planned

    @property
    def exit_code(self) -> int:
        """Return the exit status; a failed observation outweighs an expectation not met."""
        verdicts = {run.verdict for run in self.runs}
        if verdicts & {Verdict.INCOMPLETE, Verdict.FAILED}:
            return EXIT_FAILURE
        if Verdict.NOT_HELD in verdicts:
            return EXIT_EXPECTATION
        return EXIT_SIGNAL + signal.SIGINT if self.interrupted else 0

    @property
    def lives(self) -> list[Life]:
        """Return the processes of all workloads."""
        return [life for run in self.runs for life in run.lives]
