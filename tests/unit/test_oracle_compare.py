# SPDX-License-Identifier: Apache-2.0
"""What the oracle itself knows: the end of a process whose last threads end at once."""

from __future__ import annotations

import pytest

from tests.oracle import compare
from tests.oracle.bpftrace import Death
from tests.oracle.ftrace import Brackets
from tests.oracle.ftrace_lives import Life


def life_of(exit_tids: dict[int, int]) -> Life:
    """Return a life as a kernel before 6.16 reports it: the latest thread is taken for the last."""
    return Life(20, 1000, 10, 10, 10, True, exit_ns=max(exit_tids.values()), exit_tids=exit_tids)


@pytest.mark.parametrize(
    ("deaths", "exit_ns"),
    [
        ([9_000_000], 9_000_000),  # the third alone found no other alive
        ([9_000_500, 4_000_700], 4_000_000),  # and so did the second
        ([4_000_700, 9_000_500, 8_000_000_000], 4_000_000),  # the last is of another process
    ],
)
def test_two_last_threads(deaths: list[int], exit_ns: int) -> None:
    life = life_of({20: 3_900_000, 21: 4_000_000, 22: 9_000_000})
    result = compare.Comparison()
    statuses = compare._statuses(result, [life], [Death(ns, 20, 10, 256) for ns in deaths])
    assert statuses == {id(life): 256}
    assert life.exit_ns == exit_ns
    assert result.unexplained == []


def test_two_statuses_are_a_contradiction() -> None:
    life = life_of({20: 4_000_000})
    result = compare.Comparison()
    compare._statuses(result, [life], [Death(4_000_100, 20, 10, each) for each in (0, 256)])
    assert len(result.unexplained) == 1


def test_a_fork_that_is_told_as_the_child_is_woken() -> None:
    """After the tracepoint: held up between the two, but not after the fork has returned."""
    life = life_of({20: 9_000_000})
    until = Brackets({1000: 2000}, set())
    for ours, after, explained in (
        (1500, None, True),
        (400_000, None, False),
        (400_000, 500_000, True),
        (600_000, 500_000, False),
    ):
        result = compare.Comparison(until)
        result.instant("fork", life, ours, 1000, None, after)
        assert (result.unexplained == []) == explained
