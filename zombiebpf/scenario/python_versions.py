# SPDX-License-Identifier: Apache-2.0
"""The Python versions that a scenario supports: `>=3.8`, `>=3.7, <3.12`."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Callable, NamedTuple

from zombiebpf.scenario.nodes import Node

Version = tuple[int, ...]  # (3, 11, 2)

_BOUND = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+){0,2})\s*")
_OPERATORS: dict[str, Callable[[Version, Version], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


class PythonVersions(NamedTuple):
    """Bounds that hold for each supported version."""

    text: str
    bounds: Sequence[tuple[str, Version]]

    @classmethod
    def any(cls) -> PythonVersions:
        """Return the versions that zombiebpf/scenario/workload/story.py supports."""
        return cls(">=3.7", ((">=", (3, 7)),))

    @classmethod
    def read(cls, node: Node, what: str) -> PythonVersions:
        """Read `>=3.7, <3.12`. Raise ScenarioError for an invalid bound."""
        text = node.text(what)
        bounds = []
        for part in text.split(","):
            match = _BOUND.fullmatch(part)
            if match is None:
                raise node.error(f"{what}: {part.strip()!r} is no bound", '">=3.8", ">=3.7, <3.12"')
            bounds.append((match[1], tuple(int(each) for each in match[2].split("."))))
        return cls(text, tuple(bounds))

    def include(self, version: Version) -> bool:
        """Return whether a version is supported.

        A bound of two numbers compares minor versions: 3.12.1 is not `>3.12`.
        """
        return all(_OPERATORS[sign](version[: len(than)], than) for sign, than in self.bounds)
