# SPDX-License-Identifier: Apache-2.0
"""The command `zombiebpf scenario`: test claims about processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Optional, TextIO

import click

from zombiebpf.cli import options
from zombiebpf.cli.console import HELP_SETTINGS, STDOUT, TerminalLine, discard
from zombiebpf.cli.values import parse_hooks
from zombiebpf.command.inherited import InheritedState
from zombiebpf.command.user import choose_user
from zombiebpf.errors import Interrupted
from zombiebpf.reports import TextOptions, text_options
from zombiebpf.reports.output.destination import Output
from zombiebpf.reports.scenario import html as as_html
from zombiebpf.reports.scenario import json as as_json
from zombiebpf.reports.scenario.latency import write_session
from zombiebpf.reports.scenario.text import write_list, write_run, write_scenario
from zombiebpf.reports.text_page import TextPage
from zombiebpf.scenario import catalog
from zombiebpf.scenario.plan import ALL_METHODS, Planned, plan
from zombiebpf.scenario.results import Run, Session, Verdict
from zombiebpf.scenario.runner import ScenarioRunner, ask
from zombiebpf.scenario.schema import START_METHODS
from zombiebpf.trace import observe

EPILOG = """\b
Examples:
  zombiebpf scenario list
  zombiebpf scenario show open-question
  sudo zombiebpf scenario run open-question
  sudo zombiebpf scenario run all --start-method all --report lives.json
  sudo zombiebpf scenario run shorter-no-join --set child=0.2 --repeat 20
  sudo zombiebpf scenario run mine --dir ./my-scenarios --python python3.13

\b
Exit codes of run:
  0    all expectations held
  1    an expectation was not met
  2    usage, or an error in a scenario's YAML
  70   nothing can be concluded of a run: records were lost, or the workload failed
  77   not enough privilege
"""

_DIRECTORY = options.option(
    "--dir",
    "directory",
    "DIR",
    "Where the scenarios lie: NAME.yaml beside NAME.py.  [default: those built in]",
    Path,
)


@click.group(context_settings=HELP_SETTINGS, epilog=EPILOG)
def scenario() -> None:
    """Run small programs and compare what the kernel shows with what was claimed."""


@scenario.command("list", context_settings=HELP_SETTINGS)
@_DIRECTORY
def list_(directory: Optional[Path]) -> None:
    """Name, start methods, what becomes of the article's claim, and title."""
    found = catalog.choose([catalog.ALL], directory)
    with _page() as page:
        write_list(page, found)


@scenario.command(context_settings=HELP_SETTINGS)
@_DIRECTORY
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def show(names: tuple[str, ...], directory: Optional[Path]) -> None:
    """Print the story, the code and the expectations."""
    with _page() as page:
        for number, each in enumerate(catalog.choose(names, directory)):
            if number:
                page.line()
            write_scenario(page, each, each.workload.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class PlanOptions:
    """Which scenarios to run, on which Pythons, and how often."""

    names: tuple[str, ...]
    directory: Optional[Path]
    pythons: tuple[str, ...]
    methods: tuple[str, ...]
    settings: tuple[str, ...]
    repeat: int


@dataclass(frozen=True)
class RunOptions:
    """How to run and report scenarios."""

    format_: str
    reports: tuple[str, ...]
    user: Optional[str]
    hooks: tuple[str, ...]


@scenario.command(context_settings=HELP_SETTINGS, epilog=EPILOG)
@_DIRECTORY
@options.repeatable("--python", "pythons", "PATH",
    "The Python that runs the workload, 3.7 or later. May be repeated.  [default: ours]"
)  # fmt: skip
@click.option("--start-method", "methods", type=click.Choice([*START_METHODS, ALL_METHODS]),
    multiple=True,
    help="Of multiprocessing. May be repeated.  [default: the first of each scenario]")  # fmt: skip
@options.repeatable("--set", "settings", "KNOB=VALUE",
    "Give a knob another value; expectations follow it. May be repeated.")  # fmt: skip
@click.option("--repeat", metavar="N", type=click.IntRange(min=1), default=1, show_default=True,
    help="Run everything so many times.")  # fmt: skip
@options.format_option(["text", "json"], "What is printed on standard output.")
@options.repeatable("--report", "reports", "FILE",
    "Save the report too: as JSON if FILE ends in .json, as a page if in .html, else as "
    "text. May be repeated.")  # fmt: skip
@options.user_option("workloads")
@options.hook_option
@click.argument("names", metavar="NAME...|all", nargs=-1, required=True)
@click.pass_obj
@options.grouped
def run(inherited: InheritedState, which: PlanOptions, how: RunOptions) -> None:
    """Run scenarios under the observer; say of each whether its expectations held.

    Each run is followed by what was claimed, what the kernel shows and whether the two agree;
    at the end comes the reap-latency report over all of them.
    """
    user = choose_user(how.user, inherited.environ)
    chosen = catalog.choose(which.names, which.directory)
    pythons = which.pythons or (sys.executable,)
    interpreters = [ask(each, user, inherited.environ) for each in pythons]
    planned = plan(chosen, interpreters, which.methods, which.settings, which.repeat)
    outputs = [Output(each, sys.stderr) for each in how.reports]
    session = Session(planned=len(planned))
    printer = _Printer(how.format_, len(planned))
    try:
        with ScenarioRunner(inherited, user, parse_hooks(how.hooks)) as runner:
            for each in planned:
                printer.begin(each)
                skipped = Run(*each[:4], Verdict.SKIPPED, each.skip)
                result = skipped if each.skip else runner.run(each)
                if runner.interrupted:
                    session.interrupted = True
                    break
                session.runs.append(result)
                printer.end(result)
    except Interrupted:
        session.interrupted = True
    printer.clear()
    for output, name in zip(outputs, how.reports):
        write = _WRITERS.get(Path(name).suffix, _write_text)
        output.write_by(partial(write, session), write is _write_text)
    printer.finish(session, how.reports)
    sys.exit(session.exit_code)


def _write_text(session: Session, out: TextIO, options: TextOptions) -> None:
    page = TextPage(out, options)
    for each in session.runs:
        write_run(page, each)
    write_session(page, session)


# by the suffix of a report's name
_WRITERS: Mapping[str, Callable[[Session, TextIO, TextOptions], None]] = {
    ".json": lambda session, out, _: as_json.write(session, out, observe),
    ".html": lambda session, out, options: as_html.write(session, out, options, observe),
}


class _Printer:
    """A printer of the report on standard output and of the progress on standard error."""

    def __init__(self, format_: str, runs: int) -> None:
        self._text = format_ == "text"
        self._runs = runs
        self._number = 0
        self._begun = ""
        self._line = TerminalLine(sys.stderr)
        self._line.show("attaching ...")

    def begin(self, planned: Planned) -> None:
        """Show which run begins."""
        self._number += 1
        method = f" ({planned.start_method})" if planned.start_method else ""
        python = f" Python {planned.interpreter.name}"
        number = f"[{self._number:>{len(str(self._runs))}}/{self._runs}]"
        self._begun = f"{number} {planned.scenario.name}{method}{python}"
        self._line.show(f"{self._begun} ...")

    def end(self, result: Run) -> None:
        """Print the result of that run."""
        self._line.clear()
        if not self._line.is_terminal:
            with suppress(OSError):
                click.echo(f"{self._begun}: {result.verdict.value}", err=True)
        if self._text:
            with _page() as page:
                write_run(page, result)

    def finish(self, session: Session, reports: Sequence[str]) -> None:
        """Print what follows the last run, and the names of the saved `reports`."""
        with _page() as page:
            if self._text:
                write_session(page, session)
                for name in reports:
                    page.line(f"the report is saved in {name}")
            else:
                as_json.write(session, sys.stdout, observe)

    def clear(self) -> None:
        """Remove the progress."""
        self._line.clear()


@contextmanager
def _page() -> Iterator[TextPage]:
    """Print a page to standard output, until nobody reads it."""
    try:
        yield TextPage(sys.stdout, text_options(sys.stdout, os.environ))
        sys.stdout.flush()
    except BrokenPipeError:
        discard(STDOUT)
