# SPDX-License-Identifier: Apache-2.0
"""Above, below, about, equals: whether a measured value, or what is known of it, lies within."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from zombiebpf.scenario.expression import Expression
from zombiebpf.scenario.nodes import Fields

BOUNDS = ("above", "below", "about", "equals", "tolerance")
TIME_BOUNDS = ("above", "below", "about", "tolerance")

SHARE, SLACK_S = 0.25, 0.15  # what "about" allows: a loaded machine is slow

Truth = Optional[bool]  # None: what was seen does not tell


@dataclass(frozen=True)
class Bounds:
    """Any of the bounds, each an expression over knobs; all must hold."""

    above: Optional[Expression] = None
    below: Optional[Expression] = None
    about: Optional[Expression] = None
    equals: Optional[Expression] = None
    tolerance: Optional[Expression] = None

    @classmethod
    def read(
        cls,
        fields: Fields,
        knobs: Mapping[str, object],
        needed: bool = True,
        names: Sequence[str] = BOUNDS,
    ) -> Bounds:
        """From the keys of an expectation; ScenarioError if there must be one and is none."""
        found = {name: fields[name].expression(name, knobs) for name in names if name in fields}
        if needed and not set(found) - {"tolerance"}:
            raise fields.node.wrong("a bound is missing", "above, below or about: an expression")
        if "tolerance" in found and "about" not in found:
            raise fields["tolerance"].wrong("tolerance is of about, which is missing")
        return cls(**found)

    def __bool__(self) -> bool:
        return any((self.above, self.below, self.about, self.equals))

    def words(self, knobs: Mapping[str, object], unit: Callable[[float], str]) -> str:
        """`above 480 ms and below 2 s`."""
        parts = []
        if self.above:
            parts.append(f"above {unit(self.above.value(knobs))}")
        if self.below:
            parts.append(f"below {unit(self.below.value(knobs))}")
        if self.about:
            middle, slack = self._about(knobs)
            parts.append(f"about {unit(middle)} (within {unit(slack)})")
        if self.equals:
            parts.append(f"{unit(self.equals.value(knobs))}")
        return " and ".join(parts)

    def source(self) -> str:
        """As it stands in the YAML."""
        parts = []
        for name in BOUNDS:
            expression: Optional[Expression] = getattr(self, name)
            if expression is not None:
                parts.append(f"{name} {expression.text}")
        return ", ".join(parts)

    def hold(self, low: float, high: Optional[float], knobs: Mapping[str, object]) -> Truth:
        """For a value of which is known that it is in [low, high]; high None: no end is known."""
        verdicts: list[Truth] = []
        if self.above:
            verdicts.append(_more(low, high, self.above.value(knobs)))
        if self.below:
            verdicts.append(_less(low, high, self.below.value(knobs)))
        if self.about:
            middle, slack = self._about(knobs)
            verdicts.append(_within(low, high, middle - slack, middle + slack))
        if self.equals:
            value = self.equals.value(knobs)
            verdicts.append(_within(low, high, value, value))
        return all_of(verdicts)

    def _about(self, knobs: Mapping[str, object]) -> tuple[float, float]:
        assert self.about is not None
        middle = self.about.value(knobs)
        if self.tolerance is not None:
            return middle, self.tolerance.value(knobs)
        return middle, SHARE * abs(middle) + SLACK_S


def all_of(verdicts: list[Truth]) -> Truth:
    """False if one is, else None if one is."""
    if False in verdicts:
        return False
    return None if None in verdicts else True


def any_of(verdicts: list[Truth]) -> Truth:
    """True if one is, else None if one is."""
    if True in verdicts:
        return True
    return None if None in verdicts else False


def _more(low: float, high: Optional[float], than: float) -> Truth:
    if low > than:
        return True
    return False if high is not None and high <= than else None


def _less(low: float, high: Optional[float], than: float) -> Truth:
    if high is not None and high < than:
        return True
    return False if low >= than else None


def _within(low: float, high: Optional[float], first: float, last: float) -> Truth:
    if high is not None and first <= low and high <= last:
        return True
    return False if low > last or (high is not None and high < first) else None
