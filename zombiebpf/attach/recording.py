# SPDX-License-Identifier: Apache-2.0
"""Where an observation goes while it lasts: a trace, memory, a pipe; and its reports."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, Optional

import click

from zombiebpf.analysis import Analysis, Join, Meta
from zombiebpf.attach.follow import Lines, NobodyReads, Progress
from zombiebpf.attach.session import Session, birth
from zombiebpf.life import Life, State
from zombiebpf.output import Output
from zombiebpf.trace import Filters, Rotation, TraceWriter, open_traces, parts_beside


class Wanted(NamedTuple):
    """What the command line asks for."""

    trace: Optional[str] = None  # -o
    rotate: Optional[Rotation] = None
    force: bool = False
    follow: bool = False
    format_: str = "text"
    report: bool = True  # at the end
    min_zombie_ns: Optional[int] = None


class Recording:
    """The sink of a session.

    Lives are kept in memory only where a report needs them and no trace has them.
    """

    def __init__(self, wanted: Wanted, output: Output) -> None:
        self._wanted = wanted
        self._output = output
        self._lines = Lines(sys.stdout, wanted.format_ == "jsonl") if wanted.follow else None
        self._progress = Progress(sys.stderr)
        self._trace: Optional[TraceWriter] = None
        self._lives: list[Life] = []
        self._joins: list[Join] = []
        self._ended = 0  # lives
        self._reads = True  # whether anybody reads the lines

    def open(self, meta: Meta) -> None:
        """UsageError if the trace cannot be written."""
        if self._wanted.trace is not None:
            self._trace = TraceWriter(
                self._wanted.trace,
                meta,
                force=self._wanted.force,
                rotate=self._wanted.rotate,
                warn=self._warn,
            )

    # called by the session

    def ended(self, lives: Sequence[Life], joins: Sequence[Join]) -> None:
        self._ended += len(lives)
        if self._trace is not None:
            self._trace.add(lives, joins)
        elif self._wanted.report:
            self._lives += lives
            self._joins += joins
        if self._lines is not None:
            self._progress.clear()
            self._say_lines(lives)

    def begun(self, session: Session) -> None:
        count = session.alive
        processes = "process that exists" if count == 1 else "processes that exist"
        self._warn(f"attached: {count} {processes}, and what they fork; Ctrl-C ends it")

    def look(self, session: Session) -> bool:
        if self._trace is not None and self._trace.due:
            self._trace.flush(session.unfinished, session.meta())
        if self._lines is not None:
            self._say_lines(())
        seen = self._ended + session.alive
        self._progress.show(seen, session.unfinished, session.lost(), session.started_ns)
        return self._reads

    def report(self, session: Session) -> None:
        """Now; what goes on is told as it stands."""
        self._progress.clear()
        meta = session.meta()
        if self._trace is not None:
            self._trace.flush(session.unfinished, meta)
            self._write(self._from_trace())
        else:
            self._write(self._analysis([*self._lives, *session.unfinished], meta))

    # at the end

    def close(self, meta: Meta) -> None:
        """The rest of the trace, the last line and the report."""
        self._progress.clear()
        if self._lines is not None:
            self._end_lines(meta)
        if self._trace is not None:
            self._trace.close(meta)
            if self._trace.problem is None:
                name = self._wanted.trace
                lives = f"{self._ended} {'life' if self._ended == 1 else 'lives'}"
                self._warn(f"{lives} in {name}: `zombiebpf report {name}` shows them")
        if self._wanted.report:
            analysis = (
                self._from_trace() if self._trace is not None else self._analysis(self._lives, meta)
            )
            self._write(analysis)

    def _analysis(self, lives: Sequence[Life], meta: Meta) -> Analysis:
        kept = [life for life in sorted(lives, key=birth) if self._is_wanted(life, meta.ended_ns)]
        return Analysis(meta, kept, sorted(self._joins, key=lambda join: join.began_ns or 0))

    def _from_trace(self) -> Analysis:
        """Of all its parts."""
        path = str(self._wanted.trace)
        parts = parts_beside(path) if self._wanted.rotate is not None else []
        with open_traces([*parts, path]) as trace:
            return trace.analysis(Filters(min_zombie_ns=self._wanted.min_zombie_ns))

    def _write(self, analysis: Analysis) -> None:
        try:
            self._output.write(analysis, self._wanted.format_)
        except BrokenPipeError:
            self._nobody_reads()

    def _say_lines(self, lives: Sequence[Life]) -> None:
        assert self._lines is not None
        if not self._reads:
            return
        try:
            self._lines.write([life for life in lives if self._is_wanted(life)])
        except NobodyReads:
            self._nobody_reads()

    def _end_lines(self, meta: Meta) -> None:
        assert self._lines is not None
        if self._reads:
            try:
                self._lines.end(meta)
            except NobodyReads:
                self._nobody_reads()

    def _nobody_reads(self) -> None:
        """No failure; but Python must not try again at its end."""
        self._reads = False
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _is_wanted(self, life: Life, now_ns: Optional[int] = None) -> bool:
        """Whether it was a zombie for long enough, as far as that is known."""
        least = self._wanted.min_zombie_ns
        if least is None:
            return True
        if life.zombie_interval_ns is not None:
            return life.zombie_interval_ns >= least
        if life.was_zombie:
            return True  # for how long is not known
        if life.state is not State.ZOMBIE or life.zombie_ns is None:
            return False
        return now_ns is None or now_ns - life.zombie_ns >= least

    def _warn(self, line: str) -> None:
        self._progress.clear()
        try:
            click.echo(f"zombiebpf: {line}", err=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
