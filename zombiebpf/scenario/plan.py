# SPDX-License-Identifier: Apache-2.0
"""The plan of a session: scenarios x interpreters x start methods x repetitions. Pure."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from zombiebpf.errors import UsageError
from zombiebpf.scenario import nodes
from zombiebpf.scenario.expression import ExpressionError, near
from zombiebpf.scenario.results import Interpreter
from zombiebpf.scenario.schema import START_METHODS, Scenario

ALL_METHODS = "all"
ADOPTER_DELAY = "adopter_delay"  # a knob of the workload's reaper


class Planned(NamedTuple):
    """A planned run; `skip` says why it is left out."""

    scenario: Scenario
    interpreter: Interpreter
    start_method: Optional[str]
    knobs: Mapping[str, object]  # start_method among them
    skip: str = ""


def plan(
    scenarios: Sequence[Scenario],
    interpreters: Sequence[Interpreter],
    methods: Sequence[str] = (),
    settings: Sequence[str] = (),
    repeat: int = 1,
) -> list[Planned]:
    """Return the runs in their order. Without `methods`, each scenario's default is used.

    `settings` are `KNOB=VALUE`. Raise UsageError for an invalid one, or if nothing can be run.
    """
    knobs = _set(scenarios, settings)
    result = []
    for _ in range(repeat):
        for scenario in scenarios:
            for interpreter in interpreters:
                for method in _methods(scenario, methods):
                    given = {**knobs[scenario.name], "start_method": method}
                    _require_judgeable(scenario, given)
                    skip = _skip(scenario, interpreter, method)
                    result.append(Planned(scenario, interpreter, method, given, skip))
    if all(each.skip for each in result):
        raise UsageError(f"nothing to run: {result[0].scenario.name} {result[0].skip}")
    return result


def _methods(scenario: Scenario, wanted: Sequence[str]) -> Sequence[Optional[str]]:
    if not scenario.start_methods:
        return [None]
    if not wanted:
        return scenario.start_methods[:1]
    if ALL_METHODS in wanted:
        return scenario.start_methods
    return [method for method in START_METHODS if method in wanted]


def _skip(scenario: Scenario, interpreter: Interpreter, method: Optional[str]) -> str:
    if not scenario.python_versions.include(interpreter.version):
        return f"is for Python {scenario.python_versions.text}, this is {interpreter.name}"
    if method is not None and method not in scenario.start_methods:
        return f"is for {' and '.join(scenario.start_methods)}, not for {method}"
    return ""


def _set(scenarios: Sequence[Scenario], settings: Sequence[str]) -> dict[str, dict[str, object]]:
    """Return the knobs of each scenario by its name, with the settings applied."""
    result = {each.name: dict(each.knobs) for each in scenarios}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip()
        if not equals or not text.strip():
            raise UsageError(f"--set {setting!r}: expected KNOB=VALUE", "as in --set child=0.5")
        if name == "start_method":
            raise UsageError("start_method is no knob for --set", "use --start-method")
        having = [knobs for knobs in result.values() if name in knobs]
        if not having:
            known = {knob for knobs in result.values() for knob in knobs}
            raise UsageError(
                f"--set {setting!r}: no chosen scenario has that knob", near(name, known)
            )
        for knobs in having:
            knobs[name] = _value(setting, text.strip(), knobs[name])
    return result


def _value(setting: str, text: str, default: object) -> object:
    """Read a value of the same type as the default."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(default, (int, float)):
            return nodes.number(text)
        if isinstance(default, list):
            found = ast.literal_eval(text)
            if not isinstance(found, list):
                raise ValueError("no list")
            return found
    except (ExpressionError, KeyError, ValueError, SyntaxError):
        raise UsageError(f"--set {setting!r}: the value must be one like {default!r}") from None
    return text


def _require_judgeable(scenario: Scenario, knobs: Mapping[str, object]) -> None:
    try:
        for each in scenario.expect:
            each.words(knobs)
    except ExpressionError as error:
        raise UsageError(f"{scenario.name}: {each.where}: with these knobs: {error}") from None
