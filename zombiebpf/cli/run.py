# SPDX-License-Identifier: Apache-2.0
"""`zombiebpf run`: observe a command."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Optional

import click

from zombiebpf import command
from zombiebpf.cli.options import parse_hooks
from zombiebpf.kernel.observer import Observer
from zombiebpf.observe import CommandRun
from zombiebpf.output import Output
from zombiebpf.reports import FORMATS

EPILOG = """\b
Examples:
  sudo zombiebpf run -- python3 app.py
  sudo zombiebpf run --format json --report lives.json -- ./workers.sh 8
  sudo zombiebpf run --linger 30 -u root -- systemd-notify --ready

Exits as CMD does: its status, or 128+N if signal N killed it; 126 and 127 if CMD
cannot be executed or found; 2, 70 and 77 as in `zombiebpf --help`.
"""


@click.command(
    epilog=EPILOG,
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
)
@click.option(
    "-u", "--user", metavar="NAME", help="Run CMD as this user. Under sudo, default: you."
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="The report's format.",
)
@click.option(
    "--report",
    "report",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the report to FILE.  [default: stderr, so that stdout stays CMD's]",
)
@click.option(
    "--linger",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="How long to follow what CMD left behind, at the most. Ctrl-C ends it sooner.",
)
@click.option(
    "--hook",
    "hooks",
    metavar="FACT=NAME",
    multiple=True,
    help="Take FACT from another hook than the best; `zombiebpf doctor` lists them.",
)
@click.argument("cmd", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    cmd: tuple[str, ...],
    user: Optional[str],
    format_: str,
    report: Optional[Path],
    linger: float,
    hooks: tuple[str, ...],
) -> None:
    """Start CMD, observe it and all its descendants, report.

    CMD runs as without us: its terminal, signals, environment and exit status are its own;
    under sudo it runs as the user who called sudo. The report comes when it has ended.
    """
    signals = command.Signals.inherited()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, CMD would be reaped unseen
    forced = parse_hooks(hooks)
    whom = command.user_named(user) if user else command.invoking_user(os.environ)
    environ = command.environment_of(whom, os.environ)
    program = command.find_program(cmd[0], environ)
    output = Output(report, sys.stderr)
    with Observer(forced) as observer:
        observed = CommandRun(observer, signals)
        analysis = observed.run(cmd, program, whom, environ, linger)
    output.write(analysis, format_)
    sys.exit(observed.exit_code)
