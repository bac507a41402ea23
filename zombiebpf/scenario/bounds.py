# SPDX-License-Identifier: Apache-2.0
"""Bounds of an expectation (above, below, about, equals), and whether a measured value holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from zombiebpf.model.units import NS_PER_S
from zombiebpf.scenario.expression import Expression
from zombiebpf.scenario.nodes import Fields

BOUNDS = ("above", "below", "about", "equals", "tolerance")
TIME_BOUNDS = ("above", "below", "about", "tolerance")

SHARE, SLACK_S = 0.25, 0.15  # what "about" allows: a loaded machine is slow

Tristate = Optional[bool]  # None: unknown, the observation does not show it


@dataclass(frozen=True)
class Bounds:
    """Some of the bounds, each an expression over knobs; all must hold."""

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
        """Read the bounds among the keys. Raise ScenarioError if a `needed` one is missing."""
        found = {name: fields[name].expression(name, knobs) for name in names if name in fields}
        if needed and not set(found) - {"tolerance"}:
            raise fields.node.error("a bound is missing", "above, below or about: an expression")
        if "tolerance" in found and "about" not in found:
            raise fields["tolerance"].error("tolerance is of about, which is missing")
        return cls(**found)

    def __bool__(self) -> bool:
        return any((self.above, self.below, self.about, self.equals))

    def words(self, knobs: Mapping[str, object], unit: Callable[[float], str]) -> str:
        """Return `above 480 ms and below 2 s`; `unit` formats a value."""
        parts = []
        for name, bound in (("above", self.above), ("below", self.below)):
            if bound:
                parts.append(f"{name} {unit(bound.value(knobs))}")
        if self.about:
            middle, slack = self._about(knobs)
            parts.append(f"about {unit(middle)} (within {unit(slack)})")
        if self.equals:
            parts.append(unit(self.equals.value(knobs)))
        return " and ".join(parts)

    def hold(self, low: float, high: Optional[float], knobs: Mapping[str, object]) -> Tristate:
        """Judge a value that is known to be in [low, high]; high None: no upper end is known."""
        verdicts: list[Tristate] = []
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

    def hold_ns(self, low: int, high: Optional[int], knobs: Mapping[str, object]) -> Tristate:
        """Judge a duration that is known to be in [low, high] nanoseconds."""
        return self.hold(low / NS_PER_S, None if high is None else high / NS_PER_S, knobs)

    def _about(self, knobs: Mapping[str, object]) -> tuple[float, float]:
        assert self.about is not None
        middle = self.about.value(knobs)
        if self.tolerance is not None:
            return middle, self.tolerance.value(knobs)
        return middle, SHARE * abs(middle) + SLACK_S


def all_of(verdicts: list[Tristate]) -> Tristate:
    """Return False if any verdict is False, else None if any is None."""
    if False in verdicts:
        return False
    return None if None in verdicts else True


def any_of(verdicts: list[Tristate]) -> Tristate:
    """Return True if any verdict is True, else None if any is None."""
    if True in verdicts:
        return True
    return None if None in verdicts else False


def _more(low: float, high: Optional[float], than: float) -> Tristate:
    if low > than:
        return True
    return False if high is not None and high <= than else None


def _less(low: float, high: Optional[float], than: float) -> Tristate:
    if high is not None and high < than:
        return True
    return False if low >= than else None


def _within(low: float, high: Optional[float], first: float, last: float) -> Tristate:
    if high is not None and first <= low and high <= last:
        return True
    return False if low > last or (high is not None and high < first) else None
