# SPDX-License-Identifier: Apache-2.0
"""The progress bar: only on a terminal, only for what takes long, and gone at the end."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from zombiebpf.cli import progress
from zombiebpf.reports.output.destination import Output

SCRIPT = """
import sys
from zombiebpf.cli import progress
progress.SILENT_S = float(sys.argv[1])
from zombiebpf.reports.output.destination import Output
with progress.progress_bar(Output(None, sys.stdout), sys.argv[2]) as bar:
    bar.advance(0, 0)
    for done in range(5):
        bar.advance(done, 4)
        bar.advance(0, 0)
sys.stderr.write("rich" if "rich.progress" in sys.modules else "none")
"""


def on_terminal(silent_s: float, format_: str = "text", stdout: bool = False) -> str:
    """What a process writes to a terminal that is its standard error, and output if `stdout`."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(silent_s), format_],
        stdout=theirs if stdout else subprocess.DEVNULL,
        stderr=theirs,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(theirs)
    found = b""
    try:
        while True:
            read = os.read(ours, 65536)
            if not read:
                break
            found += read
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert done.wait() == 0
    return found.decode()


def test_what_takes_long_is_shown_and_removed() -> None:
    shown = on_terminal(0)
    assert "report" in shown
    assert shown.endswith("\x1b[2Krich")  # its line is erased


def test_what_is_fast_is_not() -> None:
    assert on_terminal(1000) == "none"


def test_a_report_that_streams_to_the_terminal_has_none() -> None:
    assert on_terminal(0, "csv", stdout=True) == "none"
    assert on_terminal(0, "csv") != "none"
    assert on_terminal(0, "text", stdout=True) != "none"


def test_nothing_is_written_to_a_file(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SILENT_S", 0.0)
    with progress.progress_bar(Output(None, sys.stdout), "text") as bar:
        bar.advance(1, 2)
    assert capfd.readouterr().err == ""
