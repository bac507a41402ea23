# SPDX-License-Identifier: Apache-2.0
"""In the VM: `stacks.py PROGRAM PYTHON...`: does each Python's fork tell the line it came from?"""

from __future__ import annotations

import json
import subprocess
import sys

WORKLOAD = """import os, time

def inner():
    child = os.fork()
    if child == 0:
        os._exit(5)
    return os.waitpid(child, 0)

def outer():
    return inner()

class Room:
    def work(self):
        return [outer() for _ in range(2)]

Room().work()
"""


def main() -> int:
    program, *pythons = sys.argv[1:]
    failed = 0
    with open("/run/workload.py", "w") as file:
        file.write(WORKLOAD)
    with open("/run/all.sh", "w") as file:
        file.writelines(f"{python} /run/workload.py\n" for python in pythons)
    report = "/run/out/stacks.json"
    subprocess.run(
        [program, "run", "-u", "root", "--format", "json", "--report", report, "sh", "/run/all.sh"],
        check=True,
    )
    with open(report) as file:
        document = json.load(file)
    for python in pythons:
        failed += not told(python, document)
    return int(failed > 0)


def told(python: str, document: dict) -> bool:
    """Print what was seen of one Python's two children; whether it is right."""
    pids = [
        each["pid"] for each in document["processes"]
        if (each["argv"] or [])[:2] == [python, "/run/workload.py"]
    ]  # fmt: skip
    version = subprocess.run([python, "-V"], stdout=subprocess.PIPE, text=True).stdout.strip()
    children = [
        each for each in document["processes"]
        if each["forker"]["pid"] in pids and each["exit_status"] == 5
    ]  # fmt: skip
    right = len(children) == 2
    for child in children:
        fork = frames(child.get("fork_stack"))
        reap = frames((child.get("reap_call") or {}).get("stack"))
        print(version, "forked:", " < ".join(fork), "; reaped:", " < ".join(reap))
        right &= [each.split(":")[0] for each in fork[:2]] == ["inner", "outer"]
        right &= fork[:1] == ["inner:4"] and reap[:1] == ["inner:7"]
        right &= any("Room.work:14" in each or "work:14" in each for each in fork)
        if not fork:
            print("  unseen:", child.get("unseen"))
    print(version, "ok" if right else "WRONG", f"({len(children)} children)")
    return right


def frames(stack: object) -> list:
    found = stack if isinstance(stack, list) else []
    return [f"{frame['function']}:{frame['line']}" for frame in found]


if __name__ == "__main__":
    sys.exit(main())
