# SPDX-License-Identifier: Apache-2.0
"""Durations, sizes, instants and lines of code as a user writes them."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from typing import Callable

import click
import pytest

from tests.unit.life_builders import S, analysis
from zombiebpf.cli.values import duration_ns, duration_s, rotation, site, size_bytes, when
from zombiebpf.errors import UsageError
from zombiebpf.trace import Rotation

H = 3600 * S


def test_durations() -> None:
    assert [duration_ns(each) for each in ("500ms", "1.5s", "10m", "2h", "7d", "1h30m", "3")] == [
        S // 2, 3 * S // 2, 600 * S, 2 * H, 7 * 24 * H, 3 * H // 2, 3 * S,
    ]  # fmt: skip
    assert [duration_ns(each) for each in ("0", "7ns", "7us", " 1s ", "0.25")] == [
        0, 7, 7000, S, S // 4,
    ]  # fmt: skip
    assert (duration_s("1500ms"), duration_s("inf")) == (1.5, math.inf)


def test_sizes() -> None:
    assert [size_bytes(each) for each in ("7", "7B", "100MB", "1.5G", "64KiB", "2g", "1TiB")] == [
        7, 7, 100 * 10**6, 1_500_000_000, 65536, 2 * 10**9, 2**40,
    ]  # fmt: skip


def test_rotations() -> None:
    assert rotation("100MB") == Rotation(100 * 10**6, None)
    assert rotation("2GiB") == Rotation(2**31, None)
    assert rotation("500M") == Rotation(500 * 10**6, None)  # and not 500 minutes,
    assert rotation("500m") == Rotation(None, 500 * 60 * S)  # for a lower m is minutes
    assert rotation("1h") == Rotation(None, H)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((duration_ns, text) for text in ("", "x", "-1s", "1x", "1s x", "1e3", "inf", "9" * 30)),
        *((duration_ns, text) for text in ("1 s", "s", "1s,2s", "20000d", "٣s", "1.s")),
        *((size_bytes, text) for text in ("", "MB", "-1MB", "1XB", "1iB", "1 MB", "inf", "1e9")),
        *((rotation, text) for text in ("", "100", "1ms", "10kB", "0h", "x", "1X", "0")),
        *((when, text) for text in ("", "25:00", "2:60", "noon", "2026-13-01", "--5m", "02:00Z")),
        *((when, text) for text in ("2026-05-01 02", "9999-99-99", "+", "-")),
        *((site, text) for text in ("", ":42")),
    ],
)
def test_what_is_not_understood(parse: Callable[[str], object], text: str) -> None:
    if text == "2026-05-01 02":  # datetime.fromisoformat takes an hour alone
        assert parse(text)
        return
    with pytest.raises(click.BadParameter):
        parse(text)


def test_sites() -> None:
    assert site("app.py:42") == ("app.py", 42)
    assert site("/srv/a:b.py") == ("/srv/a:b.py", None)
    assert site("app.py") == ("app.py", None)


def resolved(text: str, began: str, hours: float) -> str:
    """The local time of day that it means in a trace that began then, and lasted."""
    wall = datetime.fromisoformat(began).timestamp()
    meta = replace(analysis([]).meta, started_wall=wall)
    meta = replace(meta, ended_ns=meta.started_ns + int(hours * H))
    ns = when(text).resolve(meta) - meta.started_ns
    return datetime.fromtimestamp(wall + ns / 1e9).isoformat(" ", "milliseconds")


@pytest.mark.parametrize(
    ("text", "began", "hours", "expected"),
    [
        ("02:00", "2026-05-01 22:00", 9, "2026-05-02 02:00:00.000"),  # over midnight
        ("23:30", "2026-05-01 22:00", 9, "2026-05-01 23:30:00.000"),
        ("02:00", "2026-05-01 03:00", 2, "2026-05-01 02:00:00.000"),  # before it began
        ("04:00:30.25", "2026-05-01 03:00", 0.5, "2026-05-01 04:00:30.250"),  # after it ended
        ("02:00", "2026-05-01 01:00", 72, "2026-05-01 02:00:00.000"),  # the first of several
        ("2026-05-03 02:00", "2026-05-01 01:00", 72, "2026-05-03 02:00:00.000"),
        ("2026-05-03T02:00:01", "2026-05-01 01:00", 72, "2026-05-03 02:00:01.000"),
        ("2026-05-03", "2026-05-01 01:00", 72, "2026-05-03 00:00:00.000"),
        ("10m", "2026-05-01 01:00", 1, "2026-05-01 01:10:00.000"),
        ("+90s", "2026-05-01 01:00", 1, "2026-05-01 01:01:30.000"),
        ("-5m", "2026-05-01 01:00", 1, "2026-05-01 01:55:00.000"),
    ],
)
def test_instants(text: str, began: str, hours: float, expected: str) -> None:
    assert resolved(text, began, hours) == expected


def test_zones() -> None:
    meta = replace(analysis([]).meta, started_wall=1_777_600_000.0)  # 2026-05-01T01:46:40Z
    for text in ("2026-05-01T01:47:40Z", "2026-05-01 03:47:40+02:00", "2026-05-01 03:47:40+0200"):
        assert when(text).resolve(meta) - meta.started_ns == 60 * S


def test_a_trace_without_the_time_of_day() -> None:
    for text in ("02:00", "2026-05-01 02:00"):
        with pytest.raises(UsageError, match="does not know the time of day"):
            when(text).resolve(analysis([]).meta)
    assert when("10s").resolve(analysis([]).meta) == analysis([]).meta.started_ns + 10 * S
