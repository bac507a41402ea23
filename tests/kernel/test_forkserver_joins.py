# SPDX-License-Identifier: Apache-2.0
"""Joins under a fork server: which child each is for, against what the program itself knows."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Callable

import pytest

from tests.kernel.running import Observation

WORKLOAD = """
import json, multiprocessing, random, sys, threading, time

def live(seconds):
    time.sleep(seconds)

def work(seed, count, calls):
    chance, tid = random.Random(seed), threading.get_native_id()
    for _ in range(count):
        child = multiprocessing.Process(target=live, args=(chance.uniform(0.05, 0.2),))
        child.start()
        for timeout in (0.02, None):
            began = time.monotonic_ns()
            child.join(timeout)
            calls.append((tid, child.pid, began, time.monotonic_ns()))

def together(count):
    calls, tid = [], threading.get_native_id()
    children = [multiprocessing.Process(target=live, args=(0.4,)) for _ in range(count)]
    for child in children:
        child.start()
    for timeout in (0.01, None):
        for child in children:
            began = time.monotonic_ns()
            child.join(timeout)
            calls.append((tid, child.pid, began, time.monotonic_ns()))
    return calls

if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    alone = together(5)
    work(7, 5, alone)
    several = []
    threads = [threading.Thread(target=work, args=(seed, 6, several)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump({"alone": alone, "several": several}, sys.stdout)
"""


@pytest.fixture(scope="module")
def outcome(
    observation: Callable[..., Observation], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Counter[str]]:
    """How often the child of a join was right, wrong or null; and joins not seen, by part."""
    workload = tmp_path_factory.mktemp("workload") / "app.py"
    Path(workload).write_text(WORKLOAD, encoding="utf-8")
    observed = observation(sys.executable, str(workload))
    assert observed.document["meta"]["lost_events"] == 0
    joins = [
        join for join in observed.document["joins"]
        if (join["kind"] or "").startswith("Process.join")
    ]  # fmt: skip
    found: dict[str, Counter[str]] = {}
    for part, calls in json.loads(observed.stdout).items():
        counts = found[part] = Counter()
        for tid, pid, began, ended in calls:
            inside = [
                join for join in joins
                if join["tid"] == tid and began <= join["began_ns"] and join["ended_ns"] <= ended
            ]  # fmt: skip
            if not inside:
                counts["unseen"] += 1
            for join in inside:
                known = {None: "null", pid: "right"}
                counts[known.get(join["child_pid"], "wrong")] += 1
    return found


def test_no_join_is_said_to_be_for_another_child(outcome: dict[str, Counter[str]]) -> None:
    assert [counts["wrong"] for counts in outcome.values()] == [0, 0], outcome


def test_one_threads_children_are_told(outcome: dict[str, Counter[str]]) -> None:
    """But for a start() that the server, on another processor, was too quick for."""
    counts = outcome["alone"]
    assert counts["right"] > counts["null"] + counts["unseen"], outcome
