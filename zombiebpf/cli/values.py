# SPDX-License-Identifier: Apache-2.0
"""Parse the values of options: durations, sizes, times, lines of code, hooks.

Each function returns the parsed value, or raises click.BadParameter if it is invalid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Callable, Optional

import click

from zombiebpf.errors import UsageError
from zombiebpf.trace import Rotation, Since, When

_S = 1_000_000_000
_UNIT_NS = {
    "ns": 1, "us": 1_000, "ms": 1_000_000, "s": _S, "m": 60 * _S, "h": 3600 * _S, "d": 86_400 * _S,
}  # fmt: skip
_LONGEST_NS = 10_000 * _UNIT_NS["d"]
_PART = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)(ns|us|ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)([kmgt]?)(i?)b?", re.ASCII | re.IGNORECASE)
_SMALLEST_PART = 100_000  # bytes: in less, a trace's own tables take most of the room
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:\.(\d{1,9}))?)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?", re.ASCII)
_ZONE = re.compile(r"([+-]\d\d):?(\d\d)$", re.ASCII)


def seconds(value: str) -> float:
    """Return a number of seconds, 0 or more; `inf` is infinity."""
    try:
        result = float(value)
    except ValueError:
        result = math.nan
    if not result >= 0:
        raise click.BadParameter(f"{value!r} is not a number of seconds, 0 or more")
    return result


def duration_ns(value: str) -> int:
    """Return the nanoseconds in `500ms`, `1.5s`, `1h30m` or `7d`; a bare number is seconds."""
    text = value.strip()
    if re.fullmatch(r"\d{1,18}(\.\d{1,9})?", text, re.ASCII):
        text += "s"
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise click.BadParameter(f"{value!r} is no duration; such as 500ms, 10m or 1h30m")
    total = sum(round(float(number) * _UNIT_NS[unit]) for number, unit in parts)
    if total > _LONGEST_NS:
        raise click.BadParameter(f"{value!r} is longer than 10000 days")
    return total


def duration_s(value: str) -> float:
    """Return the seconds in a duration such as `1h30m`; `inf` is infinity."""
    return math.inf if value == "inf" else duration_ns(value) / 1e9


def size_bytes(value: str) -> int:
    """Return the bytes in `100MB` or `64KiB`: K, M, G, T are powers of 1000, Ki... of 1024."""
    found = _SIZE.fullmatch(value.strip())
    if found is None or (found[3] and not found[2]):
        raise click.BadParameter(f"{value!r} is no size; such as 100MB or 2GiB")
    number, unit, binary = found.groups()
    power = " kmgt".index(unit.lower() or " ")
    return round(float(number) * float(1024 if binary else 1000) ** power)


def rotation(value: str) -> Rotation:
    """Return a rotation by size (`100MB`) or by age (`1h`); a number without unit is neither."""
    if value.strip()[-1:].lower() in ("b", "k", "g", "t", "i") or value.strip()[-1:] == "M":
        size = size_bytes(value)
        if size < _SMALLEST_PART:
            raise click.BadParameter(f"{value!r} is too small: 100kB at the least")
        return Rotation(size_bytes=size, age_ns=None)
    try:
        age_ns = 0 if value.strip()[-1:].isdigit() else duration_ns(value)
    except click.BadParameter:
        age_ns = 0
    if age_ns < _UNIT_NS["s"]:
        raise click.BadParameter(
            f"{value!r} is neither a size, such as 100MB, nor an age of 1s or more, such as 1h"
        )
    return Rotation(size_bytes=None, age_ns=age_ns)


def parse_hooks(values: Sequence[str]) -> dict[str, str]:
    """Return {fact: name} for values `FACT=NAME`. Raise UsageError if one is not like that."""
    forced = {}
    for value in values:
        fact, equals, name = value.partition("=")
        if not (fact and equals and name):
            raise UsageError(
                f"--hook {value!r}: expected FACT=NAME", "`zombiebpf doctor` lists them"
            )
        forced[fact] = name
    return forced


def when(text: str) -> When:
    """Return the instant `02:00`, `2026-05-01 02:00`, `10m` or `+30s` (from the start) or `-5m`."""
    value = text.strip()
    clock = _CLOCK.fullmatch(value)
    if clock is not None:
        hours, minutes, seconds, fraction = clock.groups()
        whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds or 0)
        return When(text, Since.MIDNIGHT, whole * 10**9 + int((fraction or "0").ljust(9, "0")))
    if _DATE.fullmatch(value):
        return When(text, Since.EPOCH, _epoch_ns(text, value))
    sign, rest = (value[0], value[1:]) if value[:1] in ("+", "-") else ("+", value)
    try:
        ns = duration_ns(rest)
    except click.BadParameter:
        raise _not_understood(text) from None
    return When(text, Since.START if sign == "+" else Since.END, ns)


def _epoch_ns(text: str, value: str) -> int:
    """Return ns since the epoch; `value` is local time unless it ends in Z or an offset."""
    if value.endswith("Z"):
        value = value[:-1] + "+00:00"
    try:
        found = datetime.fromisoformat(_ZONE.sub(r"\1:\2", value) if len(value) > 11 else value)
        return round(found.timestamp() * 1e9)
    except (ValueError, OverflowError, OSError):
        raise _not_understood(text) from None


def _not_understood(text: str) -> click.BadParameter:
    return click.BadParameter(
        f"{text!r} is no time; such as 02:00, 2026-05-01 02:00, +10m after the start"
        " or -10m before the end"
    )


def site(text: str) -> tuple[str, Optional[int]]:
    """Return (file, line) for `app.py:42`, (file, None) for `app.py`."""
    name, colon, line = text.rpartition(":")
    if colon and line.isascii() and line.isdigit() and len(line) < 10:
        found: tuple[str, Optional[int]] = (name, int(line))
    else:
        found = (text, None)
    if not found[0]:
        raise click.BadParameter(f"{text!r} is no line of code; such as app.py:42")
    return found


def parsed(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a click callback that parses each value of an option, if it is given."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(parse(each) for each in value)
        return None if value is None else parse(value)

    return callback
