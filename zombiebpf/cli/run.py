# SPDX-License-Identifier: Apache-2.0
"""The command `zombiebpf run`: run a command and observe it."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Optional

import click

from zombiebpf.cli import options
from zombiebpf.cli.console import HELP_SETTINGS, say
from zombiebpf.cli.progress import write_report
from zombiebpf.cli.values import parse_hooks, seconds
from zombiebpf.command.inherited import InheritedState, leave_deleted_directory
from zombiebpf.command.start import require_program
from zombiebpf.command.user import choose_user, environment_of
from zombiebpf.errors import ZombiebpfError
from zombiebpf.observe.command_run import CommandRun
from zombiebpf.observe.rule_files import load_rules
from zombiebpf.observe.selfcheck import start_observer
from zombiebpf.reports import FORMATS
from zombiebpf.reports.output.destination import Output

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


@dataclass(frozen=True)
class CommandOptions:
    """What to run, as which user, and how long to follow what it leaves behind."""

    cmd: tuple[str, ...]
    user: Optional[str]
    linger: float  # seconds


@click.command(epilog=EPILOG, context_settings={**HELP_SETTINGS, "allow_interspersed_args": False})
@options.user_option("CMD")
@options.format_option(FORMATS)
@options.tree_option
@options.report_option(
    "Write the report to FILE, - for stdout.  [default: stderr, so that stdout stays CMD's]"
)
@options.trace_options("Save a trace to FILE, for `zombiebpf report`.", "trace")
@options.rules_option
@click.option("--linger", metavar="SECONDS", type=seconds, default=2.0, show_default=True,
    help="How long to follow what CMD left behind, at the most. Ctrl-C ends it sooner."
)  # fmt: skip
@options.hook_option
@click.argument("cmd", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
@options.grouped
def run(
    inherited: InheritedState,
    command: CommandOptions,
    report: options.ReportOptions,
    trace: options.TraceOptions,
    observer: options.ObserverOptions,
) -> None:
    """Start CMD, observe it and all its descendants, report.

    CMD runs as without us: its terminal, signals, environment and exit status are its own;
    under sudo it runs as the user who called sudo. The report comes when it has ended.
    """
    format_ = report.format
    forced = parse_hooks(observer.hooks)
    user = choose_user(command.user, inherited.environ)
    environ = environment_of(user, inherited.environ)
    require_program(command.cmd[0], environ)
    trace.check()
    rules = load_rules(observer.rules, inherited.environ)
    output = Output(report.report_file, sys.stderr)
    leave_deleted_directory()
    with ExitStack() as stack:
        with start_observer(forced) as probes:
            observed = CommandRun(probes, inherited, rules, open_trace=trace.opener(say))
            stack.enter_context(observed).run(command.cmd, user, environ, command.linger)
        try:
            write_report(observed.open(), output, format_)
        except BrokenPipeError:
            pass  # nobody wants the rest of the report: no failure
        except ZombiebpfError as error:
            error.what += f"; CMD itself exited with {observed.exit_code}"
            raise
    sys.exit(observed.exit_code)
