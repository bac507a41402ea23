# SPDX-License-Identifier: Apache-2.0
"""Expectations on a run as a whole: each kind with runs that hold and runs that do not."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from tests.unit.life_builders import BEGAN, MS, US, S, app, autoreaped, ended, life, zombie
from tests.unit.scenario_builders import expectation, fact, join, judged, observed_run, workload_log
from zombiebpf.model.life import Life
from zombiebpf.scenario.observed_run import ObservedRun

C = 41231


def at(number: int, start: int, ran: int = S, **fields: Any) -> Life:
    return ended(C + number, start, ran, **fields)


@pytest.mark.parametrize(
    ("text", "held", "shown"),
    [
        (
            "first: child.reap, then: parent.exit",
            True,
            "child's reap came 4 s before parent's exit",
        ),
        ("first: parent.exit, then: child.reap", False, "came 4 s after child's reap"),
        ("first: child.reap, then: parent.exit, apart: {below: 1}", False, "4 s before"),
        ("first: child.reap, then: parent.exit, apart: {above: child}", True, "4 s before"),
        ("first: child.fork, then: child.zombie", True, "1 s before"),
        ("first: fact.done, then: child.exit", True, "fact done came 500 ms before"),
        ("first: child.exit, then: fact.done", False, "500 ms after"),
        ("first: fact.other, then: child.exit", None, "did not tell 'other'"),
        ("first: child.exit, then: join.ended", True, "before join(3) ended"),
        ("first: join.began, then: child.exit", True, "join(3) began came"),
        ("first: child.reparent, then: child.exit", None, "child's reparent was not seen"),
        ("first: tracker.exit, then: child.exit", None, "no process has the role tracker"),
    ],
)
def test_order(text: str, held: Optional[bool], shown: str) -> None:
    child = at(0, 0)
    facts, joins = [fact("done", at=500 * MS)], [join(child, 10 * MS, 1_001 * MS, timeout=3)]
    verdict, words = judged(f"order: {{{text}}}", observed_run(child, facts=facts, joins=joins))
    assert verdict is held, words
    assert shown in words


def test_order_is_of_all_or_of_any() -> None:
    seen = observed_run(at(0, 0), at(1, 0, 6 * S), parent=app(5 * S))
    text = "order: {first: child.exit, then: parent.exit%s}"
    held, words = judged(text % "", seen)
    assert held is False
    assert words == "child[1]'s exit came 1 s after parent's exit"
    assert judged(text % ", any: true", seen)[0] is True
    assert judged("order: {first: child.exit, then: parent.fork, any: true}", seen)[0] is False


@pytest.mark.parametrize(
    ("starts", "ran", "share"),
    [
        ((0, 0, 0), S, 1.0),
        ((0, S, 2 * S), S, 0.0),
        ((0, 500 * MS, S), S, 0.5),
        ((0, 20 * MS, 40 * MS), S, 0.98),
    ],
)
def test_overlap(starts: tuple[int, ...], ran: int, share: float) -> None:
    seen = observed_run(*(at(n, start, ran) for n, start in enumerate(starts)))
    above, below = f"above: {share} - 0.01", f"below: {share} + 0.01"
    held, words = judged(f"overlap: {{of: child, {above}, {below}}}", seen)
    assert held is True, words
    assert words == f"the overlap of 3 child was {share:.2f}"
    assert judged(f"overlap: {{of: child, above: {share} + 0.1}}", seen)[0] is False
    assert judged(f"overlap: {{of: child, below: {share} - 0.1}}", seen)[0] is False


def test_overlap_that_cannot_be_told() -> None:
    assert judged("overlap: {of: child, above: 0.8}", observed_run(at(0, 0)))[0] is None
    seen = observed_run(at(0, 0), at(1, 0, exit_ns=None))
    assert judged("overlap: {of: child, above: 0.8}", seen)[0] is None


def joined(returned: str) -> ObservedRun:
    """A child of 1 s that becomes a zombie 44 us later; the parent joins it somehow."""
    child = at(0, 0)
    how = {
        "reaped": join(child, 10 * MS, S + 331 * US),
        "timeout": join(child, 10 * MS, 310 * MS, None, 0.3),
        "already_reaped": join(child, 2 * S, 2 * S + 5 * US),
        "stolen": join(child, 10 * MS, 2 * S, None),
        "contradiction": join(child, 10 * MS, 20 * MS, 0),
    }
    return observed_run(child, joins=[how[returned]])


@pytest.mark.parametrize("returned", ["reaped", "timeout", "already_reaped", "stolen"])
def test_join_returned(returned: str) -> None:
    for expected in ("reaped", "timeout", "already_reaped", "stolen"):
        held, words = judged(f"join: {{of: child, returned: {expected}}}", joined(returned))
        assert held is (expected == returned)
        assert f"returned {returned} after" in words
    text = f"join: {{of: child, returned: {returned}}}"
    assert judged(text, joined("contradiction"))[0] is None


@pytest.mark.parametrize(
    ("text", "how", "held", "shown"),
    [
        ("lasted: {about: 0.3}", "timeout", True, "join(0.3) of child returned timeout after 300"),
        ("lasted: {above: 0.5}", "timeout", False, "300 ms"),
        ("lasted: {below: 0.5}", "reaped", False, "join() of child returned reaped after 990 ms"),
        ("after: child, within: 1 ms", "reaped", True, "287 us after child became a zombie"),
        ("after: child, within: 100 us", "reaped", False, "287 us after child became a zombie"),
        ("after: child, within: 1", "timeout", False, "before child became a zombie"),
        ("after: child", "already_reaped", True, "1 s after"),
        ("nth: 0, returned: timeout", "timeout", True, ""),
        ("nth: 1, returned: timeout", "timeout", False, "no such join of child"),
        ("returned: [timeout, reaped]", "reaped", True, "returned reaped"),
        ("returned: [timeout, reaped]", "stolen", False, "returned stolen"),
        ("returned: reaped, lasted: {below: 0.5}", "reaped", False, "990 ms"),
    ],
)
def test_join(text: str, how: str, held: bool, shown: str) -> None:
    verdict, words = judged(f"join: {{of: child, {text}}}", joined(how))
    assert verdict is held, words
    assert shown in words


def test_no_join_was_made() -> None:
    held, words = judged("join: {of: child, returned: reaped}", observed_run(at(0, 0)))
    assert held is False
    assert words == "no such join of child was made"
    assert judged("join: {of: nobody, returned: reaped}", observed_run(at(0, 0)))[0] is None


@pytest.mark.parametrize(
    ("text", "value", "held", "shown"),
    [
        ("equals: 3", 3, True, "the workload saw x 3"),
        ("equals: 3", 4, False, "the workload saw x 4"),
        ("equals: children", 2, True, "the workload saw x 2"),
        ("equals: children", 3, False, "the workload saw x 3"),
        ("equals: Z", "Z", True, "'Z'"),
        ("equals: Z", "S", False, "'S'"),
        ("equals: true", True, True, "True"),
        ("equals: true", False, False, "False"),
        ("equals: null", None, True, "None"),
        ("below: 0.9 * children", 1, True, "the workload saw x 1"),
        ("below: 0.9 * children", 2, False, "the workload saw x 2"),
        ("above: 10 ms, unit: s", 0.5, True, "the workload saw x 500 ms"),
        ("above: 1, unit: s", 0.5, False, "the workload saw x 500 ms"),
        ("above: 1", "many", False, "'many', which is no number"),
        ("above: 0", True, False, "True, which is no number"),
    ],
)
def test_fact(text: str, value: object, held: bool, shown: str) -> None:
    verdict, words = judged(f"fact: {{name: x, {text}}}", observed_run(facts=[fact("x", value)]))
    assert verdict is held, words
    assert shown in words


def test_a_fact_that_was_not_told() -> None:
    held, words = judged("fact: {name: x, equals: 1}", observed_run(facts=[fact("y", 1)]))
    assert held is None
    assert words == "the workload did not tell 'x'; it told y"


def test_the_last_fact_counts() -> None:
    seen = observed_run(facts=[fact("x", 1), fact("x", 2)])
    assert judged("fact: {name: x, equals: 2}", seen)[0] is True


def family() -> ObservedRun:
    return observed_run(at(0, 0), at(1, 0), zombie(C + 2, 0), autoreaped(C + 3, 0), life(C + 4))


@pytest.mark.parametrize(
    ("what", "count"), [("started", 5), ("zombies", 3), ("reaped", 3), ("orphans", 0)]
)
def test_count(what: str, count: int) -> None:
    text = f"count: {{of: child, what: {what}, equals: "
    assert judged(text + f"{count}}}", family()) == (True, f"child, {what}: {count}")
    assert judged(text + f"{count + 1}}}", family())[0] is False
    assert judged(text + "1 + children}", observed_run(at(0, 0), at(1, 0), at(2, 0)))[0] is (
        what != "orphans"
    )


def test_count_of_what_is_not_known() -> None:
    seen = observed_run(at(0, 0), at(1, 0, zombie_ns=None))
    text = "count: {of: child, what: zombies, %s}"
    assert judged(text % "equals: 2", seen) == (None, "child, zombies: 1 to 2")
    assert judged(text % "below: 3", seen)[0] is True
    assert judged(text % "equals: 3", seen)[0] is False


def test_nobody_of_a_role_counts_as_none() -> None:
    assert judged("count: {of: child, equals: 0}", observed_run())[0] is True
    assert judged("count: {of: child, equals: 1}", observed_run())[0] is False


def test_a_process_that_the_observer_missed_is_not_nobody() -> None:
    seen = ObservedRun([app()], workload_log([at(0, 0)]), {}, BEGAN + 6 * S)
    assert judged("count: {of: child, equals: 0}", seen)[0] is None
    assert judged("ended: {of: child, exit: 0}", seen) == (
        None,
        "child (PID 41231) was not seen by the observer",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("order: {first: child.reap, then: parent.exit}", "child.reap comes before parent.exit"),
        ("overlap: {of: child, above: 0.8}", "the overlap of child is above 0.8"),
        ("count: {of: child, equals: children}", "child, started: 2"),
        ("fact: {name: x, equals: Z}", "the workload sees x 'Z'"),
        (
            "join: {of: child, nth: 1, returned: timeout, lasted: {above: 0.5 * child}}",
            "join 1 of child returns timeout and lasts above 500 ms",
        ),
        (
            "join: {of: child, after: child, within: 50 ms}",
            "join of child comes back within 50 ms after child has become a zombie",
        ),
        ("lasted: {of: child, about: child}", "child lives for about 1 s (within 400 ms)"),
        (
            "reaped: {of: child, by: parent, options: [WNOHANG], thread: other}",
            "child is reaped by parent in another thread (WNOHANG)",
        ),
        (
            "reparented: {of: child, to: keeper, while_zombie: true}",
            "child is reparented to keeper as a zombie",
        ),
        ("waited: {of: child, by: parent, blocking: true}", "parent waits for child, blocking"),
    ],
)
def test_words(text: str, words: str) -> None:
    each = expectation(text)
    assert each.words({"child": 1.0, "children": 2}) == words


def test_words_of_when() -> None:
    text = '{zombie: {of: child, below: 1}, when: {start_method: [fork, spawn], python: ">=3.12"}}'
    when = expectation(text).when
    assert when.words() == "fork or spawn, Python >=3.12"
    assert when.applies("fork", (3, 12, 1))
    assert not when.applies("forkserver", (3, 12, 1))
    assert not when.applies("fork", (3, 11, 9))
