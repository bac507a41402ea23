# SPDX-License-Identifier: Apache-2.0
"""An observer that itself lives in a PID namespace, as in a container: PIDs are as it sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.kernel.running import PROGRAM, TIMEOUT_S

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc")
# A thread with children execs, then its leader's number is its own; a stranger outside forks too.
WORKLOAD = """
import os, subprocess, sys, threading
if sys.argv[1:] == ["again"]:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            sys.exit(7)
def execs():
    for _ in range(3):
        if os.fork() == 0:
            os._exit(5)
    os.execv(sys.executable, [sys.executable, __file__, "again"])
threading.Thread(target=execs).start()
threading.Event().wait()
"""


def test_pids_are_the_observers_own(tmp_path: Path) -> None:
    program, report = tmp_path / "workload.py", tmp_path / "report.json"
    program.write_text(WORKLOAD)
    inside = [PROGRAM, "run", "--format", "json", "--report", str(report), "--"]
    # two levels down, so that the observer's own level is not the one below the first
    shell = 'exec unshare --pid --fork --mount-proc "$@"'
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", shell, "sh", *inside, sys.executable, str(program)],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        # that a process with threads forks is no news here
        env={**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"},
    )
    assert (done.returncode, done.stderr) == (7, "")
    document = json.loads(report.read_text())
    processes: list[dict[str, Any]] = document["processes"]
    main, *children = processes
    assert main["forker"]["pid"] == main["reaper"]["pid"] == 1  # the observer, here
    assert main["pid"] == main["pidns"]["pid"] < 100
    assert [each["filename"] for each in main["exec"]] == [sys.executable, sys.executable]
    assert len(children) == 3
    for child in children:
        assert child["forker"]["pid"] == main["pid"] != child["forker"]["tid"]
        assert child["pid"] == child["pidns"]["pid"]
        assert child["reaper"]["pid"] == main["pid"]
        assert (child["reaped_by"], child["exit_status"]) == ("parent", 5)
        assert not child["orphaned"]
        assert child["unseen"] == {}
