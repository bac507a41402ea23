# SPDX-License-Identifier: Apache-2.0
"""The commands: parse, call, print. One file each."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any, Optional

import click

import zombiebpf
from zombiebpf.cli.attach import attach
from zombiebpf.cli.compare import compare
from zombiebpf.cli.doctor import doctor
from zombiebpf.cli.options import HELP_SETTINGS
from zombiebpf.cli.report import report
from zombiebpf.cli.run import run
from zombiebpf.cli.scenario import scenario
from zombiebpf.errors import EXIT_FAILURE, EXIT_USAGE, Interrupted, ZombiebpfError
from zombiebpf.inheritance import Inheritance

EPILOG = """\b
Examples:
  sudo zombiebpf run -- python3 app.py
  sudo zombiebpf attach --name gunicorn
  zombiebpf report night.db
  sudo zombiebpf doctor

\b
Exit codes:
  0    fine (run: what CMD exited with, 128+N if signal N killed it)
  1    an expectation was not met
  2    usage
  70   zombiebpf failed: the line on stderr says why, and the cure
  77   not enough privilege
  126  CMD cannot be executed
  127  CMD was not found
"""


@click.group(context_settings=HELP_SETTINGS, epilog=EPILOG, invoke_without_command=True)
@click.version_option(zombiebpf.__version__, prog_name="zombiebpf")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """See in the kernel how processes die: when each was forked, became a zombie, was
    reparented and reaped, by whom and by which call."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(EXIT_USAGE)


cli.add_command(run)
cli.add_command(attach)
cli.add_command(scenario)
cli.add_command(report)
cli.add_command(compare)
cli.add_command(doctor)


def main() -> None:
    """The entry point: one line for each failure, never a traceback."""
    try:
        inherited = Inheritance.take()
        _open_standard_streams()
        _set_signals(inherited)
        code: Any = cli.main(prog_name="zombiebpf", standalone_mode=False, obj=inherited)
    except Interrupted as interrupted:
        code = interrupted.exit_code
    except ZombiebpfError as error:
        _say(f"{error.what}; {error.cure}" if error.cure else error.what)
        code = error.exit_code
    except click.UsageError as error:
        of = error.ctx.command_path if error.ctx else "zombiebpf"
        _say(f"{error.format_message().rstrip('.')}; see `{of} --help`")
        code = error.exit_code
    except click.ClickException as error:
        _say(error.format_message())
        code = error.exit_code
    except Exception as error:
        if os.environ.get("ZOMBIEBPF_TRACEBACK"):
            raise
        _say(
            f"internal error: {type(error).__name__}: {error}; "
            "set ZOMBIEBPF_TRACEBACK=1 to see where, and please report it"
        )
        code = EXIT_FAILURE
    sys.exit(code)


def _say(line: str) -> None:
    try:
        click.echo("zombiebpf: " + " ".join(line.split()), err=True)
    except OSError:
        # standard error is gone, so there is nobody to tell; Python must not try either
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _open_standard_streams() -> None:
    """What the caller has closed: or the next thing opened takes its number and its output.

    CMD finds it closed: what is opened here is not inherited.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            stream = os.fdopen(number, "r" if number == 0 else "w", closefd=False)
            setattr(sys, name, stream)


def _set_signals(inherited: Inheritance) -> None:
    """What asks us to end does it tidily; children are waited for, though our caller's are not."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if number not in inherited.ignored:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: Optional[FrameType]) -> None:
    raise Interrupted(number)
