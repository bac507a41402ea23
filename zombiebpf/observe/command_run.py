# SPDX-License-Identifier: Apache-2.0
"""Run a command and observe it, from its first instruction to the last reap."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Callable, Optional

from zombiebpf.attribution.rules.matching import Rules
from zombiebpf.command import start
from zombiebpf.command.inherited import InheritedState
from zombiebpf.command.supervision import Supervision
from zombiebpf.command.user import User
from zombiebpf.kernel.observer import Observer
from zombiebpf.model.analysis import Meta
from zombiebpf.model.join import Join
from zombiebpf.model.life import LifeRow
from zombiebpf.model.wire import Records
from zombiebpf.observe.meta import describe
from zombiebpf.observe.pipeline import Pipeline
from zombiebpf.trace import TemporaryTrace, Trace, TraceWriter

_RECENT_NS = 1_000_000_000  # how long ago the sender of a signal may have been reaped


class _RunSink:
    """A sink that writes the trace, and knows which processes were reaped a moment ago."""

    def __init__(self) -> None:
        self.trace: Optional[TraceWriter] = None
        self._recent: deque[tuple[int, list[int]]] = deque()  # a batch: its last reap, its PIDs

    def add(self, lives: Sequence[LifeRow], joins: Sequence[Join]) -> None:
        """Write the records and the joins."""
        if self.trace is not None:
            self.trace.add(lives, joins)
        if lives and lives[-1].reap_ns is not None:
            last_ns = lives[-1].reap_ns
            self._recent.append((last_ns, [life.pid for life in lives]))
            while self._recent[0][0] < last_ns - _RECENT_NS:
                self._recent.popleft()

    def reaped_since(self, ns: int, pid: int) -> bool:
        """Return whether a process with this PID may have been reaped since `ns`."""
        return any(last_ns >= ns and pid in pids for last_ns, pids in self._recent)


class CommandRun:
    """One observed run of a command. Use it in a `with` statement, which deletes what is temporary.

    `exit_code` is a shell's exit code for the command once it has exited, None before.
    """

    def __init__(
        self,
        observer: Observer,
        inherited: InheritedState,
        rules: Rules,
        prepare: Callable[[Records], None] = lambda records: None,
        open_trace: Callable[[Meta], TraceWriter] = TemporaryTrace,
    ) -> None:
        """Create a run. `prepare` sees each batch of records first."""
        self._observer = observer
        self._inherited = inherited
        self._sink = _RunSink()
        self._pipeline = Pipeline(observer, self._sink, rules, prepare)
        self._open_trace = open_trace
        self._meta: Callable[[], Meta] = lambda: describe(observer, (), 0, 0, 0.0)
        self._failure: Optional[Exception] = None
        self.exit_code: Optional[int] = None

    def __enter__(self) -> CommandRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop_trace()

    def _drop_trace(self) -> None:
        """Close the trace, and delete it if it is temporary."""
        trace, self._sink.trace = self._sink.trace, None
        if trace is not None:
            with trace:
                pass

    def run(
        self, argv: Sequence[str], user: Optional[User], environ: Mapping[str, str], linger_s: float
    ) -> None:
        """Run `argv` as `user`, then follow for up to `linger_s` the processes it leaves behind.

        Raise CommandError if the command does not start, UsageError if the trace cannot be
        created. If observing fails, the command is still waited for before that is raised.
        """
        path = environ.get("PATH", "")
        self._observer.expect_interpreters(path.split(":"), shutil.which(argv[0], path=path))
        started, wall = time.monotonic_ns(), time.time()
        self._meta = lambda: describe(self._observer, argv, started, time.monotonic_ns(), wall)
        self._drop_trace()
        trace = self._sink.trace = self._open_trace(self._meta())
        with Supervision(self._inherited, self._is_observed) as supervision:
            with self._observer.following_forks():
                supervision.supervise(start.start(argv, user, environ, self._inherited))
            self._inherited.release_descriptors()
            while supervision.exit_code is None:
                self._drain()
                supervision.handle_signal(self._pipeline.poll_s)
            self.exit_code = supervision.exit_code
            self._linger(linger_s, supervision)
        if self._failure is not None:
            raise self._failure
        meta = self._meta()
        self._pipeline.finish()
        trace.close(meta)

    def open(self) -> Trace:
        """Open what was observed for reading, after run(). Raise UsageError if that fails."""
        assert self._sink.trace is not None
        return self._sink.trace.open()

    def _linger(self, seconds: float, supervision: Supervision) -> None:
        """Follow until all processes are reaped, the time is over, or a signal ends it."""
        deadline = time.monotonic() + seconds
        self._drain_all()
        while self._failure is None and self._pipeline.alive:
            left = deadline - time.monotonic()
            if left <= 0 or supervision.end_requested(min(left, self._pipeline.poll_s)):
                break
            self._drain_all()
        self._drain_all()

    def _drain_all(self) -> None:
        """Read all events up to the time of the call: processes may fork faster than this reads."""
        now = time.monotonic_ns()
        while self._drain() and self._pipeline.read_to_ns < now:
            pass

    def _drain(self) -> bool:
        """Read one batch. Return False if there was none, or after a failure, which is kept."""
        if self._failure is not None:
            return False
        try:
            found = self._pipeline.drain()
            trace = self._sink.trace
            if trace is not None and trace.due:
                trace.flush(self._pipeline.changed(trace.flushed_ns), self._meta())
        except Exception as error:
            self._failure = error
            return False
        return found

    def _is_observed(self, pid: int) -> bool:
        """Return whether `pid` is the command or a descendant, perhaps one just reaped."""
        now = time.monotonic_ns()
        self._drain_all()
        if any(life.pid == pid for life in self._pipeline.unfinished):
            return True
        return self._sink.reaped_since(now - _RECENT_NS, pid)
