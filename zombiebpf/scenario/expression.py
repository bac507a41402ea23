# SPDX-License-Identifier: Apache-2.0
"""Numbers of a scenario: durations with units, and arithmetic over its knobs.

A number without a unit is in seconds where a duration is meant. `50 ms`, `1.5 s`, `200 us`
and `2 min` are seconds too, alone or in an expression: `0.8 * (parent - child) + 50 ms`.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Callable, Union

Number = Union[int, float]

UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}

_WITH_UNIT = re.compile(r"(?<![\w.])(\d+(?:\.\d*)?|\.\d+)\s*(ns|us|ms|s|min)\b(?!\s*\()")
_OPERATORS: Mapping[type, Callable[[Number, Number], Number]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
}
_FUNCTIONS: Mapping[str, Callable[..., Number]] = {"min": min, "max": max}


class ExpressionError(ValueError):
    """An invalid expression; the message says what would be valid."""


class Expression:
    """Arithmetic over knobs: + - * / ( ), numbers, units, knobs' names, min() and max()."""

    def __init__(self, text: Union[str, Number]) -> None:
        """Parse `text`. Raise ExpressionError if it is not such an expression."""
        self.text = str(text)
        try:
            self._tree = ast.parse(_WITH_UNIT.sub(_seconds, self.text), mode="eval").body
        except (SyntaxError, ValueError):
            raise ExpressionError(
                f"{self.text!r} is no expression; such is right: 0.8 * (parent - child), 50 ms"
            ) from None
        _require_simple(self._tree, self.text)

    def value(self, knobs: Mapping[str, object]) -> Number:
        """Return the value. Raise ExpressionError for an unknown knob or one without a number."""
        return _value(self._tree, knobs)


def duration(text: str) -> Number:
    """Return 0.05 for `50 ms`. Raise ExpressionError if `text` is not a number with a unit."""
    match = _WITH_UNIT.fullmatch(text.strip())
    if match is None:
        raise ExpressionError(f"{text!r} is no duration; such is right: 50 ms, 1.5 s, 200 us")
    return float(match[1]) * UNITS[match[2]]


def near(name: str, names: Iterable[str]) -> str:
    """Return `did you mean 'child'?`, or the list of the known names."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, 1, 0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there is {', '.join(known)}" if known else "there is none"


def _seconds(match: re.Match[str]) -> str:
    return f"({match[1]} * {UNITS[match[2]]!r})"


def _require_simple(node: ast.expr, text: str) -> None:
    parts: list[ast.expr] = []
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        parts = [node.operand]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id not in _FUNCTIONS:
            raise ExpressionError(f"{text!r}: no function {node.func.id}(); min and max there are")
        if len(node.args) < 2:
            raise ExpressionError(f"{text!r}: {node.func.id}() takes two values or more")
        parts = list(node.args)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        pass
    elif not isinstance(node, ast.Name):
        raise ExpressionError(
            f"{text!r}: only + - * / ( ), numbers, units, knobs, min and max may stand here"
        )
    for part in parts:
        _require_simple(part, text)


def _value(node: ast.expr, knobs: Mapping[str, object]) -> Number:
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, knobs), _value(node.right, knobs)
        try:
            return _OPERATORS[type(node.op)](left, right)
        except ZeroDivisionError:
            raise ExpressionError("division by zero") from None
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand, knobs)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        return _FUNCTIONS[node.func.id](*(_value(each, knobs) for each in node.args))
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, (int, float))
        return node.value
    assert isinstance(node, ast.Name)
    if node.id not in knobs:
        raise ExpressionError(f"no knob {node.id!r}; {near(node.id, knobs)}")
    found = knobs[node.id]
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise ExpressionError(f"the knob {node.id!r} is {found!r}, which is no number")
    return found
