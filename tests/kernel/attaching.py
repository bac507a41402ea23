# SPDX-License-Identifier: Apache-2.0
"""Programs to attach to, and `zombiebpf attach` under way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Optional

from tests.kernel.running import PROGRAM, TIMEOUT_S


class Workload:
    """A Python program that has said "ready" and now waits for lines on its standard input."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def tell(self, line: str = "") -> str:
        """Give it a line, and wait for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.readline()

    def readline(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """Close its standard input and wait for it."""
        self.process.communicate(timeout=TIMEOUT_S)


@contextmanager
def workload(source: str, *arguments: str, prefix: Sequence[str] = ()) -> Iterator[Workload]:
    with program(*prefix, sys.executable, "-u", "-c", source, *arguments) as running:
        yield running


@contextmanager
def program(*command: str) -> Iterator[Workload]:
    """It is killed at the end, in its own process group, if it still is there."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            running = Workload(process)
            assert running.readline() == "ready"
            yield running
        finally:
            for stop in (process.kill, lambda: os.killpg(process.pid, signal.SIGKILL)):
                with suppress(ProcessLookupError):
                    stop()


class Attached:
    """`zombiebpf attach ...` that has taken over what exists."""

    def __init__(self, process: subprocess.Popen[str], report: Path) -> None:
        self.process = process
        self._report = report
        self.attached_ns = time.monotonic_ns()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def document(self) -> dict[str, Any]:
        """Its JSON report, once it has ended by itself, well."""
        _, stderr = self.process.communicate(timeout=TIMEOUT_S)
        assert self.process.returncode == 0, stderr
        found: dict[str, Any] = json.loads(self._report.read_text())
        return found

    def stop(self) -> dict[str, Any]:
        """The same, after Ctrl-C."""
        self.signal(signal.SIGINT)
        return self.document()


@contextmanager
def attached(
    report: Path, *arguments: str, json_report: bool = True, prefix: Sequence[str] = ()
) -> Iterator[Attached]:
    """Entered once it has said that it is attached."""
    options = ["--format", "json", "--report", str(report)] if json_report else []
    with subprocess.Popen(
        [*prefix, PROGRAM, "attach", *options, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("zombiebpf: attached: "), line + process.stderr.read()
            yield Attached(process, report)
        finally:
            process.kill()


def lives_of(document: dict[str, Any], pid: int) -> list[dict[str, Any]]:
    return [each for each in document["processes"] if each["pid"] == pid]


def life_of(document: dict[str, Any], pid: int) -> dict[str, Any]:
    """The one life of this PID."""
    (found,) = lives_of(document, pid)
    return found


def start_ticks(pid: int) -> int:
    """Field 22 of /proc/PID/stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def state_of(pid: int) -> Optional[str]:
    """R, S, Z...; None: gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None
