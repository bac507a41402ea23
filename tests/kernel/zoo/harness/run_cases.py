# SPDX-License-Identifier: Apache-2.0
"""Run workloads, one after another: `run_cases.py NAME...` in the directory of the workloads.

One line of JSON on stdout: {"main": pid, "lives": what is known of the workloads' first
processes, a role each, "cases": {NAME: {"truth": what it printed, or null, "error": text}}}.
Whoever a workload leaves behind is ended here, and is an error of it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from harness import raw, truth  # noqa: E402

WORKLOAD_S = 60.0 * float(os.environ.get("ZOMBIEBPF_PATIENCE", "1"))


def argv_of(name: str) -> list[str]:
    # the warning that a process with threads forks is no news here
    path = os.path.join(os.path.dirname(HERE), f"{name}.py")
    return [sys.executable, "-W", "ignore::DeprecationWarning", path]


def run(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix=f"zoo-{name}-") as directory:
        out, err = os.path.join(directory, "stdout"), os.path.join(directory, "stderr")

        def body() -> None:
            os.chdir(directory)
            for path, descriptor in ((out, 1), (err, 2)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
            argv = argv_of(name)
            program = {"filename": argv[0], "ns": [truth.now(), None]}
            comm = os.path.basename(argv[0])[:15]
            truth.say(name, exec=[program], argv=argv, comm=comm)
            os.execve(argv[0], argv, environment)

        environment = {key: value for key, value in os.environ.items() if key != truth.BOARD}
        pid = truth.spawn(name, body)
        timely = ended_within(pid, WORKLOAD_S)
        if not timely:
            os.kill(pid, signal.SIGKILL)
        status = truth.reap(name, pid)
        left = end_all_children()
        with open(out) as printed, open(err) as complaints:
            error = complaints.read()
            lines = printed.read().splitlines()
        if not timely:
            error += f"\n{name} did not end within {WORKLOAD_S:.0f} s"
        if status:
            error += f"\n{name} ended with wait status {status:#x}"
        if left:
            error += f"\n{name} left processes behind: {left}"
        return {"truth": json.loads(lines[-1]) if lines else None, "error": error.strip()}


def ended_within(pid: int, seconds: float) -> bool:
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def end_all_children() -> list[int]:
    """Kill and reap what a case left behind: this process adopts all orphans. Return the PIDs."""
    ended = []
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            for child in map(int, children.read().split()):
                os.kill(child, signal.SIGKILL)
        try:
            ended.append(os.wait()[0])
        except ChildProcessError:
            return ended


def main() -> None:
    raw.become_subreaper()
    cases = {name: run(name) for name in sys.argv[1:]}
    truth.tell(cases=cases)


main()
