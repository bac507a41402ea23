# SPDX-License-Identifier: Apache-2.0
"""Every special case of process life: what the observer says against what the process knows.

All selected workloads of zoo/ run under one observer, so that the whole zoo costs one start;
`pytest -k NAME` runs one alone. What only shows when the command ends has a run of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import jsonschema
import pytest
from harness import compare, raw

from tests.kernel.running import Observation, Observing

ZOO = Path(__file__).parent / "zoo"
RUN_CASES = ZOO / "harness" / "run_cases.py"
SCHEMA = Path(__file__).parents[2] / "docs" / "zombiebpf-1.schema.json"
ALONE = {"left_running", "left_zombie", "orphan_ends_later", "orphans_and_forks"}
CASES = sorted({path.stem for path in ZOO.glob("*.py")} - ALONE)
DEADLINE_S = 20.0
Facts = compare.Facts


class ZooRun:
    """One observed run of workloads, and what they know themselves."""

    def __init__(self, observed: Observation) -> None:
        if observed.returncode != 0:
            pytest.fail(f"the run ended with {observed.returncode}:\n{observed.stderr}")
        self.document = observed.document
        self.processes: list[Facts] = observed.document["processes"]
        stated = json.loads(observed.stdout)
        self.main: int = stated["main"]
        self.firsts: dict[str, Facts] = {each["role"]: each for each in stated["lives"]}
        self.cases: dict[str, Facts] = stated["cases"]

    def lives(self, case: str) -> list[Facts]:
        """What the workload knows of its processes, and the runner of its first one."""
        truth = self.cases[case]["truth"] or {}
        return [self.firsts[case], *truth.get("lives", [])]


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest, observation: Callable[..., Observation]) -> ZooRun:
    chosen = [
        item.callspec.params["case"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        if "case" in item.callspec.params
    ]
    return ZooRun(observation(sys.executable, str(RUN_CASES), *(chosen or ["plain"])))


@pytest.mark.parametrize("case", CASES)
def test_case(case: str, run: ZooRun) -> None:
    stated = run.cases[case]
    assert not stated["error"], stated["error"]
    if "unsupported" in stated["truth"]:
        skip_or_fail(case, stated["truth"]["unsupported"])
    differences = []
    for life in run.lives(case):
        found = compare.find(life, run.processes)
        if len(found) == 1:
            differences += compare.of_life(life, found[0])
        else:
            differences.append(f"{life['role']}: seen {len(found)} times as PID {life['pid']}")
    assert not differences, "\n".join([f"{len(differences)} differences", *differences[:40]])


def skip_or_fail(case: str, reason: str) -> None:
    disabled = raw.read_int("/proc/sys/kernel/io_uring_disabled")
    if case == "io_uring" and (raw.kernel_release() < (6, 7) or disabled):
        pytest.skip(reason)
    pytest.fail(f"{case} must work on this kernel: {reason}")


def test_every_life_once_and_no_other(run: ZooRun) -> None:
    seen = sorted(process["pid"] for process in run.processes)
    known = [life["pid"] for case in run.cases for life in run.lives(case)]
    assert seen == sorted([run.main, *known])
    names = {(process["pid"], process["start_ns"]) for process in run.processes}
    assert len(names) == len(run.processes)


def test_nothing_was_lost_and_all_is_within_the_observation(run: ZooRun) -> None:
    meta = run.document["meta"]
    assert meta["lost_events"] == 0
    assert meta["complete"] is True
    for process in run.processes:
        stamps = [process["fork_ns"], *(each["ns"] for each in process["exec"])]
        stamps.append(process["exit_ns"])
        if process["zombie_exact"]:
            stamps.append(process["zombie_ns"])
        stamps.append(process["reap_ns"])
        assert None not in stamps, process
        assert stamps == sorted(stamps), process
        assert meta["started_ns"] <= stamps[0], process
        assert stamps[-1] <= meta["ended_ns"], process


def test_the_command_itself(run: ZooRun) -> None:
    (process,) = [each for each in run.processes if each["pid"] == run.main]
    assert [each["filename"] for each in process["exec"]] == [sys.executable]
    assert process["argv"] == run.document["meta"]["command"]
    assert process["argv"][:2] == [sys.executable, str(RUN_CASES)]
    assert (process["state"], process["exit_status"], process["reaped_by"]) == (
        "reaped",
        0,
        "parent",
    )
    assert process["reaper"]["pid"] == process["forker"]["pid"]
    assert process["zombie_ns"] is not None
    assert process["unseen"] == {}


def test_document_fits_the_schema(run: ZooRun) -> None:
    with open(SCHEMA, encoding="utf-8") as schema:
        jsonschema.validate(run.document, json.load(schema))


@pytest.fixture
def adopting() -> Iterator[int]:
    """While this is used the test process adopts orphans; its PID."""
    raw.become_subreaper()
    yield os.getpid()
    raw.prctl(raw.PR_SET_CHILD_SUBREAPER, 0)


def own_life(stated: Facts, role: str, document: dict[str, Any]) -> tuple[Facts, Facts]:
    """What is known of `role`, and what was seen of it."""
    (truth,) = [life for life in stated["lives"] if life["role"] == role]
    (process,) = compare.find(truth, document["processes"])
    return truth, process


def command(name: str) -> tuple[str, str]:
    return sys.executable, str(ZOO / f"{name}.py")


def adoption(stated: Facts, adopter: int, while_zombie: bool) -> Facts:
    change = {"from": stated["main"], "to": adopter, "kind": "subreaper"}
    return {**change, "while_zombie": while_zombie, "ns": [0, time.monotonic_ns()]}


def reap_adopted(pid: int) -> tuple[list[int], int]:
    """Reap what is to become our child; the time bracket of the reap and the wait status."""
    end = time.monotonic() + DEADLINE_S
    while True:
        low = time.monotonic_ns()
        try:
            _, status = os.waitpid(pid, 0)
            return [low, time.monotonic_ns()], status
        except ChildProcessError:
            if time.monotonic() > end:
                raise
            time.sleep(0.001)


def test_left_running(adopting: int, observation: Callable[..., Observation]) -> None:
    observed = observation(*command("left_running"), options=["--linger", "0"])
    stated = json.loads(observed.stdout)
    truth, process = own_life(stated, "daemon", observed.document)
    os.kill(truth["pid"], signal.SIGKILL)
    reap_adopted(truth["pid"])
    truth["reparents"] = [adoption(stated, adopting, while_zombie=False)]
    assert compare.of_life(truth, process) == []


def test_left_zombie(adopting: int, observation: Callable[..., Observation]) -> None:
    observed = observation(*command("left_zombie"), options=["--linger", "0"])
    stated = json.loads(observed.stdout)
    truth, process = own_life(stated, "zombie", observed.document)
    reap_adopted(truth["pid"])
    truth["reparents"] = [adoption(stated, adopting, while_zombie=True)]
    assert compare.of_life(truth, process) == []


def test_left_zombie_reaped_while_lingering(
    adopting: int, start_observing: Callable[..., Observing]
) -> None:
    observing = start_observing(*command("left_zombie"), options=["--linger", "60"])
    stated = json.loads(observing.readline())
    (pid,) = [life["pid"] for life in stated["lives"]]
    reap, status = reap_adopted(pid)
    truth, process = own_life(stated, "zombie", observing.finish().document)
    truth.update(reap=reap, status=status, state="reaped", reaped_by="adopter")
    truth.update(reaper={"pid": adopting, "tid": adopting})
    truth.update(reap_call={"syscall": "wait4", "options": 0}, waits_timed=[])
    truth["reparents"] = [adoption(stated, adopting, while_zombie=True)]
    truth["may_be_unseen"] = ["reap_call.stack"]
    assert process["unseen"] == {"reap_call.stack": "this Python is not followed"}  # this test
    assert compare.of_life(truth, process) == []


def is_hidden(pid: int) -> bool:
    """Whether this kernel shields `pid` from root, as in virtual machines whose PID 1 belongs
    to their host. No tracepoint fires in it then, nor in an interrupt on top of it: its reaps
    cannot be seen, and now and then not even that the process was freed."""
    try:
        Path(f"/proc/{pid}/syscall").read_text()
    except PermissionError:
        return True
    return False


def differences_of_orphan(truth: Facts, process: Facts, adopter: int) -> list[str]:
    """Compare an orphan: `adopter` has reaped it if it is gone."""
    if truth["state"] == "reaped":
        truth.update(reaped_by="adopter", reaper={"pid": adopter}, waits_timed=[])
        if is_hidden(adopter):
            truth["may_be_unseen"] = ["reaper", "reap_call"]
            truth["state"] = process["state"]
    return compare.of_life(truth, process)


def test_orphan_that_ends_after_the_command(observation: Callable[..., Observation]) -> None:
    observed = observation(*command("orphan_ends_later"), options=["--linger", "20"])
    high = time.monotonic_ns()
    stated = json.loads(observed.stdout)
    truth, process = own_life(stated, "daemon", observed.document)
    # an init that does not wait leaves a zombie, which must be reported as one
    gone = not os.path.exists(f"/proc/{truth['pid']}")
    truth.update(state="reaped" if gone else "zombie", reap=[None, high])
    truth["death"][1] = high
    assert differences_of_orphan(truth, process, truth["reparents"][0]["to"]) == []
    truth, process = own_life(stated, "middle", observed.document)
    assert compare.of_life(truth, process) == []


FORK_ON = """
import os
while True:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.fixture
def forks_elsewhere() -> Iterator[None]:
    """Processes that are not observed come and go meanwhile, as on any machine."""
    forker = subprocess.Popen([sys.executable, "-c", FORK_ON])
    yield
    forker.kill()
    forker.wait()


@pytest.mark.usefixtures("forks_elsewhere")
def test_orphans_and_forks(observation: Callable[..., Observation]) -> None:
    observed = observation(*command("orphans_and_forks"), options=["--linger", "1"])
    stated = json.loads(observed.stdout)
    differences = []
    for truth in stated["lives"]:
        (process,) = compare.find(truth, observed.document["processes"])
        if "adopter" in truth:
            differences += differences_of_orphan(truth, process, truth["adopter"])
        else:
            differences += compare.of_life(truth, process)
    assert len(observed.document["processes"]) == 1 + len(stated["lives"])
    assert not differences, "\n".join([f"{len(differences)} differences", *differences[:40]])
