# SPDX-License-Identifier: Apache-2.0
"""Expectations on processes: each kind with ones that hold, that do not, and unobserved ones."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.unit.life_builders import (
    APP,
    BEGAN,
    MS,
    US,
    S,
    adopted,
    app,
    autoreaped,
    ended,
    killed,
    life,
    zombie,
)
from tests.unit.scenario_builders import REAPER, expectation, judged, observed_run
from zombiebpf.model.life import Actor, AdopterKind, Life, ReapCall, ReapedBy
from zombiebpf.scenario.observed_run import ObservedRun

C = 41231
ZOMBIE_598 = ended(C, latency=598 * MS + 44 * US)
ADOPTER: dict[str, Any] = {"reaper": REAPER, "reaped_by": ReapedBy.ADOPTER}
ORPHAN = ended(C, reparents=[adopted(REAPER, kind=AdopterKind.SUBREAPER)], **ADOPTER)
WNOHANG = ReapCall("wait4", 1, BEGAN + S, 20 * US)
UNSEEN = ended(C, reaper=None, reaped_by=ReapedBy.UNSEEN, reap_call=None, reap_exact=False)


@pytest.mark.parametrize(
    ("text", "seen", "held", "shown"),
    [
        ("above: 480 ms", ZOMBIE_598, True, "child was a zombie for 598 ms"),
        ("above: 0.6", ZOMBIE_598, False, "child was a zombie for 598 ms"),
        ("above: 0.5 * child", ZOMBIE_598, True, "598 ms"),
        ("below: 50 ms", ended(C), True, "child was a zombie for 87 us"),
        ("below: 50 ms", ZOMBIE_598, False, "598 ms"),
        ("above: 0.1, below: 0.5", ZOMBIE_598, False, "598 ms"),
        ("about: 0.5", ZOMBIE_598, True, "598 ms"),
        ("about: 0.2", ZOMBIE_598, False, "598 ms"),
        ("about: 0.5, tolerance: 50 ms", ZOMBIE_598, False, "598 ms"),
        ("below: 50 ms", autoreaped(C), True, "was no zombie at all"),
        ("above: 50 ms", autoreaped(C), False, "was no zombie at all"),
        ("above: 50 ms", life(C), None, "had not ended"),
        ("above: 3", zombie(C), True, "was still a zombie when the observation ended, for 5 s"),
        ("above: 7", zombie(C), None, "still a zombie"),
        ("below: 1", zombie(C), False, "still a zombie"),
        ("below: 1", ended(C, zombie_ns=None), True, "was a zombie for 131 us at most"),
        ("above: 1 us", ended(C, zombie_ns=None), None, "131 us at most"),
        ("above: 1", ended(C, zombie_ns=None), False, "131 us at most"),
        ("above: 1", ended(C, zombie_ns=None, exit_ns=None), None, "not seen as a zombie"),
        ("below: 100 us", ended(C, zombie_exact=False), None, "87 us at least"),
        ("below: 100 us", ended(C, reap_exact=False), True, "87 us at most"),
        ("above: 10 us", ended(C, reap_exact=False), None, "87 us at most"),
        ("never: true", autoreaped(C), True, "released by the kernel"),
        ("never: true", ended(C), False, "was a zombie for 87 us"),
        ("never: true", ended(C, zombie_ns=None), None, "why is not known"),
    ],
)
def test_zombie(text: str, seen: Life, held: bool, shown: str) -> None:
    verdict, words = judged(f"zombie: {{of: child, {text}}}", observed_run(seen))
    assert verdict is held, words
    assert shown in words


@pytest.mark.parametrize(
    ("text", "seen", "held", "shown"),
    [
        ("by: parent", ended(C), True, "was reaped by parent as its parent with blocking wait4"),
        ("by: parent", ORPHAN, False, "was reaped by keeper as its adopter"),
        ("by: keeper, how: adopter", ORPHAN, True, "by keeper"),
        ("how: adopter", ended(C), False, "as its parent"),
        ("how: kernel", autoreaped(C), True, "released by the kernel"),
        ("how: kernel", ended(C), False, "by parent"),
        ("by: parent", autoreaped(C), False, "released by the kernel"),
        ("syscall: wait4", ended(C), True, "wait4"),
        ("syscall: waitid", ended(C), False, "wait4"),
        ("syscall: wait4", autoreaped(C), False, "nobody waited"),
        ("options: blocking", ended(C), True, "blocking wait4"),
        ("options: blocking", ended(C, reap_call=WNOHANG), False, "wait4(WNOHANG)"),
        ("options: [WNOHANG]", ended(C, reap_call=WNOHANG), True, "wait4(WNOHANG)"),
        ("options: [WNOHANG]", ended(C), False, "blocking wait4"),
        ("options: blocking", ended(C, reap_call=None), None, "by parent"),
        ("thread: main", ended(C), True, "by parent"),
        ("thread: other", ended(C), False, "by parent"),
        ("thread: other", ended(C, reaper=APP._replace(tid=41236)), True, "in thread 41236"),
        ("by: init", ended(C, reaper=Actor(1, 1, "systemd")), True, "by init"),
        ("by: init", ended(C), False, "by parent"),
        ("by: parent", UNSEEN, None, "by somebody unseen"),
        ("how: adopter", UNSEEN, None, "by somebody unseen"),
        ("by: parent", zombie(C), False, "was not reaped"),
        ("never: true", zombie(C), True, "was not reaped"),
        ("never: true", ended(C), False, "by parent"),
    ],
)
def test_reaped(text: str, seen: Life, held: bool, shown: str) -> None:
    verdict, words = judged(f"reaped: {{of: child, {text}}}", observed_run(seen))
    assert verdict is held, words
    assert shown in words


@pytest.mark.parametrize(
    ("text", "seen", "held"),
    [
        ("to: keeper", ORPHAN, True),
        ("to: init", ORPHAN, False),
        ("to: keeper, while_zombie: false", ORPHAN, True),
        ("to: keeper, while_zombie: true", ORPHAN, False),
        ("never: true", ORPHAN, False),
        ("never: true", ended(C), True),
        ("to: keeper", ended(C), False),
        ("to: init", ended(C, reparents=[adopted()]), True),
        ("to: init", ended(C, reparents=[adopted(Actor(77, 77, "tini"))]), True),
        ("to: parent", ended(C, reparents=[adopted(APP, kind=AdopterKind.THREAD)]), True),
        ("never: true", ended(C, unseen={"reparents": "it was lost"}), None),
    ],
)
def test_reparented(text: str, seen: Life, held: bool) -> None:
    verdict, words = judged(f"reparented: {{of: child, {text}}}", observed_run(seen))
    assert verdict is held, words


@pytest.mark.parametrize(
    ("text", "seen", "held", "shown"),
    [
        ("exit: 0", ended(C), True, "exited with 0"),
        ("exit: 3", ended(C, wait_status=3 << 8), True, "exited with 3"),
        ("exit: 0", ended(C, wait_status=3 << 8), False, "exited with 3"),
        ("exit: 0", ended(C, wait_status=killed(signal.SIGTERM)), False, "killed by SIGTERM"),
        ("signal: SIGTERM", ended(C, wait_status=killed(signal.SIGTERM)), True, "SIGTERM"),
        ("signal: SIGTERM", ended(C, wait_status=killed(signal.SIGKILL)), False, "SIGKILL"),
        ("signal: SIGTERM", ended(C), False, "exited with 0"),
        ("exit: 0", life(C), False, "had not ended"),
        ("exit: 0", ended(C, wait_status=None), None, "how was not seen"),
    ],
)
def test_ended(text: str, seen: Life, held: bool, shown: str) -> None:
    verdict, words = judged(f"ended: {{of: child, {text}}}", observed_run(seen))
    assert verdict is held, words
    assert shown in words


@pytest.mark.parametrize(
    ("text", "seen", "held", "shown"),
    [
        ("about: child", ended(C), True, "child lived for 1 s"),
        ("about: 3 * child", ended(C), False, "child lived for 1 s"),
        ("below: 0.5", ended(C), False, "1 s"),
        ("above: 0.5", ended(C), True, "1 s"),
        ("above: 5", life(C), True, "still lived after 6 s"),
        ("below: 5", life(C), False, "still lived after 6 s"),
        ("above: 7", life(C), None, "still lived after 6 s"),
        ("above: 0.5", ended(C, exit_ns=None), None, "when was not seen"),
    ],
)
def test_lasted(text: str, seen: Life, held: bool, shown: str) -> None:
    verdict, words = judged(f"lasted: {{of: child, {text}}}", observed_run(seen))
    assert verdict is held, words
    assert shown in words


LONG_WAIT = ended(C, reap_call=ReapCall("wait4", 0, BEGAN, 403 * MS))


@pytest.mark.parametrize(
    ("text", "seen", "held", "shown"),
    [
        ("by: parent, blocking: true, above: 0.3", LONG_WAIT, True, "wait4 for 403 ms"),
        ("by: parent, blocking: true, above: 0.5", LONG_WAIT, False, "wait4 for 403 ms"),
        ("blocking: false", LONG_WAIT, False, "blocking wait4"),
        ("blocking: false", ended(C, reap_call=WNOHANG), True, "wait4(WNOHANG)"),
        ("by: keeper", LONG_WAIT, False, "by parent"),
        ("by: keeper", ORPHAN, True, "by keeper"),
        ("above: 0.3", ended(C, reap_call=None), None, "a call unseen"),
        ("blocking: true", autoreaped(C), False, "nobody waited"),
        ("blocking: true", zombie(C), False, "was not reaped"),
    ],
)
def test_waited(text: str, seen: Life, held: bool, shown: str) -> None:
    verdict, words = judged(f"waited: {{of: child, {text}}}", observed_run(seen))
    assert verdict is held, words
    assert shown in words


def several() -> ObservedRun:
    """Three zombies of 87 us, 300 ms and 400 ms."""
    return observed_run(
        ended(C),
        ended(C + 1, 2 * MS, latency=300 * MS),
        ended(C + 2, 4 * MS, latency=400 * MS),
    )


def test_every_process_must_hold() -> None:
    held, words = judged("zombie: {of: child, above: 200 ms}", several())
    assert held is False
    assert words == "1 of 3: child[0] was a zombie for 87 us"


def test_any_process_is_enough_where_that_is_asked_for() -> None:
    held, words = judged("zombie: {of: child, any: true, above: 350 ms}", several())
    assert held is True
    assert words == "1 of 3: child[2] was a zombie for 400 ms"
    assert judged("zombie: {of: child, any: true, above: 500 ms}", several())[0] is False
    text = "zombie: {of: child, any: true, above: 0.5}"
    assert expectation(text).words({}) == "some child is a zombie for above 500 ms"


def test_one_of_a_role() -> None:
    assert judged('zombie: {of: "child[1]", above: 200 ms}', several())[0] is True
    assert judged('zombie: {of: "child[0]", above: 200 ms}', several())[0] is False
    assert judged('zombie: {of: "child[3]", above: 200 ms}', several())[0] is None


def test_many_processes_are_told_as_a_range() -> None:
    children = [ended(C + n, n * MS, latency=(10 + n) * MS) for n in range(7)]
    held, words = judged("zombie: {of: child, below: 100 ms}", observed_run(*children))
    assert held is True
    assert words == "7 processes were zombies for 9.96 ms to 16 ms"


def test_a_role_that_nobody_plays_is_no_broken_expectation() -> None:
    held, words = judged("zombie: {of: chidl, above: 1}", observed_run(ended(C)))
    assert held is None
    assert words == "no process has the role chidl (roles of this run: child, keeper, parent)"


def test_the_parent_is_a_role() -> None:
    assert judged("ended: {of: parent, exit: 0}", observed_run(parent=app()))[0] is True
    assert judged("lasted: {of: parent, about: 5}", observed_run(parent=app(2 * S)))[0] is False
