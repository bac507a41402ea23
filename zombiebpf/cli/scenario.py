# SPDX-License-Identifier: Apache-2.0
"""`zombiebpf scenario`: claims about processes, put to the test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Callable, Optional, TextIO

import click

from zombiebpf.cli.options import HELP_SETTINGS, parse_hooks
from zombiebpf.errors import Interrupted
from zombiebpf.inheritance import Inheritance
from zombiebpf.output import Output
from zombiebpf.reports import TextOptions, scenario_page, text_options
from zombiebpf.reports import scenario_json as as_json
from zombiebpf.reports.page import Page
from zombiebpf.reports.scenario_latency import write_session
from zombiebpf.reports.scenario_text import write_list, write_run, write_scenario
from zombiebpf.scenario import catalog
from zombiebpf.scenario.plan import ALL_METHODS, Planned, plan
from zombiebpf.scenario.results import Run, Session, Verdict
from zombiebpf.scenario.runner import Stage, ask, default_python
from zombiebpf.scenario.schema import START_METHODS
from zombiebpf.user import choose_user

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

_DIRECTORY = click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the scenarios lie: NAME.yaml beside NAME.py.  [default: those built in]",
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


@scenario.command(context_settings=HELP_SETTINGS, epilog=EPILOG)
@_DIRECTORY
@click.option(
    "--python",
    "pythons",
    metavar="PATH",
    multiple=True,
    help="The Python that runs the workload, 3.7 or later. May be repeated.  [default: ours]",
)
@click.option(
    "--start-method",
    "methods",
    type=click.Choice([*START_METHODS, ALL_METHODS]),
    multiple=True,
    help="Of multiprocessing. May be repeated.  [default: the first of each scenario]",
)
@click.option(
    "--set",
    "settings",
    metavar="KNOB=VALUE",
    multiple=True,
    help="Give a knob another value; expectations follow it. May be repeated.",
)
@click.option(
    "--repeat",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Run everything so many times.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What is printed on standard output.",
)
@click.option(
    "--report",
    "reports",
    metavar="FILE",
    multiple=True,
    help="Save the report too: as JSON if FILE ends in .json, as a page if in .html, else as "
    "text. May be repeated.",
)
@click.option(
    "-u", "--user", metavar="NAME", help="Run workloads as this user. Under sudo, default: you."
)
@click.option(
    "--hook",
    "hooks",
    metavar="FACT=NAME",
    multiple=True,
    help="Take FACT from another hook than the best; `zombiebpf doctor` lists them.",
)
@click.argument("names", metavar="NAME...|all", nargs=-1, required=True)
@click.pass_obj
def run(
    inherited: Inheritance,
    names: tuple[str, ...],
    directory: Optional[Path],
    pythons: tuple[str, ...],
    methods: tuple[str, ...],
    settings: tuple[str, ...],
    repeat: int,
    format_: str,
    reports: tuple[str, ...],
    user: Optional[str],
    hooks: tuple[str, ...],
) -> None:
    """Run scenarios under the observer; say of each whether its expectations held.

    Each run is followed by what was claimed, what the kernel shows and whether the two agree;
    at the end comes the reap-latency report over all of them.
    """
    whom = choose_user(user, inherited.environ)
    chosen = catalog.choose(names, directory)
    interpreters = [ask(each, whom, inherited.environ) for each in pythons or (default_python(),)]
    planned = plan(chosen, interpreters, methods, settings, repeat)
    outputs = [Output(each, sys.stderr) for each in reports]
    session = Session(planned=len(planned))
    printer = _Printer(format_, len(planned))
    try:
        with Stage(inherited, whom, parse_hooks(hooks)) as stage:
            for each in planned:
                printer.begin(each)
                result = _skipped(each) if each.skip else stage.run(each)
                if stage.interrupted:
                    session.interrupted = True
                    break
                session.runs.append(result)
                printer.end(result)
    except Interrupted:
        session.interrupted = True
    printer.clear()
    for output, name in zip(outputs, reports):
        write = _WRITERS.get(Path(name).suffix, _write_text)
        output.write_by(partial(write, session), write is _write_text)
    printer.finish(session, reports)
    sys.exit(session.exit_code)


def _skipped(planned: Planned) -> Run:
    scenario, interpreter, method, knobs, why = planned
    return Run(scenario, interpreter, method, knobs, Verdict.SKIPPED, why)


def _write_text(session: Session, out: TextIO, options: TextOptions) -> None:
    """The whole report into a file."""
    page = Page(out, options)
    for each in session.runs:
        write_run(page, each)
    write_session(page, session)


def _write_json(session: Session, out: TextIO, options: TextOptions) -> None:
    del options
    as_json.write(session, out)


# by the end of a report's name
_WRITERS: Mapping[str, Callable[[Session, TextIO, TextOptions], None]] = {
    ".json": _write_json,
    ".html": scenario_page.write,
}


class _Printer:
    """Standard output gets the report, as it comes; standard error the progress."""

    def __init__(self, format_: str, runs: int) -> None:
        self._text = format_ == "text"
        self._runs = runs
        self._number = 0
        self._begun = ""
        self._line = sys.stderr.isatty()
        self._progress("attaching")

    def begin(self, planned: Planned) -> None:
        self._number += 1
        method = f" ({planned.start_method})" if planned.start_method else ""
        python = f" Python {planned.interpreter.name}"
        number = f"[{self._number:>{len(str(self._runs))}}/{self._runs}]"
        self._begun = f"{number} {planned.scenario.name}{method}{python}"
        self._progress(self._begun)

    def end(self, result: Run) -> None:
        self.clear()
        if not self._line:
            self._say(f"{self._begun}: {result.verdict.value}\n")
        if self._text:
            with _page() as page:
                write_run(page, result)

    def finish(self, session: Session, saved: Sequence[str]) -> None:
        with _page() as page:
            if self._text:
                write_session(page, session)
                for name in saved:
                    page.line(f"the report is saved in {name}")
            else:
                as_json.write(session, sys.stdout)

    def clear(self) -> None:
        if self._line:
            self._say("\r\x1b[2K")

    def _progress(self, text: str) -> None:
        if self._line:
            self._say(f"\r\x1b[2K{text} ...")

    def _say(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


@contextmanager
def _page() -> Iterator[Page]:
    """Standard output; that nobody reads on is no failure."""
    try:
        yield Page(sys.stdout, text_options(sys.stdout, os.environ))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
