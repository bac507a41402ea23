# SPDX-License-Identifier: Apache-2.0
"""Attach in the middle of a storm of forks: no process is lost, none comes twice."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, Optional

import pytest

from tests.kernel.attaching import attached, workload
from tests.kernel.running import wait_until
from zombiebpf.kernel import attach_scan
from zombiebpf.model.life import Life, State
from zombiebpf.observe.pipeline import Pipeline
from zombiebpf.observe.rule_files import load_rules
from zombiebpf.observe.selfcheck import start_observer
from zombiebpf.observe.sinks import MemorySink

# bcc 0.26 warns of each str that is given for bytes
pytestmark = pytest.mark.filterwarnings("ignore:not a bytes object:DeprecationWarning")
NOT_YET = {
    "its interpreter was not known to the probes yet",
    "it ended before it was known whether it was Python",
}

# Families: a child that leaves an orphan behind, which has a child of its own that
# it never waits for. Each process reports itself as soon as it is born; the
# adopter of all orphans is this program, by PR_SET_CHILD_SUBREAPER (36).
STORM = """
import ctypes, os, select, sys, time
book = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
def born():
    os.write(book, b"%d %d\\n" % (os.getpid(), time.monotonic_ns()))
def family():
    born()
    if os.fork() == 0:
        born()
        if os.fork() == 0:
            born()
            os._exit(3)
        os._exit(2)
    os._exit(1)
print("ready")
stop = False
while not stop:
    for _ in range(4):
        if os.fork() == 0:
            family()
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    stop = bool(select.select([sys.stdin], [], [], 0)[0])
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
print("done")
sys.stdin.read()
"""


def has_stacks(life: dict[str, Any]) -> bool:
    """Each, or the reason for its lack."""
    unseen, call = life["unseen"], life["reap_call"]
    return (life["fork_stack"] is not None or unseen.get("fork_stack") in NOT_YET) and (
        call["stack"] is not None or unseen.get("reap_call.stack") in NOT_YET
    )


@pytest.mark.parametrize("attempt", range(3))
def test_a_storm_of_forks(attempt: int, tmp_path: Path) -> None:
    book, report = tmp_path / "book", tmp_path / "report"
    with workload(STORM, str(book)) as storm, attached(report, str(storm.pid)) as observer:
        attached_ns = observer.attached_ns
        seen = book.stat().st_size
        wait_until(lambda: book.stat().st_size > seen + 30_000, "a thousand more births")
        assert storm.tell() == "done"
        storm.end()
        document = observer.document()
    born = [tuple(map(int, line.split())) for line in book.read_text().splitlines()]
    after = Counter(pid for pid, ns in born if ns > attached_ns)
    all_time = Counter(pid for pid, _ in born)
    reported = Counter(each["pid"] for each in document["processes"])
    assert document["meta"]["lost_events"] == 0
    assert sum(after.values()) > 1000
    assert not after - reported, "born after it was attached, and not reported"
    assert not reported - all_time - Counter([storm.pid]), "more lives than processes"
    keys = Counter((each["pid"], each["start_ns"]) for each in document["processes"])
    assert set(keys.values()) == {1}
    assert {each["state"] for each in document["processes"]} == {"reaped"}
    # whose fork was seen has all that follows
    whole = [each for each in document["processes"] if each["fork_ns"] is not None]
    assert len(whole) >= sum(after.values())
    stacks = {"fork_stack", "reap_call.stack"}
    assert [each["pid"] for each in whole if each["unseen"].keys() - stacks] == []
    # only of a moment after the start, for which there is a reason, stacks are not known
    assert [(each["pid"], each["unseen"]) for each in whole if not has_stacks(each)] == []
    last = sorted(whole, key=lambda each: each["fork_ns"])[-500:]
    assert [each["pid"] for each in last if each["unseen"]] == []
    assert {each["exit_status"] for each in whole} == {1, 2, 3}
    taken = [each for each in document["processes"] if each["fork_ns"] is None]
    assert storm.pid in [each["pid"] for each in taken]
    for each in taken:
        assert each["unseen"]["fork_ns"] == "since before we looked"
        assert each["parent"]["pid"] is not None


# Starts the program that it is given when it gets a line.
STARTER = """
import subprocess, sys
print("ready")
sys.stdin.readline()
print(subprocess.run(sys.argv[1:], capture_output=True, text=True).stdout.splitlines()[-1])
"""
STORM_SOURCE = Path(__file__).resolve().parents[2] / "bench" / "workloads" / "fork_storm.c"


def sleeps_of(pid: int) -> int:
    """How often the process has gone to sleep."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)$", status, re.M)[0])


def test_a_storm_after_silence_loses_nothing(tmp_path: Path) -> None:
    """On all processors, while the observer is in the longest pause between two reads."""
    storm = str(tmp_path / "fork_storm")
    subprocess.run(["cc", "-O2", "-o", storm, str(STORM_SOURCE)], check=True)
    with workload(STARTER, storm, "1") as app, attached(tmp_path / "r", str(app.pid)) as observer:
        history = [(time.monotonic(), sleeps_of(observer.process.pid))]

        def reads_seldom() -> bool:
            history.append((time.monotonic(), sleeps_of(observer.process.pid)))
            began, sleeps = next(each for each in history if each[0] > history[-1][0] - 1)
            return history[-1][0] - began > 0.9 and history[-1][1] - sleeps < 20

        wait_until(reads_seldom, "fewer than 20 reads in a second")
        forks = json.loads(app.tell())["operations"]
        app.end()
        document = observer.document()
    assert forks > 1000
    assert document["meta"]["lost_events"] == 0
    assert len(document["processes"]) == forks + 2  # the storm itself, and who started it
    assert {each["state"] for each in document["processes"]} == {"reaped"}


# Its child, which has a child already, forks another when asked, and exits:
# both are orphans then, and no way up from them leads to this program any more.
CUT = """
import os, signal, sys
wake, waker = os.pipe()
reported, reporter = os.pipe()
middle = os.fork()
if middle == 0:
    first = os.fork()
    if first == 0:
        signal.pause()
    os.write(reporter, b"%d\\n" % first)
    os.read(wake, 1)
    second = os.fork()
    if second == 0:
        signal.pause()
    os.write(reporter, b"%d\\n" % second)
    os._exit(7)
pids = os.fdopen(reported)
first = pids.readline().strip()
print("ready")
sys.stdin.readline()
os.write(waker, b".")
os.waitpid(middle, 0)
print(middle, first, pids.readline().strip())
sys.stdin.read()
"""


class Cut(NamedTuple):
    """What is known after the family was cut from its root before the walk met it."""

    middle: Optional[Life]
    first: Optional[Life]
    second: Optional[Life]


def cut_while_taking(monkeypatch: pytest.MonkeyPatch) -> Cut:
    collected = MemorySink()
    with workload(CUT) as app, start_observer(selecting=True) as observer:
        pids: list[int] = []
        walk = attach_scan._walk

        def cut_first(bpf: Any) -> int:
            if not pids:
                pids.extend(map(int, app.tell().split()))
            return walk(bpf)

        monkeypatch.setattr(attach_scan, "_walk", cut_first)
        pipeline = Pipeline(observer, collected, load_rules())
        observer.attach_to(attach_scan.Selection(pids=[app.pid]))
        pipeline.drain_all()
        pipeline.finish()
    lives = {life.pid: life for life in collected.lives}
    assert app.pid in lives
    return Cut(*map(lives.get, pids))


def test_who_dies_and_forks_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    middle, first, second = cut_while_taking(monkeypatch)
    assert middle is not None
    assert first is not None
    assert second is not None
    assert (middle.state, middle.exit_status, middle.fork_ns) == (State.REAPED, 7, None)
    assert (first.state, first.fork_ns) == (State.RUNNING, None)
    assert first.parent is not None
    assert first.parent.pid == middle.pid
    assert second.fork_ns is not None
    assert second.forker is not None
    assert second.forker.pid == middle.pid
    for each in (first, second):
        assert [adoption.from_.pid for adoption in each.reparents] == [middle.pid]


@pytest.mark.parametrize("function", ["on_scan_exit", "on_scan_fork"])
def test_each_of_the_probes_is_needed(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above is one that can fail."""
    others = tuple(each for each in attach_scan._DURING_SCAN if each[0] != function)
    assert len(others) == 2
    monkeypatch.setattr(attach_scan, "_DURING_SCAN", others)
    _, first, second = cut_while_taking(monkeypatch)
    if function == "on_scan_exit":
        assert first is None
    else:
        assert second is not None
        assert second.fork_ns is None
