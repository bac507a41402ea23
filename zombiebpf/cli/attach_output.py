# SPDX-License-Identifier: Apache-2.0
"""Write what an attach session observes: a trace, lines as processes end, and reports."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from zombiebpf.cli.console import STDOUT, discard, say
from zombiebpf.cli.follow import LineWriter, StatusLine
from zombiebpf.cli.options import ReportOptions, TraceOptions
from zombiebpf.cli.progress import write_report
from zombiebpf.model.analysis import Meta
from zombiebpf.model.join import Join
from zombiebpf.model.life import Life, LifeRow, State
from zombiebpf.observe.attach_session import AttachSession
from zombiebpf.reports.output.destination import Output
from zombiebpf.trace import Filters, TraceWriter
from zombiebpf.wording.wording import count_of


@dataclass(frozen=True)
class SessionOptions:
    """How long to observe, what to print meanwhile, and which processes to show."""

    duration_s: Optional[float]  # None: no limit
    follow: bool
    min_zombie_ns: Optional[int]


class AttachOutput:
    """The listener of an attach session.

    It writes a temporary trace if a report needs one and none was asked for.
    """

    def __init__(self, trace: TraceOptions, report: ReportOptions, options: SessionOptions) -> None:
        """Raise UsageError if the report's file cannot be written."""
        self._trace_options = trace
        self._min_zombie_ns = options.min_zombie_ns
        self._format = report.format
        self._reports = report.report_file is not None or (
            not options.follow
            and (trace.trace_file is None or report.format_ is not None or report.tree)
        )
        self._output = Output(report.report_file, sys.stdout)
        self._lines = LineWriter(sys.stdout, self._format == "jsonl") if options.follow else None
        self._status = StatusLine(sys.stderr)
        self._trace: Optional[TraceWriter] = None
        self._ended = 0  # processes
        self._is_read = True  # whether anybody reads the lines

    def open_trace(self, meta: Meta) -> None:
        """Create the trace, a temporary one for a report. Raise UsageError if that fails."""
        if self._reports or self._trace_options.trace_file is not None:
            self._trace = self._trace_options.opener(self._say)(meta)

    def add(self, lives: Sequence[LifeRow], joins: Sequence[Join]) -> None:
        """Write the processes that have ended."""
        self._ended += len(lives)
        if self._trace is not None:
            self._trace.add(lives, joins)
        if self._lines is not None:
            self._status.clear()
            self._write_lines([life.life() for life in lives])

    def attached(self, session: AttachSession) -> None:
        """Say how many processes are followed."""
        processes = count_of(session.alive, "process that exists", "processes that exist")
        self._say(f"attached: {processes}, and what they fork; Ctrl-C ends it")

    def update(self, session: AttachSession) -> bool:
        """Flush the trace and refresh the status line. Return False if nobody reads the lines."""
        if self._trace is not None and self._trace.due:
            self._trace.flush(session.changed(self._trace.flushed_ns), session.meta())
        self._write_lines(())
        if self._status.is_due:
            seen = self._ended + session.alive
            zombies = [life.life() for life in session.zombies]
            self._status.update(seen, zombies, session.lost, session.started_ns)
        return self._is_read

    def report(self, session: AttachSession) -> None:
        """Write a report of all processes so far; those that run are shown as they are now."""
        self._status.clear()
        if self._trace is not None:
            self._trace.flush(session.changed(time.monotonic_ns()), session.meta())
        self._write_report()

    def finish(self, meta: Meta) -> None:
        """Finish the lines and the trace, and write the report."""
        self._status.clear()
        if self._lines is not None and self._is_read:
            try:
                self._lines.end(meta)
            except BrokenPipeError:
                self._stop_printing()
        if self._trace is not None:
            self._trace.close(meta)
            if self._trace.problem is None and self._trace_options.trace_file is not None:
                name = self._trace_options.trace_file
                lives = count_of(self._ended, "life", "lives")
                self._say(f"{lives} in {name}: `zombiebpf report {name}` shows them")
        if self._reports:
            self._write_report()

    def close(self) -> None:
        """Delete what is temporary, also after a failure."""
        trace, self._trace = self._trace, None
        if trace is not None:
            trace.delete()

    def _write_report(self) -> None:
        assert self._trace is not None
        filters = Filters(min_zombie_ns=self._min_zombie_ns)
        try:
            write_report(self._trace.open(), self._output, self._format, filters)
        except BrokenPipeError:
            self._stop_printing()

    def _write_lines(self, lives: Sequence[Life]) -> None:
        if self._lines is not None and self._is_read:
            try:
                self._lines.write([life for life in lives if self._is_shown(life)])
            except BrokenPipeError:
                self._stop_printing()

    def _stop_printing(self) -> None:
        self._is_read = False
        discard(STDOUT)

    def _is_shown(self, life: Life) -> bool:
        """Return whether it was a zombie for --min-zombie, as far as that is known."""
        least = self._min_zombie_ns
        if least is None:
            return True
        if life.zombie_interval_ns is not None:
            return life.zombie_interval_ns >= least
        if life.was_zombie:
            return True  # for an unknown time
        return life.state is State.ZOMBIE and life.zombie_ns is not None

    def _say(self, line: str) -> None:
        self._status.clear()
        say(line)
