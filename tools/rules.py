# SPDX-License-Identifier: Apache-2.0
"""Write the built-in attribution rules as Python, which a start loads in a millisecond.

    python tools/rules.py       # rules.yaml -> built_in.py, beside it

tests/unit/test_attribution_rules.py compares the two.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from zombiebpf.attribution.rules.parse import parse
from zombiebpf.attribution.rules.rule import Pattern, Rule

DIRECTORY = Path(__file__).resolve().parents[1] / "zombiebpf" / "attribution" / "rules"
SOURCE, TARGET = DIRECTORY / "rules.yaml", DIRECTORY / "built_in.py"

_HEAD = '''\
# SPDX-License-Identifier: Apache-2.0
"""The rules of rules.yaml, where they are described. Written by `make rules`; do not edit."""

# ruff: noqa: E501

from __future__ import annotations

from zombiebpf.attribution.rules.rule import Pattern, Rule
'''


def as_python() -> str:
    """Return the text of built_in.py. Raise RulesError if rules.yaml is invalid."""
    parsed = parse(SOURCE.read_text(encoding="utf-8"), str(SOURCE))
    rules = "".join(f"    {_rule(each)},\n" for each in parsed.rules)
    objects = "".join(f"    {_value(each)},\n" for each in parsed.objects)
    return f"{_HEAD}\n# fmt: off\nRULES = (\n{rules})\n\nOBJECTS = (\n{objects})\n"


def _rule(rule: Rule) -> str:
    return f"Rule({', '.join(_arguments(rule))})"


def _arguments(rule: Rule) -> Iterator[str]:
    for field in dataclasses.fields(rule):
        value = getattr(rule, field.name)
        if value != field.default:
            yield f"{field.name}={_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, Pattern):
        return f"Pattern({json.dumps(value.text)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))},)" if value else "()"
    return json.dumps(value) if isinstance(value, str) else repr(value)


if __name__ == "__main__":
    TARGET.write_text(as_python(), encoding="utf-8")
