# SPDX-License-Identifier: Apache-2.0
"""A small run of the oracle, and proof that it can say no."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.kernel.running import suite

SEED = "20240229"


@pytest.fixture(scope="module", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.fail("the oracle needs root: try `sudo make test-kernel`")


def oracle(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The oracle's one command, with the checkout's zombiebpf."""
    return suite("oracle", "--seed", SEED, *arguments, timeout=300)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run against ftrace and bpftrace, saved; it had nothing unexplained."""
    path = tmp_path_factory.mktemp("oracle") / "run.json"
    done = oracle("--processes", "300", "--no-strace", "--save", str(path))
    print(done.stdout)  # the seed and the table
    assert done.returncode == 0, done.stdout
    assert "zero unexplained" in done.stdout
    return path


def test_ftrace_and_bpftrace_agree(saved: Path) -> None:
    lives = json.loads(saved.read_text())["lives"]
    assert len(lives) > 300


def test_strace_agrees() -> None:
    done = oracle("--strace", "--strace-processes", "100")
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    assert "zero unexplained" in done.stdout


Document = dict[str, Any]
Process = dict[str, Any]


def reaped_by_parent(process: Process) -> bool:
    return bool(process["reaped_by"] == "parent")


def adopted(process: Process) -> bool:
    return bool(process["orphaned"])


def autoreaped(process: Process) -> bool:
    return bool(process["reaped_by"] == "kernel" and process["zombie_ns"] is None)


def later(field: str) -> Callable[[Process], object]:
    """By 10 ms: no hold-up that ftrace may have seen at that very event is so long."""
    return lambda process: process.update({field: process[field] + 10_000_000})


LIES: dict[str, tuple[Callable[[Process], bool], Callable[[Process], object]]] = {
    "exit status": (reaped_by_parent, lambda p: p.update(exit_status=77, signal=78)),
    "reaper": (reaped_by_parent, lambda p: p["reaper"].update(pid=1)),
    "reaping thread": (reaped_by_parent, lambda p: p["reaper"].update(tid=1)),
    "reaped by": (reaped_by_parent, lambda p: p.update(reaped_by="adopter")),
    "no zombie": (reaped_by_parent, lambda p: p.update(zombie_ns=None)),
    "zombie": (reaped_by_parent, later("zombie_ns")),
    "zombie interval": (reaped_by_parent, later("zombie_interval_ns")),
    "reap": (reaped_by_parent, later("reap_ns")),
    "exit": (reaped_by_parent, later("exit_ns")),
    "fork": (reaped_by_parent, later("fork_ns")),
    "forker": (reaped_by_parent, lambda p: p["forker"].update(tid=1)),
    "exec": (reaped_by_parent, lambda p: p["exec"].append({"ns": p["exit_ns"], "filename": None})),
    "adopter": (adopted, lambda p: p["reparents"][-1]["to"].update(pid=2)),
    "no adoption": (adopted, lambda p: p["reparents"].clear()),
    "broken chain": (adopted, lambda p: p["reparents"][0]["from"].update(pid=2)),
    "a zombie that was not": (autoreaped, lambda p: p.update(zombie_ns=p["exit_ns"])),
    "a reaper that was not": (autoreaped, lambda p: p.update(reaper=p["forker"])),
}


def unexplained(tmp_path: Path, saved: Path, change: Callable[[Document], object]) -> str:
    """What the oracle says of the saved run with its document changed; it must say no."""
    run = json.loads(saved.read_text())
    document = copy.deepcopy(run["document"])
    change(document)
    assert document != run["document"]
    path = tmp_path / "changed.json"
    path.write_text(json.dumps({**run, "document": document}))
    done = oracle("--again", str(path))
    assert done.returncode == 1, done.stdout
    return done.stdout


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_one_process_is_found(lie: str, tmp_path: Path, saved: Path) -> None:
    about, falsify = LIES[lie]
    changed: list[int] = []

    def change(document: Document) -> None:
        # not about the first, the root: when it was made is not compared
        process = next(each for each in document["processes"][1:] if about(each))
        changed.append(process["pid"])
        falsify(process)

    said = unexplained(tmp_path, saved, change)
    assert f"UNEXPLAINED pid {changed[0]}: " in said


@pytest.mark.parametrize("lie", ["one missing", "one twice", "one invented", "lost events"])
def test_a_lie_about_the_whole_is_found(lie: str, tmp_path: Path, saved: Path) -> None:
    def change(document: Document) -> None:
        processes = document["processes"]
        if lie == "one missing":
            del processes[len(processes) // 2]
        elif lie == "one twice":
            processes.append(processes[len(processes) // 2])
        elif lie == "one invented":
            processes.append({**processes[-1], "pid": 2})
        else:
            document["meta"]["lost_events"] = 1

    assert "UNEXPLAINED" in unexplained(tmp_path, saved, change)


def test_the_saved_run_is_still_confirmed(saved: Path) -> None:
    done = oracle("--again", str(saved))
    assert done.returncode == 0, done.stdout
