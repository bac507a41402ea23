# SPDX-License-Identifier: Apache-2.0
"""What came of a run, and of a session of them."""

from __future__ import annotations

import enum
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from zombiebpf.analysis import Analysis, Join, Meta
from zombiebpf.errors import EXIT_EXPECTATION, EXIT_FAILURE, EXIT_SIGNAL
from zombiebpf.life import Life
from zombiebpf.scenario.bounds import Truth
from zombiebpf.scenario.evidence import Line
from zombiebpf.scenario.expectations import Outcome
from zombiebpf.scenario.pythons import Version
from zombiebpf.scenario.schema import Scenario


class Verdict(enum.Enum):
    HELD = "held"
    NOT_HELD = "not held"
    INCOMPLETE = "incomplete"  # the observation lacks something: nothing is concluded
    FAILED = "failed"  # the workload did not do what it was to do
    SKIPPED = "skipped"  # the scenario is not for this Python or start method


@dataclass(frozen=True)
class Interpreter:
    """A Python that workloads run under."""

    path: str
    version: Version

    @property
    def name(self) -> str:
        """`3.11.2`."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True)
class Run:
    """A scenario, run once."""

    scenario: Scenario
    interpreter: Interpreter
    start_method: Optional[str]
    knobs: Mapping[str, object]
    verdict: Verdict
    why: str = ""  # it is incomplete, failed or skipped
    outcomes: Sequence[Outcome] = ()
    analysis: Optional[Analysis] = None
    says: str = ""  # the article's sentence, with the measured values
    answer: Sequence[str] = ()
    evidence: Sequence[Line] = ()
    output: str = ""  # what the workload printed
    lives: Sequence[Life] = ()  # of the workload's descendants, without its main process
    marked: Sequence[Join] = ()  # joins, as the workload told of them
    disagreements: Sequence[str] = ()  # of the joins that were seen with these
    reaps: Sequence[tuple[str, str]] = ()  # who reaped each of these, and by which call

    @property
    def article_verdict(self) -> str:
        """right, wrong, imprecise, or - where the article says nothing."""
        article = self.scenario.article
        return "-" if article is None else article.verdict_of(self.start_method)

    @property
    def agrees(self) -> Truth:
        """Whether the article's claim agrees with the kernel; None if this run does not tell."""
        if self.verdict is not Verdict.HELD or self.scenario.article is None:
            return None
        return self.article_verdict == "right"


@dataclass
class Session:
    """All runs, and how they were observed."""

    runs: list[Run] = field(default_factory=list)
    planned: int = 0
    interrupted: bool = False  # by Ctrl-C: fewer runs than planned

    @property
    def exit_code(self) -> int:
        """A failed observation outweighs an expectation that was not met."""
        verdicts = {run.verdict for run in self.runs}
        if verdicts & {Verdict.INCOMPLETE, Verdict.FAILED}:
            return EXIT_FAILURE
        if Verdict.NOT_HELD in verdicts:
            return EXIT_EXPECTATION
        return EXIT_SIGNAL + signal.SIGINT if self.interrupted else 0

    @property
    def lives(self) -> list[Life]:
        """Of all runs' workloads, for statistics over all."""
        return [life for run in self.runs for life in run.lives]

    @property
    def meta(self) -> Optional[Meta]:
        return next((run.analysis.meta for run in self.runs if run.analysis is not None), None)
