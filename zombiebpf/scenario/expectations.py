# SPDX-License-Identifier: Apache-2.0
"""What a scenario expects of the kernel's facts: read from YAML, judged against a run.

Each kind is a class in `expect_life` or `expect_run`; to add one, write it there
and name it in its KINDS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from zombiebpf.scenario.bounds import Truth
from zombiebpf.scenario.expect_life import KINDS as OF_LIVES
from zombiebpf.scenario.expect_run import KINDS as OF_RUNS
from zombiebpf.scenario.kind import Context, Kind
from zombiebpf.scenario.nodes import Node
from zombiebpf.scenario.pythons import Pythons, Version
from zombiebpf.scenario.scene import Scene

__all__ = ["Context", "Expectation", "Outcome", "judge", "parse"]

KINDS: Mapping[str, type[Kind]] = {**OF_LIVES, **OF_RUNS}


class When(NamedTuple):
    """The runs that an expectation is for."""

    start_methods: Optional[Sequence[str]] = None
    pythons: Optional[Pythons] = None

    def applies(self, start_method: object, version: Version) -> bool:
        if self.start_methods is not None and start_method not in self.start_methods:
            return False
        return self.pythons is None or self.pythons.include(version)

    def words(self) -> str:
        parts = []
        if self.start_methods is not None:
            parts.append(" or ".join(self.start_methods))
        if self.pythons is not None:
            parts.append(f"Python {self.pythons.text}")
        return ", ".join(parts)


class Expectation(NamedTuple):
    kind: str
    what: Kind
    when: When
    where: str  # file:line

    def words(self, knobs: Mapping[str, object]) -> str:
        """`child is a zombie for above 480 ms [fork or spawn]`."""
        when = self.when.words()
        return self.what.words(knobs) + (f" [{when}]" if when else "")


class Outcome(NamedTuple):
    """An expectation beside what the kernel showed."""

    kind: str
    held: Truth  # None: what was seen does not tell
    expected: str
    shown: str  # with the measured numbers
    where: str


def parse(node: Node, context: Context) -> Expectation:
    """An item of `expect`: one kind, and perhaps `when`."""
    found = node.mapping("an expectation")
    kinds = [name for name in found if name != "when"]
    fields = node.fields("an expectation", (*KINDS, "when"))
    if len(kinds) != 1:
        raise node.wrong(
            f"an expectation has one kind, here are {', '.join(kinds) or 'none'}",
            "begin each with a dash: - zombie: {of: child, above: 0.3}",
        )
    kind = kinds[0]
    when = _when(fields["when"], context) if "when" in fields else When()
    return Expectation(kind, KINDS[kind].parse(found[kind], context), when, node.where)


def _when(node: Node, context: Context) -> When:
    fields = node.fields("when", ("start_method", "python"))
    methods = fields.get("start_method")
    pythons = fields.get("python")
    return When(
        None if methods is None else methods.some_of("a start method", context.start_methods),
        None if pythons is None else Pythons.read(pythons, "python"),
    )


def judge(
    expect: Sequence[Expectation], scene: Scene, start_method: object, version: Version
) -> list[Outcome]:
    """The outcome of each expectation that is for this run."""
    result = []
    for each in expect:
        if each.when.applies(start_method, version):
            held, shown = each.what.judge(scene)
            result.append(Outcome(each.kind, held, each.what.words(scene.knobs), shown, each.where))
    return result
