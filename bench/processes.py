# SPDX-License-Identifier: Apache-2.0
"""Processes that the bench starts: what they cost, and that none is left behind."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Optional

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_CPUCLOCK_SCHED = 2  # linux/posix-timers.h: the clock of all threads' run time, in ns
_END_S = 5.0  # from SIGTERM to SIGKILL
_READY_S = 60.0
LINE_S = 120.0


class ProcessFailed(Exception):
    """A process did not do its part; the text is one line."""


def adopt_orphans() -> None:
    """Make this process the parent of whatever its descendants leave behind."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def end_all() -> None:
    """End all descendants of this process: with SIGTERM, then with SIGKILL."""
    deadline = time.monotonic() + _END_S
    while True:
        left = [pid for pid in tree(os.getpid()) if pid != os.getpid()]
        if not left:
            return
        number = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.01)
            except ChildProcessError:
                break


def tree(pid: int, without: Optional[int] = None) -> list[int]:
    """Return `pid` and its descendants, except `without` and that one's descendants."""
    if pid == without:
        return []
    found = [pid]
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text(encoding="ascii").split():
                found += tree(int(child), without)
    return found


def cpu_ns(pids: Sequence[int]) -> int:
    """Return the user and system time of processes, zombies too, without their children's."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += time.clock_gettime_ns(~pid << 3 | _CPUCLOCK_SCHED)
    return total


def forks_of_machine() -> int:
    """Return how many processes and threads were ever made on this machine."""
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        if line.startswith("processes "):
            return int(line.split()[1])
    raise OSError("/proc/stat has no line `processes`")


def pss_bytes(pids: Sequence[int]) -> int:
    """Return the proportional set size: memory that N processes share counts an N-th in each."""
    return sum(_kib(pid, "smaps_rollup", "Pss:") for pid in pids) * 1024


def rss_bytes(pid: int) -> int:
    """Return the resident set size of one process; 0 if it is gone."""
    return _kib(pid, "status", "VmRSS:") * 1024


def peak_rss_bytes(pid: int) -> int:
    """Return the largest resident set size so far of one process; 0 if it is gone."""
    return _kib(pid, "status", "VmHWM:") * 1024


def _kib(pid: int, file: str, key: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8").splitlines():
            if line.startswith(key):
                return int(line.split()[1])
    return 0


class Process:
    """A process in a session of its own: no signal of the terminal reaches it."""

    def __init__(
        self,
        command: Sequence[str],
        stdin: Optional[int] = subprocess.DEVNULL,
        stdout: Optional[int] = subprocess.DEVNULL,
        stderr: Optional[Path] = None,
    ) -> None:
        """Start it. OSError if that fails. `stderr` is the file for what it writes there."""
        self.command = list(command)
        self.stderr_file = stderr
        self.started_ns = time.monotonic_ns()
        with open(stderr or os.devnull, "wb") as errors:
            self._process = subprocess.Popen(
                self.command, stdin=stdin, stdout=stdout, stderr=errors, start_new_session=True
            )
        self._printed = b""

    @property
    def pid(self) -> int:
        """Its PID."""
        return self._process.pid

    def write(self, line: str) -> None:
        """Write a line to its standard input, a pipe. ProcessFailed if nobody reads it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ProcessFailed(self.problem("reads no more")) from None

    def line(self, timeout_s: float = LINE_S) -> str:
        """Return the next line of its standard output, a pipe. ProcessFailed if none comes."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._printed:
            if not select.select([descriptor], [], [], timeout_s)[0]:
                raise ProcessFailed(self.problem(f"printed nothing for {timeout_s:.0f} s"))
            read = os.read(descriptor, 1 << 16)
            if not read:
                raise ProcessFailed(self.problem("printed nothing more"))
            self._printed += read
        line, _, self._printed = self._printed.partition(b"\n")
        return line.decode()

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until `ready` returns true. ProcessFailed if it ends or takes over a minute."""
        deadline = time.monotonic() + _READY_S
        while not ready():
            if self.has_exited():
                raise ProcessFailed(self.problem(f"ended before it was {what}"))
            if time.monotonic() > deadline:
                raise ProcessFailed(self.problem(f"was not {what} after {_READY_S:.0f} s"))
            time.sleep(0.002)

    def has_exited(self) -> bool:
        """Return whether it is a zombie or reaped."""
        return self._process.returncode is not None or (
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        )

    def errors(self) -> str:
        """Return what it has written to standard error."""
        if self.stderr_file is None:
            return ""
        return self.stderr_file.read_text(encoding="utf-8", errors="replace")

    def problem(self, what: str) -> str:
        """Return one line: its name, `what`, and the line of its errors that says most."""
        return f"{Path(self.command[0]).name} {what}: {error_line(self.errors())}"

    def finish(self, timeout_s: float, number: Optional[int] = None) -> int:
        """Send signal `number`, wait, reap: return the exit code, or -N if signal N ended it.

        Its input is closed first. ProcessFailed if it has not ended after `timeout_s`.
        """
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        if number is not None and not self.has_exited():
            os.kill(self.pid, number)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProcessFailed(f"{self.command[0]} did not end in {timeout_s:.0f} s") from None

    def end(self) -> None:
        """End it whatever it does, with its descendants."""
        if self._process.returncode is None:
            for pid in reversed(tree(self.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


@contextmanager
def ended(process: Process) -> Iterator[Process]:
    """Yield a process that ends with the context."""
    try:
        yield process
    finally:
        process.end()


def error_line(text: str) -> str:
    """Return the line of a tool's errors that says most: the first with "error", or the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wrong = [line for line in lines if "error" in line.lower() or "unable" in line.lower()]
    return (wrong or lines[-1:] or ["it printed no error"])[0][:200]
