# SPDX-License-Identifier: Apache-2.0
"""`zombiebpf run`: observe a command."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, Optional

import click

from zombiebpf.attribution import Rules
from zombiebpf.cli.options import (
    HELP_SETTINGS,
    as_tree,
    format_option,
    leave_deleted_directory,
    parse_hooks,
    parsed,
    require_trace,
    rotation,
    seconds,
    tree_option,
)
from zombiebpf.command import require_program
from zombiebpf.errors import ZombiebpfError
from zombiebpf.inheritance import Inheritance
from zombiebpf.kernel.observer import Observer
from zombiebpf.observe import CommandRun
from zombiebpf.output import Output
from zombiebpf.user import choose_user, environment_of

EPILOG = """\b
Examples:
  sudo zombiebpf run -- python3 app.py
  sudo zombiebpf run --format json --report lives.json -- ./workers.sh 8
  sudo zombiebpf run -o lives.db -- ./train.py; zombiebpf report lives.db --min-zombie 1s
  sudo zombiebpf run --linger 30 -u www-data -- ./daemonize
  sudo env "PATH=$PATH" zombiebpf run -- python3 app.py   # sudo changes PATH

Exits as CMD does: with its status, or 128+N if signal N killed it; 126 and 127 if CMD
cannot be executed or found; 2, 70 and 77 as in `zombiebpf --help`. It is 70 also when
CMD has run but its report could not be made or written where it was asked for.
"""


@click.command(epilog=EPILOG, context_settings={**HELP_SETTINGS, "allow_interspersed_args": False})
@click.option(
    "-u", "--user", metavar="NAME", help="Run CMD as this user. Under sudo, default: you."
)
@format_option
@tree_option
@click.option(
    "--report",
    metavar="FILE",
    help="Write the report to FILE, - for stdout.  [default: stderr, so that stdout stays CMD's]",
)
@click.option(
    "-o", "--output", "trace", metavar="FILE", help="Save a trace to FILE, for `zombiebpf report`."
)
@click.option(
    "--rotate",
    metavar="SIZE|AGE",
    callback=parsed(rotation),
    help="Go on in a new trace at this size (100MB) or age (1h).",
)
@click.option("--force", is_flag=True, help="Replace the trace FILE that is there.")
@click.option(
    "--rules",
    metavar="FILE",
    multiple=True,
    help="Name calls of your own: attribution rules asked before the built-in ones.",
)
@click.option(
    "--linger",
    metavar="SECONDS",
    type=seconds,
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
@click.pass_obj
def run(
    inherited: Inheritance,
    cmd: tuple[str, ...],
    user: Optional[str],
    format_: str,
    tree: bool,
    report: Optional[str],
    trace: Optional[str],
    rotate: Any,
    force: bool,
    rules: tuple[str, ...],
    linger: float,
    hooks: tuple[str, ...],
) -> None:
    """Start CMD, observe it and all its descendants, report.

    CMD runs as without us: its terminal, signals, environment and exit status are its own;
    under sudo it runs as the user who called sudo. The report comes when it has ended.
    """
    format_ = as_tree(tree, format_)
    forced = parse_hooks(hooks)
    whom = choose_user(user, inherited.environ)
    environ = environment_of(whom, inherited.environ)
    require_program(cmd[0], environ)
    require_trace(trace, rotate, force)
    asked = Rules.load(rules, inherited.environ)
    output = Output(report, sys.stderr)
    leave_deleted_directory()
    with Observer(forced) as observer:
        observed = CommandRun(observer, inherited, asked)
        if trace is not None:
            observed.save(trace, rotate, force, _warn)
        analysis = observed.run(cmd, whom, environ, linger)
    try:
        output.write(analysis, format_)
    except BrokenPipeError:
        pass  # nobody wants the rest of the report: no failure
    except ZombiebpfError as error:
        error.what += f"; CMD itself exited with {observed.exit_code}"
        raise
    sys.exit(observed.exit_code)


def _warn(line: str) -> None:
    with suppress(OSError):
        click.echo(f"zombiebpf: {line}", err=True)
