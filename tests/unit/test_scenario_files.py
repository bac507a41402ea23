# SPDX-License-Identifier: Apache-2.0
"""The built-in scenarios: YAML and workload fit together, and a reader can follow them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from zombiebpf.scenario import catalog
from zombiebpf.scenario.nodes import ScenarioError
from zombiebpf.scenario.schema import Scenario, read

ROOT = Path(__file__).parents[2]
SCENARIOS = ROOT / "scenarios"
BROKEN = sorted((ROOT / "tests" / "data" / "broken_scenarios").glob("*.yaml"))
MUTATIONS: dict[str, Any] = yaml.safe_load(
    (ROOT / "tests" / "kernel" / "scenario_mutations.yaml").read_text(encoding="utf-8")
)
NAMES = sorted(path.stem for path in SCENARIOS.glob("*.yaml"))
NO_SCENARIO = {"story"}  # what workloads import
ONE_LOOK = 55  # lines
REAPER_KNOBS = {"adopter_delay"}  # knobs that no workload reads

# What the article says or shows, and the scenario that repeats it.
ARTICLE = {
    "longer, no join": "longer-no-join",
    "longer, join()": "longer-join",
    "longer, join(3)": "longer-join-timeout",
    "shorter, no join": "shorter-no-join",
    "shorter, join()": "shorter-join",
    "shorter, join(3), within": "shorter-join-in-time",
    "shorter, join(3), after": "shorter-join-too-short",
    "the parent is killed": "orphan-parent-killed",
    "a zombie whose parent dies": "zombie-parent-dies",
    "join() in the loop": "loop-join-serial",
    "join(0.001) in the loop": "loop-join-brief",
    "start all, join all": "start-all-join-all",
    "daemon": "daemon-child",
    "a timeout longer than the child": "join-returns-early",
    "join's two effects": "join-two-effects",
    "states in ps": "states-in-ps",
    "looking every millisecond": "poller",
    "the open question": "open-question",
}


@pytest.fixture(params=NAMES)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return catalog.load(request.param, SCENARIOS)


def workload(scenario: Scenario) -> ast.Module:
    """Parse the workload as the oldest Python that its scenario supports."""
    text = scenario.workload.read_text(encoding="utf-8")
    return ast.parse(text, str(scenario.workload), feature_version=(3, 7))


def defaults(tree: ast.Module) -> dict[str, object]:
    """Return the arguments of the workload's call of story.knobs()."""
    (call,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "story.knobs"
    )
    return {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}


def test_each_file_has_its_twin() -> None:
    assert sorted({path.stem for path in SCENARIOS.glob("*.py")} - NO_SCENARIO) == NAMES


def test_the_article_is_whole() -> None:
    assert {name for name in ARTICLE.values() if name not in NAMES} == set()


def test_by_hand_and_under_the_engine_the_knobs_are_the_same(scenario: Scenario) -> None:
    expected = {name: value for name, value in scenario.knobs.items() if name not in REAPER_KNOBS}
    if scenario.start_methods:
        expected["start_method"] = scenario.start_methods[0]
    assert defaults(workload(scenario)) == expected


def test_the_workload_is_understood_in_one_look(scenario: Scenario) -> None:
    text = scenario.workload.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= ONE_LOOK
    tree = workload(scenario)
    assert ast.get_docstring(tree)
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert imported <= {"multiprocessing", "os", "signal", "socket", "story", "threading", "time",
                        "sys"}  # fmt: skip


def test_the_facts_that_are_expected_are_told(scenario: Scenario) -> None:
    words = {
        ast.literal_eval(node.args[0])
        for node in ast.walk(workload(scenario))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "story.fact"
    }
    text = (SCENARIOS / f"{scenario.name}.yaml").read_text(encoding="utf-8")
    named = set(re.findall(r"fact: \{name: (\w+)|fact\.(\w+)", text))
    assert {first or second for first, second in named} <= words


def test_the_claim_is_told_in_both_languages(scenario: Scenario) -> None:
    if scenario.article is None:
        return  # a control of ours: the article claims nothing
    chinese = re.compile("[\u4e00-\u9fff]")
    assert chinese.search(scenario.article.claim)
    for text in (scenario.article.claim_en, scenario.article.says, scenario.title):
        assert not chinese.search(text)


def test_where_the_article_is_wrong_numbers_say_so(scenario: Scenario) -> None:
    if scenario.article_verdict in ("wrong", "imprecise"):
        assert scenario.article is not None
        assert "{" in scenario.article.says


def test_each_scenario_has_a_mutation() -> None:
    assert sorted(MUTATIONS) == NAMES


def test_the_mutation_changes_the_workload(scenario: Scenario) -> None:
    mutation = MUTATIONS[scenario.name]
    assert sorted(mutation) == ["breaks", "change", "replace"]
    text = scenario.workload.read_text(encoding="utf-8")
    for old, new in mutation["replace"].items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    ast.parse(text, feature_version=(3, 7))
    assert set(mutation["breaks"]) <= {each.kind for each in scenario.expect}


def test_a_workload_runs_by_hand_and_prints_nothing() -> None:
    path = SCENARIOS / "shorter-join.py"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ZOMBIE")}
    done = subprocess.run(
        [sys.executable, str(path)], env=clean, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_there_are_broken_scenarios() -> None:
    assert BROKEN


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_scenario_says_where_what_and_what_would_be_right(path: Path) -> None:
    """Compare the error with the first line of the file: FILE:LINE: what is wrong."""
    text = path.read_text(encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        read(text, path.name, path.with_suffix(".py"))
    assert f"# {caught.value}" == text.splitlines()[0]
