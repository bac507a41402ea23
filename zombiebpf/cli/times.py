# SPDX-License-Identifier: Apache-2.0
"""What a user calls an instant, a line of code or a state, for the filters of a trace."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Optional

import click

from zombiebpf.cli.options import duration_ns
from zombiebpf.trace import Since, When

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:\.(\d{1,9}))?)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?", re.ASCII)
_ZONE = re.compile(r"([+-]\d\d):?(\d\d)$", re.ASCII)


def when(text: str) -> When:
    """`02:00`, `2026-05-01 02:00`, `10m` and `+30s` since the start, `-5m` before the end."""
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
    """Local time, unless it ends in Z or an offset."""
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
    """`app.py:42`, or `app.py` for all its lines."""
    name, colon, line = text.rpartition(":")
    if colon and line.isascii() and line.isdigit() and len(line) < 10:
        found: tuple[str, Optional[int]] = (name, int(line))
    else:
        found = (text, None)
    if not found[0]:
        raise click.BadParameter(f"{text!r} is no line of code; such as app.py:42")
    return found
