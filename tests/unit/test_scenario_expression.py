# SPDX-License-Identifier: Apache-2.0
"""Arithmetic over knobs: its values and its errors."""

from __future__ import annotations

import pytest

from zombiebpf.scenario.expression import Expression, ExpressionError, duration

KNOBS = {"parent": 1.0, "child": 0.4, "children": 3, "name": "x", "flag": True}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("parent - child", 0.6),
        ("0.8 * (parent - child)", 0.48),
        ("children * child / 2", 0.6),
        ("-child + 1", 0.6),
        ("min(parent, child, 2) + max(1, children)", 3.4),
        ("50 ms", 0.05),
        ("1.5s", 1.5),
        ("200 us", 0.0002),
        ("2 min", 120),
        ("parent + 50 ms", 1.05),
        ("min(50 ms, child)", 0.05),
        (0.25, 0.25),
        (3, 3),
    ],
)
def test_value(text: str, value: float) -> None:
    assert Expression(text).value(KNOBS) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("parent -", "is no expression"),
        ("parent ** 2", "only + - * /"),
        ("parent.real", "only + - * /"),
        ("__import__('os')", "no function __import__"),
        ("max(1)", "two values or more"),
        ("'text'", "only + - * /"),
        ("parent if child else 1", "only + - * /"),
        ("True", "only + - * /"),
        ("paren - child", "no knob 'paren'; did you mean 'parent'?"),
        ("name + 1", "'name' is 'x', which is no number"),
        ("flag", "'flag' is True, which is no number"),
        ("1 / (parent - 1)", "division by zero"),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(ExpressionError) as error:
        Expression(text).value(KNOBS)
    assert says in str(error.value)


def test_duration() -> None:
    assert duration("50 ms") == pytest.approx(0.05)
    for text in ("50", "ms", "50 parsecs", "50 ms 3", "-1 s"):
        with pytest.raises(ExpressionError):
            duration(text)
