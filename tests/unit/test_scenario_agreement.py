# SPDX-License-Identifier: Apache-2.0
"""The joins that a workload logged, compared with those that were observed."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from zombiebpf.model.join import Join
from zombiebpf.model.life import Life
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.scenario.agreement import disagreements
from zombiebpf.scenario.joins import ChildJoin

MARKED = Join(100, 100, 200, 1.5, 1_000, 9_000, "timeout")
SEEN = MARKED._replace(
    kind="Process.join(timeout)", began_ns=2_000, ended_ns=8_000, timeout_s=1.501
)


def marked(join: Join = MARKED, exit_ns: Optional[int] = None) -> ChildJoin:
    assert join.began_ns is not None
    assert join.ended_ns is not None
    child = Life(pid=200, start_ns=1, exit_ns=exit_ns)
    return ChildJoin(join, child, join.began_ns, join.ended_ns)


def compared(marked: ChildJoin, *seen: Join, by_server: bool = False) -> list[str]:
    return list(disagreements([marked], seen, by_server))


def test_they_agree() -> None:
    assert compared(marked(), SEEN) == []


def test_others_do_not_matter() -> None:
    other = SEEN._replace(kind="Popen.wait", returned="reaped")
    elsewhere = SEEN._replace(pid=300, tid=300)
    assert compared(marked(), SEEN, other, elsewhere) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"returned": "reaped"}, "seen join(1.501) of 200 by 100: reaped"),
        ({"returned": None}, "seen join(1.501) of 200 by 100: None"),
        ({"child_pid": 201}, "marked for 200, seen for 201"),
        ({"child_pid": None}, "marked for 200, seen for None"),
        ({"timeout_s": None}, "marked timeout 1.5, seen None"),
        ({"timeout_s": 1.6}, "marked timeout 1.5, seen 1.6"),
    ],
)
def test_each_difference_is_told(change: dict[str, Any], words: str) -> None:
    (line,) = compared(marked(), SEEN._replace(**change))
    assert words in line


def test_a_server_forks_so_that_the_child_may_be_unknown() -> None:
    unknown = SEEN._replace(child_pid=None)
    assert compared(marked(), unknown, by_server=True) == []
    assert compared(marked(), SEEN._replace(child_pid=201), by_server=True) != []
    nothing = unknown._replace(returned=None)
    assert compared(marked(), nothing, by_server=True) == []
    assert compared(marked(), nothing) != []
    assert compared(marked(), unknown._replace(returned="reaped"), by_server=True) != []


def test_one_join_is_seen_once() -> None:
    assert compared(marked(), SEEN, SEEN) == [
        "marked once, seen 2 times: join(1.5) of 200 by 100: timeout"
    ]


@pytest.mark.parametrize("change", [{"began_ns": 999}, {"ended_ns": 9_001}, {"ended_ns": None}])
def test_what_reaches_beyond_the_marks_is_another_join(change: dict[str, Any]) -> None:
    lines = compared(marked(), SEEN._replace(**change))
    assert [each.partition(":")[0] for each in lines] == ["marked, not seen", "seen, not marked"]


def test_a_join_that_needs_no_system_call() -> None:
    known = MARKED._replace(returned="already_reaped")
    assert compared(marked(known)) == []
    assert compared(marked(known), SEEN._replace(returned="already_reaped")) == []
    assert compared(marked()) == ["marked, not seen: join(1.5) of 200 by 100: timeout"]


def test_a_server_may_have_told_before_the_join() -> None:
    assert compared(marked(exit_ns=500), by_server=True) == []
    assert compared(marked(exit_ns=1_500), by_server=True) != []
    assert compared(marked(exit_ns=500)) != []


def test_the_interpreters_own_joins_at_its_end_are_not_marked() -> None:
    late = SEEN._replace(began_ns=10_000, ended_ns=11_000)
    at_exit = Stack((Frame("BaseProcess.join", "p.py", 1), Frame("_exit_function", "u.py", 2)))
    assert compared(marked(), SEEN, late._replace(stack=at_exit)) == []
    assert compared(marked(), SEEN, late) == [
        "seen, not marked: join(1.501) of 200 by 100: timeout"
    ]
