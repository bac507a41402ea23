# SPDX-License-Identifier: Apache-2.0
"""A progress bar on standard error for what takes longer than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Optional

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SILENT_S = 1.0

Advance = Callable[[int, int], None]  # how much is done, of how much; 0 of 0: not known


@contextmanager
def progress_bar() -> Iterator[Advance]:
    """Return what shows the progress, if standard error is a terminal, after SILENT_S."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    bar = _Bar()
    try:
        yield bar.advance
    finally:
        bar.stop()


class _Bar:
    """A bar that rich draws, which is imported when it is shown first."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._progress: Optional[Progress] = None
        self._task: Optional[TaskID] = None

    def advance(self, done: int, total: int) -> None:
        """Show how much is done."""
        if self._progress is None:
            if time.monotonic() - self._begin < SILENT_S:
                return
            self._show()
        assert self._progress is not None
        assert self._task is not None
        self._progress.update(self._task, completed=done, total=total or None)

    def stop(self) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("report", total=None)
        self._progress.start()
