# SPDX-License-Identifier: Apache-2.0
"""A progress bar on standard error for reports that take longer than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Optional

from zombiebpf.reports.output.destination import FOR_PEOPLE, Output
from zombiebpf.trace import Filters, Trace
from zombiebpf.trace.merge import ALL

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SILENT_S = 1.0


class ProgressBar:
    """A bar that rich draws, which is imported when it is shown first."""

    def __init__(self, shown: bool) -> None:
        """Without `shown` it never is."""
        self._begin = time.monotonic()
        self._shown = shown
        self._total = 0
        self._progress: Optional[Progress] = None
        self._task: Optional[TaskID] = None

    def advance(self, done: int, total: int) -> None:
        """Show how much is done, of how much; 0 of 0: that is not known."""
        if not self._shown or (self._total and not total):
            return
        self._total = total
        if self._progress is None:
            if time.monotonic() - self._begin < SILENT_S:
                return
            self._show()
        assert self._progress is not None
        assert self._task is not None
        self._progress.update(self._task, completed=done, total=total or None)

    def stop(self) -> None:
        """Remove the bar; it is not shown again."""
        self._shown = False
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("report", total=None)
        self._progress.start()


@contextmanager
def progress_bar(output: Output, format_: str) -> Iterator[ProgressBar]:
    """Return a bar for a report, which is shown after SILENT_S if standard error is a terminal.

    A report that streams to a terminal has none: it shows by itself how it goes on.
    """
    streams = output.is_terminal and format_ not in FOR_PEOPLE
    bar = ProgressBar(sys.stderr.isatty() and not streams)
    try:
        yield bar
    finally:
        bar.stop()


def write_report(trace: Trace, output: Output, format_: str, filters: Filters = ALL) -> None:
    """Write a report from a trace, which is closed then."""
    with (
        trace,
        progress_bar(output, format_) as bar,
        trace.observation(filters, bar.advance) as observation,
    ):
        output.write(observation, format_, bar.stop)
