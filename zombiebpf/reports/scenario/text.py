# SPDX-License-Identifier: Apache-2.0
"""The text report of scenarios: the claim, what the kernel shows, whether they agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len

from zombiebpf.reports.text_page import TextPage, left, right
from zombiebpf.scenario.evidence import relative
from zombiebpf.scenario.expectations import Outcome
from zombiebpf.scenario.results import Run, Verdict
from zombiebpf.scenario.schema import Scenario
from zombiebpf.scenario.sentences import plain

LABEL = 10  # columns of a label and the space after it

_STYLES = {
    Verdict.HELD: "bold green",
    Verdict.NOT_HELD: "bold red",
    Verdict.INCOMPLETE: "bold yellow",
    Verdict.FAILED: "bold yellow",
    Verdict.SKIPPED: "dim",
}
_AGREEMENT = {
    "right": "yes: the article is right",
    "wrong": "no: the article is wrong",
    "imprecise": "in part: the article is imprecise",
}


def write_run(page: TextPage, run: Run) -> None:
    """Write a run: the article's claim, what the kernel shows, whether they agree, the outcomes."""
    scenario = run.scenario
    page.line((f"{scenario.name}: {page.wording.printable(scenario.title)}", "bold"))
    _labelled(page, "run", ", ".join(conditions(run)))
    if run.verdict is Verdict.SKIPPED:
        _labelled(page, "skipped", run.why, "dim")
        page.line()
        return
    if scenario.article is not None:
        article = scenario.article
        said = f"{article.claim_en} ({article.where}: {article.claim})"
        _labelled(page, "article", page.wording.printable(said))
    if run.verdict in (Verdict.HELD, Verdict.NOT_HELD) and run.says:
        _labelled(page, "kernel", page.wording.printable(run.says))
    _write_verdict(page, run)
    for outcome in run.outcomes:
        _write_outcome(page, outcome)
    _write_evidence(page, run)
    if run.verdict is Verdict.FAILED and run.output.strip():
        _labelled(page, "it printed", "")
        for line in run.output.rstrip().splitlines()[-20:]:
            page.line(f"    {page.wording.printable(line)}")
    page.line()


def conditions(run: Run) -> Iterator[str]:
    """Return `Python 3.11.2`, `fork`, `child 0.4`..."""
    yield f"Python {run.interpreter.name}"
    for name, value in sorted(run.knobs.items(), key=lambda item: item[0] != "start_method"):
        if name == "start_method":
            if value is not None:
                yield str(value)
        else:
            yield f"{name} {plain(value) if isinstance(value, float) else value}"


def write_scenario(page: TextPage, scenario: Scenario, source: str) -> None:
    """Write the story, the source of the workload and the expectations."""
    words = page.wording
    page.line((f"{scenario.name}: {words.printable(scenario.title)}", "bold"))
    page.wrapped("  ", [words.printable(scenario.teaches)])
    if scenario.article is not None:
        article = scenario.article
        page.line()
        _labelled(page, "article", words.printable(f"{article.where}: {article.claim}"))
        _labelled(page, "", words.printable(article.claim_en))
        _labelled(page, "verdict", f"{article.verdict}, when all of the below holds")
        _labelled(page, "because", words.printable(article.says))
    page.line()
    knobs = ", ".join(f"{name} {value}" for name, value in scenario.knobs.items())
    _labelled(page, "knobs", knobs or "none")
    methods = ", ".join(scenario.start_methods)
    _labelled(page, "methods", f"{methods} (the first is the default)" if methods else "-")
    _labelled(page, "pythons", scenario.python_versions.text)
    _labelled(page, "orphans", "go to the keeper" if scenario.adopter != "init" else "go to init")
    page.heading(words.printable(str(scenario.workload.name)))
    for line in source.splitlines():
        page.line(f"  {words.printable(line.expandtabs())}".rstrip())
    page.heading("Expected of the kernel")
    for each in scenario.expect:
        page.wrapped("  - ", [words.printable(each.words(scenario.knobs))], hang="    ")


def write_list(page: TextPage, scenarios: Sequence[Scenario]) -> None:
    """Write name, start methods, the verdict on the article's claim, and title of each."""
    rows = [("NAME", "START METHODS", "ARTICLE", "TITLE")]
    for each in scenarios:
        methods = " ".join(each.start_methods) or "-"
        title = page.wording.printable(each.title)
        rows.append((each.name, methods, each.article_verdict, title))
    write_table(page, rows)


def write_table(page: TextPage, rows: Sequence[Sequence[str]], numbers_from: int = 99) -> None:
    """Write a table; its first row is the head. Right-align the columns from `numbers_from` on."""
    widths = [max(map(cell_len, column)) for column in zip(*rows)]
    for number, row in enumerate(rows):
        cells = [
            right(cell, width) if column >= numbers_from else left(cell, width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        page.line(("  " + "  ".join(cells), "" if number else "bold"))


def _labelled(page: TextPage, label: str, text: str, style: str = "") -> None:
    page.wrapped(f"  {left(label, LABEL)}", [text], style, hang=" " * (LABEL + 2))


def _write_verdict(page: TextPage, run: Run) -> None:
    label = "verdict"
    if run.verdict is Verdict.HELD and run.scenario.article is not None:
        label, text = "agree", _AGREEMENT[run.article_verdict]
    elif run.verdict is Verdict.HELD:
        text = "all expectations held"
    elif run.verdict is Verdict.NOT_HELD:
        broken = sum(each.held is False for each in run.outcomes)
        text = f"NOT HELD: {broken} of {len(run.outcomes)} expectations were not met"
    elif run.verdict is Verdict.INCOMPLETE:
        text = f"none: the observation is incomplete: {run.why}"
    else:
        text = f"none: {run.why}"
    _labelled(page, label, text, _STYLES[run.verdict])


def _write_outcome(page: TextPage, outcome: Outcome) -> None:
    mark, style = {
        True: ("held", "green"),
        False: ("NOT MET", "bold red"),
        None: ("unknown", "yellow"),
    }[outcome.held]
    words = page.wording
    texts = [f"{words.printable(outcome.expected)}:", words.printable(outcome.shown)]
    hang = " " * (LABEL + 2)
    page.wrapped(f"  {left(mark, LABEL)}", texts, "" if outcome.held else style, " ", hang)
    if outcome.held is False:
        page.line((f"{hang}{words.printable(outcome.where)}", "dim"))


def _write_evidence(page: TextPage, run: Run) -> None:
    if run.evidence:
        _labelled(page, "evidence", "ms since the first line; as the kernel and the program told")
        lines = list(relative(run.evidence))
        wide = max(len(ms) for ms, _, _ in lines)
        name = max(cell_len(who) for _, who, _ in lines)
        for ms, who, what in lines:
            margin = f"    {right(ms, wide)}  {left(page.wording.printable(who), name)}  "
            page.wrapped(margin, [page.wording.printable(what)], hang=" " * len(margin))
    for number, sentence in enumerate(run.answer):
        label = "" if number else "answer"
        _labelled(page, label, page.wording.printable(sentence), "bold")
