# SPDX-License-Identifier: Apache-2.0
"""Expectations of a scenario: read from YAML, judged against an observed run.

Each kind is a class in `expect_life` or `expect_run`. To add one, write it there
and name it in that module's KINDS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from zombiebpf.scenario.bounds import Tristate
from zombiebpf.scenario.expect_life import KINDS as OF_LIVES
from zombiebpf.scenario.expect_run import KINDS as OF_RUNS
from zombiebpf.scenario.kind import Context, Kind
from zombiebpf.scenario.nodes import Node
from zombiebpf.scenario.observed_run import ObservedRun
from zombiebpf.scenario.python_versions import PythonVersions, Version

KINDS: Mapping[str, type[Kind]] = {**OF_LIVES, **OF_RUNS}


class When(NamedTuple):
    """The runs that an expectation applies to."""

    start_methods: Optional[Sequence[str]] = None
    pythons: Optional[PythonVersions] = None

    def applies(self, start_method: object, version: Version) -> bool:
        """Return whether a run with this start method and Python is one of them."""
        if self.start_methods is not None and start_method not in self.start_methods:
            return False
        return self.pythons is None or self.pythons.include(version)

    def words(self) -> str:
        """Return `fork or spawn, Python >=3.8`; empty if all runs are meant."""
        methods = " or ".join(self.start_methods or ())
        python = f"Python {self.pythons.text}" if self.pythons is not None else ""
        return ", ".join(filter(None, (methods, python)))


class Expectation(NamedTuple):
    """One item of `expect`."""

    kind: str
    what: Kind
    when: When
    where: str  # file:line

    def words(self, knobs: Mapping[str, object]) -> str:
        """Return `child is a zombie for above 480 ms [fork or spawn]`."""
        when = self.when.words()
        return self.what.words(knobs) + (f" [{when}]" if when else "")


class Outcome(NamedTuple):
    """An expectation and what the kernel showed."""

    kind: str
    held: Tristate
    expected: str
    shown: str  # with the measured numbers
    where: str  # file:line of the expectation


def parse(node: Node, context: Context) -> Expectation:
    """Read an item of `expect`: one kind and, optionally, `when`. Raise ScenarioError."""
    found = node.mapping("an expectation")
    kinds = [name for name in found if name != "when"]
    fields = node.fields("an expectation", (*KINDS, "when"))
    if len(kinds) != 1:
        raise node.error(
            f"an expectation has one kind, here are {', '.join(kinds) or 'none'}",
            "begin each with a dash: - zombie: {of: child, above: 0.3}",
        )
    kind = kinds[0]
    when = _when(fields["when"], context) if "when" in fields else When()
    return Expectation(kind, KINDS[kind].parse(found[kind], context), when, node.where)


def _when(node: Node, context: Context) -> When:
    fields = node.fields("when", ("start_method", "python"))
    known = context.start_methods
    methods = fields.read("start_method", lambda node: node.some_of("a start method", known))
    return When(methods, fields.read("python", lambda node: PythonVersions.read(node, "python")))


def judge(
    expect: Sequence[Expectation], observed: ObservedRun, start_method: object, version: Version
) -> list[Outcome]:
    """Judge each expectation that applies to this run."""
    result = []
    for each in expect:
        if each.when.applies(start_method, version):
            held, shown = each.what.judge(observed)
            expected = each.what.words(observed.knobs)
            result.append(Outcome(each.kind, held, expected, shown, each.where))
    return result
