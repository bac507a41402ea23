# SPDX-License-Identifier: Apache-2.0
"""A command's end is Python's own but for its length: threads, handlers, streams, exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ENDS = """
import atexit, sys, threading
from zombiebpf import cli, __main__

def main():
    atexit.register(print, "handler")
    go = threading.Event()
    threading.Thread(target=lambda: (go.wait(10), print("thread"))).start()
    print("main", end=" ")
    go.set()
    sys.exit({code})

cli.main = main
__main__.main()
"""


@pytest.mark.parametrize(
    ("code", "expected"), [("0", 0), ("3", 3), ("None", 0), ("True", 1), ("256", 0), ("'no'", 1)]
)
def test_all_is_done_before_the_end(code: str, expected: int, tmp_path: Path) -> None:
    """Also where standard output is a file, which Python buffers."""
    with (tmp_path / "out").open("w+") as out:
        done = subprocess.run(
            [sys.executable, "-I", "-c", ENDS.format(code=code)],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        out.seek(0)
        assert out.read() == "main thread\nhandler\n"
    assert (done.returncode, done.stderr) == (expected, "no\n" if code == "'no'" else "")


def test_streams_that_cannot_be_written() -> None:
    """Python complains, with an exit code of its own."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-I", "-c", ENDS.format(code="0")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 120
    assert "No space left on device" in done.stderr
