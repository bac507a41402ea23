# SPDX-License-Identifier: Apache-2.0
"""The log of a workload, and its correlation with process records."""

from __future__ import annotations

import json
from typing import Any, Optional

import pytest

from tests.unit.life_builders import BEGAN, MS, S, autoreaped, ended, life, zombie
from tests.unit.scenario_builders import join
from zombiebpf.model.life import Life
from zombiebpf.scenario.joins import correlate, life_at
from zombiebpf.scenario.workload_log import Fact, LoggedJoin, LoggedStart, WorkloadLogError, parse

C = 41231
JOIN = {
    "kind": "join", "pid": 1, "tid": 2, "child": 3, "timeout_s": 0.5, "began_ns": 10, "ns": 20,
    "status": None,
}  # fmt: skip


def lines(*entries: Any) -> bytes:
    return "".join(json.dumps(each) + "\n" for each in entries).encode()


def test_log() -> None:
    found = parse(
        lines(
            {"kind": "keeper", "pid": 7, "ns": 1},
            {"kind": "started", "ns": 5, "pid": 7, "child": 8, "role": "parent"},
            {"kind": "fact", "ns": 6, "pid": 8, "tid": 8, "name": "x", "value": [1, "a"]},
            JOIN,
        )
    )
    assert found.reaper_pid == 7
    assert found.started == [LoggedStart(5, 8, "parent")]
    assert found.facts == [Fact(6, 8, "x", [1, "a"])]
    assert found.joins == [LoggedJoin(1, 2, 3, 0.5, 10, 20, None)]
    assert not found.out_of_time
    assert not found.interrupted


def test_nothing_was_told() -> None:
    assert parse(b"").started == []


@pytest.mark.parametrize("kind", ["out_of_time", "interrupted"])
def test_ends(kind: str) -> None:
    found = parse(lines({"kind": kind, "pid": 7, "ns": 1}))
    assert found.out_of_time is (kind == "out_of_time")
    assert found.interrupted is (kind == "interrupted")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "line 2"),
        (b"[]", "line 2"),
        (b'{"kind": "strange"}', "unknown kind 'strange'"),
        (b'{"kind": "fact", "ns": 1, "pid": 2, "value": 3}', "no 'name'"),
        (b'{"kind": "started", "ns": "1", "child": 2, "role": "r"}', "'1' is no whole number"),
        (lines({**JOIN, "ns": 5}).strip(), "ends before it begins"),
        (b'{"kind": "keeper", "pid": true, "ns": 1}', "True is no whole number"),
        (b"\xff\xfe", "line 2"),
    ],
)
def test_broken_line(line: bytes, says: str) -> None:
    with pytest.raises(WorkloadLogError) as error:
        parse(lines(JOIN) + line + b"\n")
    assert str(error.value).startswith("line 2 of the workload's marks is broken")
    assert says in str(error.value)


def test_a_pid_is_whoever_had_it_then() -> None:
    first, second = ended(C, 0, ran=S), ended(C, 2 * S, ran=S)
    lives = [second, first]
    assert life_at(lives, C, BEGAN + 500 * MS) is first
    assert life_at(lives, C, BEGAN + 1_900 * MS) is first
    assert life_at(lives, C, BEGAN + 2_100 * MS) is second
    assert life_at(lives, C, BEGAN - 1) is None
    assert life_at(lives, C + 1, BEGAN + S) is None


CHILD = ended(C)  # a zombie and reaped 1 s after BEGAN


@pytest.mark.parametrize(
    ("mark", "child", "returned"),
    [
        (join(CHILD, 0, 2 * S), CHILD, "reaped"),
        (join(CHILD, 0, 2 * S, timeout=3), CHILD, "reaped"),
        (join(CHILD, 2 * S, 3 * S), CHILD, "already_reaped"),
        (join(CHILD, 0, 500 * MS, None, 0.5), CHILD, "timeout"),
        (join(CHILD, 0, 2 * S, None, 2), zombie(C), "timeout"),
        (join(CHILD, 0, 2 * S, None), CHILD, "stolen"),
        (join(CHILD, 2 * S, 3 * S, None, 1), CHILD, "stolen"),
        (join(CHILD, 0, 2 * S, None), autoreaped(C), "stolen"),
        (join(CHILD, 0, 500 * MS, 0), CHILD, None),  # it cannot know yet
        (join(CHILD, 0, 500 * MS, None), life(C), None),  # join() without a status, nor a death
        (join(CHILD, 0, 500 * MS, None), None, None),
    ],
)
def test_returned(mark: LoggedJoin, child: Optional[Life], returned: str) -> None:
    (found,) = correlate([mark], [] if child is None else [child])
    assert found.join.returned == returned
    assert found.join.child_pid == C
    assert found.lasted_ns == mark.ended_ns - mark.began_ns


def test_how_long_after_the_zombie_instant() -> None:
    (found,) = correlate([join(CHILD, 0, 2 * S)], [CHILD])
    assert CHILD.zombie_ns is not None
    assert found.after_zombie_ns == BEGAN + 2 * S - CHILD.zombie_ns
    (found,) = correlate([join(CHILD, 0, 500 * MS, None, 0.5)], [CHILD])
    assert found.after_zombie_ns is not None
    assert found.after_zombie_ns < 0
    (found,) = correlate([join(CHILD, 0, 2 * S, None)], [autoreaped(C)])
    assert found.after_zombie_ns is None


def test_joins_stand_in_the_order_of_their_begins() -> None:
    found = correlate([join(CHILD, 2 * S, 3 * S), join(CHILD, 0, 2 * S)], [CHILD])
    assert [each.join.returned for each in found] == ["reaped", "already_reaped"]
