# SPDX-License-Identifier: Apache-2.0
"""The command `zombiebpf compare`: compare two observations of the same program."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Optional, TextIO

import click

from zombiebpf.cli import options
from zombiebpf.cli.console import HELP_SETTINGS
from zombiebpf.diagnosis.comparison import compare as compared
from zombiebpf.reports.comparison import COMPARISONS
from zombiebpf.reports.output.destination import Output
from zombiebpf.reports.terminal import TextOptions
from zombiebpf.trace.load import load_analysis

EPILOG = """\b
Examples:
  sudo zombiebpf run -o before.db -- ./app
  sudo zombiebpf run -o after.db -- ./app      # changed
  zombiebpf compare before.db after.db
  zombiebpf compare before.json after.json --format html --report change.html

Exits with 0 whatever changed; 2 if a file cannot be read, 70 if the report cannot be written.
"""


@click.command(epilog=EPILOG, context_settings=HELP_SETTINGS)
@options.format_option(COMPARISONS)
@options.report_option()
@click.argument("before")
@click.argument("after")
def compare(before: str, after: str, format_: str, report_file: Optional[str]) -> None:
    """Compare two traces, or JSON reports: lives, zombies, how long, by the line that forked.

    Says what got better or worse and by how much, and how many observations that rests on.
    """
    output = Output(report_file, sys.stdout)
    found = compared(load_analysis(before), load_analysis(after))

    def write(out: TextIO, options: TextOptions) -> None:
        COMPARISONS[format_](found, (before, after), out, options)

    with suppress(BrokenPipeError):  # nobody wants the rest
        output.write_by(write, format_ == "text")
