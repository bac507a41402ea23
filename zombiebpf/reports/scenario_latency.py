# SPDX-License-Identifier: Apache-2.0
"""The end of a session of scenarios: their verdicts, and the reap-latency report over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zombiebpf.reports.page import Page
from zombiebpf.reports.scenario_text import write_table
from zombiebpf.reports.summary import write_histograms, write_statistics
from zombiebpf.scenario.results import Run, Session, Verdict
from zombiebpf.statistics import distribution, reap_latencies, zombie_intervals

Label = tuple[str, str, str]  # scenario, start method, Python


def write_session(page: Page, session: Session) -> None:
    """What stands after the runs themselves."""
    _write_verdicts(page, session)
    lives = session.lives
    if lives:
        page.heading("Reap latency, by scenario: zombie interval (reap - zombie)")
        _write_figures(page, session, zombie=True)
        page.heading("Reap latency, by scenario: reap latency (reap - exit)")
        _write_figures(page, session, zombie=False)
        page.heading("Reap latency, over all")
        intervals, latencies = zombie_intervals(lives), reap_latencies(lives)
        write_statistics(page, lives, intervals, latencies)
        write_histograms(page, intervals, latencies)
        _write_reapers(page, session)
    _write_observation(page, session)


def by_label(runs: Sequence[Run]) -> dict[Label, list[Run]]:
    """Repetitions together, in the order of the runs."""
    result: dict[Label, list[Run]] = {}
    for run in runs:
        label = (run.scenario.name, run.start_method or "-", run.interpreter.name)
        result.setdefault(label, []).append(run)
    return result


def reapers(runs: Sequence[Run]) -> list[tuple[str, str, int]]:
    """(who, by which call, how many), the most first."""
    counts = Counter(each for run in runs for each in run.reaps)
    return [(who, call, count) for (who, call), count in counts.most_common()]


def _write_verdicts(page: Page, session: Session) -> None:
    counts = Counter(run.verdict for run in session.runs)
    page.line(("Scenarios", "bold"))
    rows = [("SCENARIO", "START", "PYTHON", "ARTICLE", "RUNS", "VERDICT")]
    for (name, method, python), runs in by_label(session.runs).items():
        verdicts = Counter(run.verdict.value for run in runs)
        words = [f"{text} {count}" if len(verdicts) > 1 else text
                 for text, count in verdicts.items()]  # fmt: skip
        article = runs[0].article_verdict
        rows.append((name, method, python, article, str(len(runs)), ", ".join(words)))
    write_table(page, rows)
    page.line()
    parts = [f"{each.value} {counts[each]}" for each in Verdict if counts[each]]
    count = _runs(len(session.runs))
    page.line(f"{count}: {', '.join(parts)}" if parts else count)
    if session.interrupted:
        missing = _runs(session.planned - len(session.runs))
        page.line((f"interrupted before {missing} of {session.planned}", "bold"))
    held = [run.article_verdict for run in session.runs if run.verdict is Verdict.HELD]
    shown = [
        f"{each} {held.count(each)}" for each in ("right", "wrong", "imprecise") if each in held
    ]
    if shown:
        page.line("the article's claims where all expectations held: ", ", ".join(shown))


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _write_figures(page: Page, session: Session, zombie: bool) -> None:
    words = page.wording
    rows = [("SCENARIO", "START", "PYTHON", "COUNT", "MIN", "P50", "P90", "P99", "MAX")]
    for (name, method, python), runs in by_label(session.runs).items():
        lives = [life for run in runs for life in run.lives]
        found = distribution(zombie_intervals(lives) if zombie else reap_latencies(lives))
        if found is None:
            continue
        times = (found.min_ns, found.p50_ns, found.p90_ns, found.p99_ns, found.max_ns)
        figures = [words.duration(each) for each in times]
        rows.append((name, method, python, str(found.count), *figures))  # type: ignore[arg-type]
    write_table(page, rows, numbers_from=3)


def _write_reapers(page: Page, session: Session) -> None:
    found = reapers(session.runs)
    if not found:
        return
    page.heading("Who reaped, and by which call")
    rows = [("REAPER", "CALL", "COUNT")]
    words = page.wording
    rows += [(words.printable(who), words.printable(call), str(n)) for who, call, n in found]
    write_table(page, rows, numbers_from=2)


def _write_observation(page: Page, session: Session) -> None:
    lost = sum(run.analysis.meta.lost_events for run in session.runs if run.analysis is not None)
    page.line()
    page.line((f"lost records: {lost}", "bold red" if lost else ""))
