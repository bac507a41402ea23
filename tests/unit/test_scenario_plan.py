# SPDX-License-Identifier: Apache-2.0
"""The plan of a session, and the catalog of scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.scenario_builders import PYTHON, SAMPLE, sample
from zombiebpf.errors import UsageError
from zombiebpf.scenario import catalog
from zombiebpf.scenario.nodes import ScenarioError
from zombiebpf.scenario.plan import plan
from zombiebpf.scenario.results import Interpreter

OLD = Interpreter("/usr/bin/python3.7", (3, 7, 16))


def test_the_first_start_method_is_the_default() -> None:
    assert [each.start_method for each in plan([sample()], [PYTHON])] == ["fork"]
    found = plan([sample()], [PYTHON], ["all"])
    assert [each.start_method for each in found] == ["fork", "spawn", "forkserver"]
    assert [each.knobs["start_method"] for each in found] == ["fork", "spawn", "forkserver"]


def test_pythons_and_repetitions() -> None:
    found = plan([sample()], [PYTHON, OLD], ["spawn"], repeat=3)
    assert [each.interpreter for each in found] == [PYTHON, OLD] * 3


def test_scenarios_without_multiprocessing_run_once() -> None:
    text = "[{zombie: {of: child, above: 0.1}}]"
    found = plan([sample(start_methods="[]", expect=text)], [PYTHON], ["all"])
    assert [each.start_method for each in found] == [None]


def test_what_a_scenario_is_not_for_is_skipped_with_the_reason() -> None:
    scenario = sample(pythons="'>=3.8'", start_methods="[fork]")
    found = plan([scenario], [PYTHON, OLD], ["fork"])
    assert [each.skip for each in found] == ["", "is for Python >=3.8, this is 3.7.16"]
    found = plan([scenario], [PYTHON], ["fork", "spawn"])
    assert [each.skip for each in found] == ["", "is for fork, not for spawn"]


def test_nothing_to_run_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"nothing to run: sample is for Python >=3\.8"):
        plan([sample(pythons="'>=3.8'")], [OLD])


def test_knobs_are_set_and_expectations_follow() -> None:
    (found,) = plan([sample()], [PYTHON], settings=["child=200 ms", "parent=2"])
    assert found.knobs == {"parent": 2, "child": 0.2, "start_method": "fork"}
    words = [each.words(found.knobs) for each in found.scenario.expect]
    assert "child is a zombie for above 1.08 s [fork]" in words


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("child", "expected KNOB=VALUE"),
        ("child=", "expected KNOB=VALUE"),
        ("chidl=1", "did you mean 'child'?"),
        ("child=long", "must be one like 0.4"),
        ("start_method=spawn", "use --start-method"),
    ],
)
def test_settings_that_cannot_be_meant(setting: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        plan([sample()], [PYTHON], settings=[setting])
    assert says in str(error.value)


def test_settings_that_break_an_expectation() -> None:
    scenario = sample(expect="[{zombie: {of: child, above: 1 / (parent - child)}}]")
    with pytest.raises(UsageError, match="with these knobs: division by zero"):
        plan([scenario], [PYTHON], settings=["parent=0.4"])


def test_the_catalogue_of_a_directory() -> None:
    (found,) = catalog.choose(["sample", "all"], SAMPLE.parent)
    assert found.name == "sample"
    assert found.workload == SAMPLE.with_suffix(".py")
    with pytest.raises(UsageError) as error:
        catalog.choose(["smaple"], SAMPLE.parent)
    assert "did you mean 'sample'?" in str(error.value)


def test_a_directory_without_scenarios(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no scenario in"):
        catalog.choose(["all"], tmp_path)
    with pytest.raises(UsageError, match="no such directory"):
        catalog.choose(["all"], tmp_path / "none")


def test_a_scenario_without_its_workload(tmp_path: Path) -> None:
    (tmp_path / "alone.yaml").write_text(SAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"alone\.yaml:1: its workload is missing"):
        catalog.choose(["alone"], tmp_path)
