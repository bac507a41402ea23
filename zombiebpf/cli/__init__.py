# SPDX-License-Identifier: Apache-2.0
"""The command line: one module per command, which parses options, calls, and prints."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from types import FrameType
from typing import Any, Optional

import click

import zombiebpf
from zombiebpf.cli.console import HELP_SETTINGS, say
from zombiebpf.command.inherited import InheritedState
from zombiebpf.command.supervision import TERMINATION
from zombiebpf.errors import EXIT_FAILURE, EXIT_USAGE, Interrupted, ZombiebpfError

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
  70   zombiebpf failed: the line on stderr says why, and the fix
  77   not enough privilege
  126  CMD cannot be executed
  127  CMD was not found
"""


# Command -> its line in --help. A command's module is imported only when the command is used:
# together they take a quarter of a second.
# Container objects that are made, less those that are freed, before the cycle collector looks at
# the new ones. Process records have no cycles; at Python's 700 it walked over them all the time.
_COLLECT_AFTER = 100_000

COMMANDS = {
    "attach": "Observe what already runs: processes, with all their descendants, until it ends.",
    "compare": "Compare two traces, or JSON reports: lives, zombies, how long, by the line that"
    " forked.",
    "doctor": "Say what this machine offers an observer, and the fix for what is missing.",
    "report": "Report from a trace that `-o FILE` has saved.",
    "run": "Start CMD, observe it and all its descendants, report.",
    "scenario": "Run small programs and compare what the kernel shows with what was claimed.",
}


class _Commands(click.Group):
    """The commands, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"zombiebpf.cli.{cmd_name}")
        if not gc.isenabled():  # by zombiebpf.__main__
            gc.freeze()  # modules stay
            gc.set_threshold(_COLLECT_AFTER)
            gc.enable()
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Commands, context_settings=HELP_SETTINGS, epilog=EPILOG, invoke_without_command=True
)
@click.version_option(zombiebpf.__version__, prog_name="zombiebpf")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """See in the kernel how processes die: when each was forked, became a zombie, was
    reparented and reaped, by whom and by which call."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(EXIT_USAGE)


def main() -> None:
    """Run the command line and exit; print one line for each failure, never a traceback."""
    try:
        inherited = InheritedState.capture()
        _open_standard_streams()
        _set_signals(inherited)
        code: Any = cli.main(prog_name="zombiebpf", standalone_mode=False, obj=inherited)
    except Interrupted as interrupted:
        code = interrupted.exit_code
    except ZombiebpfError as error:
        _say(f"{error.what}; {error.fix}" if error.fix else error.what)
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


def _say(text: str) -> None:
    say(" ".join(text.split()))


def _open_standard_streams() -> None:
    """Open the standard streams that the caller has closed.

    Otherwise the next file that is opened gets the number, and the output. The observed
    command still finds them closed: they are not inherited.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            stream = os.fdopen(number, "r" if number == 0 else "w", closefd=False)
            setattr(sys, name, stream)


def _set_signals(inherited: InheritedState) -> None:
    """Turn termination signals into Interrupted, so that cleanup runs.

    SIGCHLD gets its default: if it was ignored, the kernel would reap the children.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in TERMINATION - inherited.ignored:
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: Optional[FrameType]) -> None:
    raise Interrupted(number)
