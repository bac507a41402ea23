# SPDX-License-Identifier: Apache-2.0
"""`zombiebpf report`: any report from a saved trace."""

from __future__ import annotations

import functools
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Optional, TextIO

import click

from zombiebpf.analysis import Analysis
from zombiebpf.cli.options import (
    HELP_SETTINGS,
    as_tree,
    duration_ns,
    format_option,
    parsed,
    tree_option,
)
from zombiebpf.cli.times import site, when
from zombiebpf.errors import UsageError
from zombiebpf.life import State
from zombiebpf.output import Output
from zombiebpf.reports import TextOptions, jsonl
from zombiebpf.trace import Filters, Trace, When, open_traces, parts_beside
from zombiebpf.trace.values import Damaged

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
@format_option
@tree_option
@click.option(
    "--html", metavar="FILE", help="The same as --format html --report FILE: a page for a browser."
)
@click.option("--report", metavar="FILE", help="Write the report to FILE.  [default: stdout]")
@click.option(
    "--pid",
    "pids",
    metavar="PID",
    type=click.IntRange(min=0),
    multiple=True,
    help="Only processes of this PID, as the observer saw it.",
)
@click.option(
    "--comm",
    "comms",
    metavar="NAME",
    multiple=True,
    help="Only processes of this name; *, ? and [...] as in the shell.",
)
@click.option(
    "--since",
    metavar="TIME",
    callback=parsed(when),
    help="Only what had not been reaped by then.",
)
@click.option(
    "--until",
    metavar="TIME",
    callback=parsed(when),
    help="Only what had been forked by then.",
)
@click.option(
    "--min-zombie",
    metavar="DURATION",
    callback=parsed(duration_ns),
    help="Only what was a zombie for that long, or is by the trace's end.",
)
@click.option(
    "--site",
    "sites",
    metavar="FILE[:LINE]",
    callback=parsed(site),
    multiple=True,
    help="Only what this line of Python forked or reaped, or kept waiting.",
)
@click.option(
    "--state",
    "states",
    type=click.Choice([each.value for each in State]),
    multiple=True,
    help="Only what is in this state at the trace's end.",
)
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True)
def report(
    traces: tuple[str, ...],
    format_: str,
    tree: bool,
    html: Optional[str],
    report: Optional[str],
    pids: tuple[int, ...],
    comms: tuple[str, ...],
    since: Optional[When],
    until: Optional[When],
    min_zombie: Optional[int],
    sites: tuple[tuple[str, Optional[int]], ...],
    states: tuple[str, ...],
) -> None:
    """Report from a trace that `-o FILE` has saved. Needs neither root nor bcc.

    Several traces are taken together: the parts that --rotate has made, or
    observations of one boot.
    """
    filters = Filters(
        pids=pids,
        comms=comms,
        states=tuple(State(each) for each in states),
        sites=sites,
        since=since,
        until=until,
        min_zombie_ns=min_zombie,
    )
    format_ = as_tree(tree, format_)
    if html is not None:
        if report is not None or format_ not in ("text", "html"):
            raise UsageError("--html stands for --format html --report FILE", "give one of them")
        format_, report = "html", html
    paths = list(dict.fromkeys(_expanded(traces)))
    output = Output(report, sys.stdout)
    with open_traces(paths) as trace:
        filters.window(trace.meta)  # or one that cannot be meant is found too late
        _hint_at_parts(paths, trace)
        try:
            _write(trace, filters, format_, output)
        except BrokenPipeError:
            # nobody wants the rest; Python must not try to write it at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _expanded(traces: Sequence[str]) -> Iterator[str]:
    """A pattern that the shell has left alone."""
    for name in traces:
        found = [] if os.path.lexists(name) or "\0" in name else sorted(glob.glob(name))
        yield from found or [name]


def _hint_at_parts(paths: Sequence[str], trace: Trace) -> None:
    if len(paths) == 1 and trace.first_part > 1:
        others = parts_beside(paths[0])
        if others:
            stem, extension = os.path.splitext(paths[0])
            _say(f"{paths[0]} is part {trace.first_part}; for all of them: {stem}*{extension}")


def _write(trace: Trace, filters: Filters, format_: str, output: Output) -> None:
    if format_ == "jsonl":
        counter = _Counter()
        output.write_by(functools.partial(_write_lines, trace, filters, counter), False)
        kept = counter.lives
    else:
        analysis = trace.analysis(filters)
        kept = len(analysis.lives)
        try:
            output.write(analysis, format_)
        except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
            raise Damaged(f"no report can be made of what is in it: {error}") from None
    if not kept:
        total = trace.count
        _say(
            f"no process of the trace's {total} passes the filters"
            if total and filters
            else "there is no process in the trace"
        )


class _Counter:
    lives = 0


def _write_lines(
    trace: Trace, filters: Filters, counter: _Counter, out: TextIO, options: TextOptions
) -> None:
    """A process at a time, however many there are: those reaped as they were, then the others."""
    counter.lives = 0
    for ended in (True, False):
        for life in trace.lives(filters, ended):
            counter.lives += 1
            out.write(jsonl.process_line(life))
    joins = () if trace.looked_for_joins else None
    jsonl.write(Analysis(trace.meta, (), joins), out, options)  # no life: the meta line


def _say(line: str) -> None:
    with suppress(OSError):
        click.echo(f"zombiebpf: {line}", err=True)
