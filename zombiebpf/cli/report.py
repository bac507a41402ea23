# SPDX-License-Identifier: Apache-2.0
"""The command `zombiebpf report`: write any report from a saved trace."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Optional

import click

from zombiebpf.cli import options
from zombiebpf.cli.console import HELP_SETTINGS, STDOUT, discard, say
from zombiebpf.cli.progress import progress_bar
from zombiebpf.cli.values import duration_ns, parsed, site, when
from zombiebpf.errors import UsageError
from zombiebpf.model.life import State
from zombiebpf.reports import FORMATS
from zombiebpf.reports.output.destination import Output
from zombiebpf.trace import Filters, Trace, open_traces, parts_beside
from zombiebpf.trace.decode import DamagedTraceError

EPILOG = """\b
Examples:
  sudo zombiebpf run -o night.db -- ./app        # writes a trace
  zombiebpf report night.db
  zombiebpf report night*.db --since 02:00 --until 03:30 --format json
  zombiebpf report night.db --state zombie --min-zombie 1m
  zombiebpf report night.db --site app.py:42 --format csv --report lives.csv

\b
TIME is 02:00 (the first one in the trace), 02:00:30, 2026-05-01 02:00 (local, or with
Z or an offset), 10m or +10m after the trace's start, or -10m before its end.
DURATION is 100ms, 1.5s, 10m, 2h or 7d; a bare number is seconds.

\b
Filters of different kinds must all hold, of one kind any: --pid 7 --pid 8.

Exits with 0, also when no process is left; 2 if TRACE cannot be read: no trace, damaged,
newer, or not there; 70 if the report cannot be written.
"""


@click.command(epilog=EPILOG, context_settings=HELP_SETTINGS)
@options.format_option(FORMATS)
@options.tree_option
@options.option(
    "--html", "html", "FILE", "The same as --format html --report FILE: a page for a browser."
)
@options.report_option()
@click.option("--pid", "pids", metavar="PID", type=click.IntRange(min=0), multiple=True,
    help="Only processes of this PID, as the observer saw it.")  # fmt: skip
@options.repeatable("--comm", "comms", "NAME",
    "Only processes of this name; *, ? and [...] as in the shell.")  # fmt: skip
@options.option("--since", "since", "TIME", "Only what had not been reaped by then.", when)
@options.option("--until", "until", "TIME", "Only what had been forked by then.", when)
@options.option("--min-zombie", "min_zombie_ns", "DURATION",
    "Only what was a zombie for that long, or is by the trace's end.",
    duration_ns)  # fmt: skip
@options.repeatable("--site", "sites", "FILE[:LINE]",
    "Only what this line of Python forked or reaped, or kept waiting.",
    site)  # fmt: skip
@click.option("--state", "states", type=click.Choice([each.value for each in State]),
    callback=parsed(State), multiple=True,
    help="Only what is in this state at the trace's end.")  # fmt: skip
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True)
@options.grouped
def report(
    traces: tuple[str, ...], html: Optional[str], report: options.ReportOptions, filters: Filters
) -> None:
    """Report from a trace that `-o FILE` has saved. Needs neither root nor bcc.

    Several traces are taken together: the parts that --rotate has made, or
    observations of one boot.
    """
    format_, target = report.format, report.report_file
    if html is not None:
        if target is not None or format_ not in ("text", "html"):
            raise UsageError("--html stands for --format html --report FILE", "give one of them")
        format_, target = "html", html
    paths = list(dict.fromkeys(_expanded(traces)))
    output = Output(target, sys.stdout)
    with open_traces(paths) as trace:
        filters.window(trace.meta)  # raises before any output if --since and --until are invalid
        _suggest_other_parts(paths, trace)
        try:
            _write(trace, filters, format_, output)
        except BrokenPipeError:
            discard(STDOUT)  # nobody wants the rest


def _expanded(traces: Sequence[str]) -> Iterator[str]:
    """Yield the names, with those expanded that are patterns which the shell did not expand."""
    for name in traces:
        found = [] if os.path.lexists(name) or "\0" in name else sorted(glob.glob(name))
        yield from found or [name]


def _suggest_other_parts(paths: Sequence[str], trace: Trace) -> None:
    if len(paths) == 1 and trace.first_part > 1:
        others = parts_beside(paths[0])
        if others:
            stem, extension = os.path.splitext(paths[0])
            say(f"{paths[0]} is part {trace.first_part}; for all of them: {stem}*{extension}")


def _write(trace: Trace, filters: Filters, format_: str, output: Output) -> None:
    with (
        progress_bar(output, format_) as bar,
        trace.observation(filters, bar.advance) as observation,
    ):
        try:
            output.write(observation, format_, bar.stop)
        except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
            raise DamagedTraceError(f"no report can be made of what is in it: {error}") from None
        kept = observation.count
    if not kept:
        total = trace.count
        if total and filters:
            say(f"no process of the trace's {total} passes the filters")
        else:
            say("there is no process in the trace")
