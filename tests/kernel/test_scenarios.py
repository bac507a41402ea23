# SPDX-License-Identifier: Apache-2.0
"""The article's scenarios: each holds, and none does once its workload contradicts the claim.

All run under one observer, by every start method they are for; then all mutations of
scenario_mutations.yaml under another. `pytest -k NAME` runs one alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kernel.running import PROGRAM

SCENARIOS = Path(__file__).parents[2] / "scenarios"
MUTATIONS: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parent / "scenario_mutations.yaml").read_text(encoding="utf-8")
)
NAMES = sorted(path.stem for path in SCENARIOS.glob("*.yaml"))
TIMEOUT_S = 600
Runs = dict[str, list[dict[str, Any]]]  # by scenario


def run(names: Sequence[str], report: Path, *options: str) -> tuple[int, Runs]:
    """Exit code and runs of `zombiebpf scenario run`."""
    if os.geteuid() != 0:
        pytest.fail("kernel tests need root: try `sudo make test-kernel`")
    done = subprocess.run(
        [PROGRAM, "scenario", "run", "-u", "root", *options, "--report", str(report), *names],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if not report.exists():
        pytest.fail(f"no report, exit {done.returncode}:\n{done.stderr}")
    runs: Runs = {}
    for each in json.loads(report.read_text(encoding="utf-8"))["runs"]:
        runs.setdefault(each["scenario"], []).append(each)
    return done.returncode, runs


def chosen(request: pytest.FixtureRequest, test: str) -> list[str]:
    """The scenarios that the selected tests of that name are about."""
    return sorted(
        {
            str(item.callspec.params["name"])
            for item in request.session.items
            if isinstance(item, pytest.Function) and item.originalname == test
        }
    )


def described(each: dict[str, Any]) -> str:
    """Return a run in a few lines, to be read after a failure."""
    lines = [f"{each['scenario']} ({each['start_method']}): {each['verdict']} {each['why'] or ''}"]
    lines += [
        f"  {outcome['held']}: {outcome['expected']}: {outcome['shown']}"
        for outcome in each["outcomes"]
    ]
    return "\n".join([*lines, each["output"]])


@pytest.fixture(scope="module")
def delivered(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, Runs]:
    names = chosen(request, "test_the_scenario_holds")
    report = tmp_path_factory.mktemp("delivered") / "report.json"
    return run(names or NAMES[:1], report, "--start-method", "all")


@pytest.fixture(scope="module")
def mutated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, Runs]:
    names = chosen(request, "test_the_mutation_does_not_hold")
    directory = tmp_path_factory.mktemp("mutated")
    for name in names:
        shutil.copy(SCENARIOS / f"{name}.yaml", directory)
        text = (SCENARIOS / f"{name}.py").read_text(encoding="utf-8")
        for old, new in MUTATIONS[name]["replace"].items():
            assert old in text
            text = text.replace(old, new)
        (directory / f"{name}.py").write_text(text, encoding="utf-8")
    return run(names, directory / "report.json", "--dir", str(directory))


@pytest.mark.parametrize("name", NAMES)
def test_the_scenario_holds(name: str, delivered: tuple[int, Runs]) -> None:
    runs = [each for each in delivered[1][name] if each["verdict"] != "skipped"]
    assert runs
    assert all(each["outcomes"] for each in runs)
    assert all(each["verdict"] == "held" for each in runs), "\n".join(map(described, runs))
    assert all(each["observation"]["meta"]["lost_events"] == 0 for each in runs)


@pytest.mark.parametrize("name", NAMES)
def test_joins_are_seen_as_they_were_marked(name: str, delivered: tuple[int, Runs]) -> None:
    """From outside, without any mark: the same joins, children, time-outs and results."""
    for each in delivered[1][name]:
        assert each["joins_disagree"] == [], described(each)


def test_there_were_joins_to_compare(delivered: tuple[int, Runs]) -> None:
    marked = [
        join for runs in delivered[1].values() for run in runs for join in run["marked_joins"]
    ]
    returned = {join["returned"] for join in marked}
    assert len(delivered[1]) < len(NAMES) or (
        len(marked) > 40 and {"reaped", "timeout"} <= returned
    )


def test_they_all_held(delivered: tuple[int, Runs]) -> None:
    assert delivered[0] == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_mutation_does_not_hold(name: str, mutated: tuple[int, Runs]) -> None:
    code, runs = mutated
    assert code == 1
    (each,) = runs[name]
    assert each["verdict"] == "not held", described(each)
    broken = {outcome["kind"] for outcome in each["outcomes"] if outcome["held"] is False}
    assert set(MUTATIONS[name]["breaks"]) <= broken, described(each)
