# SPDX-License-Identifier: Apache-2.0
"""`zombiebpf attach`: observe what already runs."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Optional

import click

from zombiebpf.attach.recording import Recording, Wanted
from zombiebpf.attach.selection import Request, select
from zombiebpf.attach.session import REPORT_NOW, Session
from zombiebpf.attribution import Rules
from zombiebpf.cli.options import (
    HELP_SETTINGS,
    as_tree,
    duration_ns,
    duration_s,
    leave_deleted_directory,
    parse_hooks,
    parsed,
    require_trace,
    rotation,
    tree_option,
)
from zombiebpf.errors import UsageError
from zombiebpf.inheritance import Inheritance
from zombiebpf.kernel import machine
from zombiebpf.kernel.observer import Observer
from zombiebpf.output import Output
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
@click.option("--name", "names", metavar="NAME", multiple=True,
              help="Processes called so: their comm, program or Python script; * and ? as in the "
              "shell.")  # fmt: skip
@click.option("--cgroup", "cgroups", metavar="PATH", multiple=True,
              help="What is in this cgroup or below it, or comes into it.")  # fmt: skip
@click.option("--container", "containers", metavar="NAME", multiple=True,
              help="What runs in this container: name, or beginning of its id.")  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="The whole machine.")
@click.option("--duration", metavar="DURATION", callback=parsed(duration_s),
              help="End after this time.  [default: none]")  # fmt: skip
@click.option("-o", "--output", "trace", metavar="FILE",
              help="Save a trace to FILE, for `zombiebpf report`. No report then, unless --format "
              "or --report asks for one.")  # fmt: skip
@click.option("--rotate", metavar="SIZE|AGE", callback=parsed(rotation),
              help="Go on in a new file at this size (100MB) or age (1h).")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the trace FILE that is there.")
@click.option("--format", "format_", type=click.Choice(list(FORMATS)),
              help="The report's format; --follow: text or jsonl.  [default: text]")  # fmt: skip
@tree_option
@click.option("--report", metavar="FILE",
              help="Write the report to FILE, - for stdout.  [default: stdout]")  # fmt: skip
@click.option("--follow", is_flag=True,
              help="Print a line for each life as it ends, instead of a report.")  # fmt: skip
@click.option("--min-zombie", metavar="DURATION", callback=parsed(duration_ns),
              help="Tell only of what was a zombie for that long. The trace has all.")  # fmt: skip
@click.option("--rules", metavar="FILE", multiple=True,
              help="Name calls of your own: attribution rules asked before the built-in ones."
              )  # fmt: skip
@click.option("--hook", "hooks", metavar="FACT=NAME", multiple=True,
              help="Take FACT from another hook than the best; `zombiebpf doctor` lists them."
              )  # fmt: skip
@click.argument("pids", metavar="[PID]...", nargs=-1, type=click.IntRange(min=1))
@click.pass_obj
def attach(
    inherited: Inheritance,
    pids: tuple[int, ...],
    names: tuple[str, ...],
    cgroups: tuple[str, ...],
    containers: tuple[str, ...],
    everything: bool,
    duration: Optional[float],
    trace: Optional[str],
    rotate: Any,
    force: bool,
    format_: Optional[str],
    tree: bool,
    report: Optional[str],
    follow: bool,
    min_zombie: Optional[int],
    rules: tuple[str, ...],
    hooks: Sequence[str],
) -> None:
    """Observe what already runs: processes, with all their descendants, until it ends.

    What exists is taken over as it is, zombies too; nothing of it is stopped or changed.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {REPORT_NOW})  # it must not kill us, ever
    format_ = as_tree(tree, format_ or "text") if tree else format_
    if follow and format_ not in (None, "text", "jsonl"):
        raise UsageError(f"--follow prints text or jsonl, not {format_}", "leave --follow out")
    require_trace(trace, rotate, force)
    wanted = Wanted(
        trace=trace,
        rotate=rotate,
        force=force,
        follow=follow,
        format_=format_ or "text",
        report=report is not None or (not follow and (trace is None or format_ is not None)),
        min_zombie_ns=min_zombie,
    )
    forced = parse_hooks(hooks)
    asked = Rules.load(rules, inherited.environ)
    request = Request(pids, names, cgroups, containers, everything)
    machine.require_privilege()
    selected = select(request)
    recording = Recording(wanted, Output(report, sys.stdout))
    leave_deleted_directory()
    with Observer(forced, selecting=True) as observer:
        command = tuple(os.fsdecode(each) for each in ("zombiebpf", *sys.argv[1:]))
        session = Session(observer, request, selected, command, recording, asked)
        recording.open(session.meta())
        session.run(math.inf if duration is None else duration, inherited)
        meta = session.meta()
    recording.close(meta)
