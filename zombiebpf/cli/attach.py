# SPDX-License-Identifier: Apache-2.0
"""The command `zombiebpf attach`: observe running processes."""

from __future__ import annotations

import math
import os
import signal
import sys
from contextlib import closing

import click

from zombiebpf.attach.selection import SelectionRequest, select
from zombiebpf.cli import options
from zombiebpf.cli.attach_output import AttachOutput, SessionOptions
from zombiebpf.cli.console import HELP_SETTINGS
from zombiebpf.cli.values import duration_ns, duration_s, parse_hooks
from zombiebpf.command.inherited import InheritedState, leave_deleted_directory
from zombiebpf.errors import UsageError
from zombiebpf.kernel import machine
from zombiebpf.observe.attach_session import REPORT_NOW, AttachSession
from zombiebpf.observe.rule_files import load_rules
from zombiebpf.observe.selfcheck import start_observer
from zombiebpf.reports import FORMATS

EPILOG = """\b
Examples:
  sudo zombiebpf attach 4242                  # a process and all its descendants
  sudo zombiebpf attach --name gunicorn --duration 10m -o night.db
  sudo zombiebpf attach --container web
  sudo zombiebpf attach --all --follow --format jsonl --min-zombie 1s | jq .pid
  sudo zombiebpf attach --cgroup /system.slice/cron.service -o cron.db --rotate 1d

\b
It ends with Ctrl-C (SIGINT, SIGTERM, SIGHUP), after --duration, or when all that was
attached to has ended; then comes the report. SIGUSR1: report now, go on.
DURATION is 500ms, 1.5s, 10m, 2h or 7d; a bare number is seconds.

\b
Exits with 0, however it ended; 2 if nothing of what was asked for is there; 70 and 77
as in `zombiebpf --help`.
"""


@click.command(epilog=EPILOG, context_settings=HELP_SETTINGS)
@options.repeatable("--name", "names", "NAME",
    "Processes called so: their comm, program or Python script; * and ? as in the shell."
)  # fmt: skip
@options.repeatable(
    "--cgroup", "cgroups", "PATH", "What is in this cgroup or below it, or comes into it."
)
@options.repeatable("--container", "containers", "NAME",
    "What runs in this container: name, or beginning of its id.")  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="The whole machine.")
@options.option(
    "--duration", "duration_s", "DURATION", "End after this time.  [default: none]", duration_s
)
@options.trace_options(
    "Save a trace to FILE, for `zombiebpf report`. No report then, unless --format or --report asks"
    " for one.",
    "file",
)
@click.option("--format", "format_", type=click.Choice(list(FORMATS)),
    help="The report's format; --follow: text or jsonl.  [default: text]")  # fmt: skip
@options.tree_option
@options.report_option("Write the report to FILE, - for stdout.  [default: stdout]")
@click.option("--follow", is_flag=True,
    help="Print a line for each life as it ends, instead of a report.")  # fmt: skip
@options.option("--min-zombie", "min_zombie_ns", "DURATION",
    "Tell only of what was a zombie for that long. The trace has all.",
    duration_ns)  # fmt: skip
@options.rules_option
@options.hook_option
@click.argument("pids", metavar="[PID]...", nargs=-1, type=click.IntRange(min=1))
@click.pass_obj
@options.grouped
def attach(
    inherited: InheritedState,
    request: SelectionRequest,
    trace: options.TraceOptions,
    report: options.ReportOptions,
    settings: SessionOptions,
    observer: options.ObserverOptions,
) -> None:
    """Observe what already runs: processes, with all their descendants, until it ends.

    What exists is taken over as it is, zombies too; nothing of it is stopped or changed.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {REPORT_NOW})  # its default is to kill
    if report.format not in ("text", "jsonl") and settings.follow:
        raise UsageError(
            f"--follow prints text or jsonl, not {report.format}", "leave --follow out"
        )
    trace.check()
    forced = parse_hooks(observer.hooks)
    rules = load_rules(observer.rules, inherited.environ)
    machine.require_privilege()
    selected = select(request)
    leave_deleted_directory()
    with closing(AttachOutput(trace, report, settings)) as output:
        with start_observer(forced, selecting=True) as probes:
            command = tuple(os.fsdecode(each) for each in ("zombiebpf", *sys.argv[1:]))
            session = AttachSession(probes, request, selected, command, output, rules)
            output.open_trace(session.meta())
            limit_s = settings.duration_s
            session.run(math.inf if limit_s is None else limit_s, inherited)
            meta = session.meta()
        output.finish(meta)
