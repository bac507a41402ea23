# SPDX-License-Identifier: Apache-2.0
"""The end of a session of scenarios: the verdicts and the reap-latency report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from zombiebpf.model.life import Life
from zombiebpf.model.statistics import (
    Spread,
    bounds,
    distribution,
    histogram,
    reap_latencies,
    zombie_intervals,
)
from zombiebpf.reports.scenario.text import write_table
from zombiebpf.reports.summary import distribution_words, write_histograms, write_statistics
from zombiebpf.reports.text_page import TextPage
from zombiebpf.scenario.results import Run, Session, Verdict
from zombiebpf.scenario.sentences import WORDS
from zombiebpf.wording.wording import count_of

Label = tuple[str, str, str]  # scenario, start method or "-", Python


def write_session(page: TextPage, session: Session) -> None:
    """Write everything after the runs."""
    page = page.worded(WORDS)  # durations are written like those in the sentences of the runs
    _write_verdicts(page, session)
    lives = session.lives
    if lives:
        page.heading("Reap latency, by scenario: zombie interval (reap - zombie)")
        _write_figures(page, session, zombie_intervals)
        page.heading("Reap latency, by scenario: reap latency (reap - exit)")
        _write_figures(page, session, reap_latencies)
        page.heading("Reap latency, over all")
        intervals, latencies = (
            Spread(distribution(each), histogram(each))
            for each in (zombie_intervals(lives), reap_latencies(lives))
        )
        write_statistics(page, intervals, latencies, bounds(lives))
        write_histograms(page, intervals, latencies)
        _write_reapers(page, session)
    lost = sum(run.analysis.meta.lost_events for run in session.runs if run.analysis is not None)
    page.line()
    page.line((f"lost records: {lost}", "bold red" if lost else ""))


def by_label(runs: Sequence[Run]) -> dict[Label, list[Run]]:
    """Return the runs of each combination, in their order."""
    result: dict[Label, list[Run]] = {}
    for run in runs:
        label = (run.scenario.name, run.start_method or "-", run.interpreter.name)
        result.setdefault(label, []).append(run)
    return result


def reapers(runs: Sequence[Run]) -> list[tuple[str, str, int]]:
    """Return (reaper, call, number of processes), the most frequent first."""
    counts = Counter(each for run in runs for each in run.reaps)
    return [(who, call, count) for (who, call), count in counts.most_common()]


def _write_verdicts(page: TextPage, session: Session) -> None:
    counts = Counter(run.verdict for run in session.runs)
    page.line(("Scenarios", "bold"))
    rows = [("SCENARIO", "START", "PYTHON", "ARTICLE", "RUNS", "VERDICT")]
    for (name, method, python), runs in by_label(session.runs).items():
        verdicts = Counter(run.verdict.value for run in runs)
        texts = [f"{text} {count}" if len(verdicts) > 1 else text
                 for text, count in verdicts.items()]  # fmt: skip
        article = runs[0].article_verdict
        rows.append((name, method, python, article, str(len(runs)), ", ".join(texts)))
    write_table(page, rows)
    page.line()
    parts = [f"{each.value} {counts[each]}" for each in Verdict if counts[each]]
    count = count_of(len(session.runs), "run")
    page.line(f"{count}: {', '.join(parts)}" if parts else count)
    if session.interrupted:
        missing = count_of(session.planned - len(session.runs), "run")
        page.line((f"interrupted before {missing} of {session.planned}", "bold"))
    held = [run.article_verdict for run in session.runs if run.verdict is Verdict.HELD]
    shown = [
        f"{each} {held.count(each)}" for each in ("right", "wrong", "imprecise") if each in held
    ]
    if shown:
        page.line("the article's claims where all expectations held: ", ", ".join(shown))


def _write_figures(
    page: TextPage, session: Session, durations: Callable[[Sequence[Life]], Sequence[int]]
) -> None:
    rows = [["SCENARIO", "START", "PYTHON", "COUNT", "MIN", "P50", "P90", "P99", "MAX"]]
    for label, runs in by_label(session.runs).items():
        found = durations([life for run in runs for life in run.lives])
        if found:
            words = distribution_words(page.wording, distribution(found))
            rows.append([*label, str(len(found)), *words])
    write_table(page, rows, numbers_from=3)


def _write_reapers(page: TextPage, session: Session) -> None:
    found = reapers(session.runs)
    if not found:
        return
    page.heading("Who reaped, and by which call")
    rows = [("REAPER", "CALL", "COUNT")]
    words = page.wording
    rows += [(words.printable(who), words.printable(call), str(n)) for who, call, n in found]
    write_table(page, rows, numbers_from=2)
