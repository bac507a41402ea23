# SPDX-License-Identifier: Apache-2.0
"""Analyses -> findings: each where it belongs, and none where there is nothing to find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.life_builders import (
    APP,
    BEGAN,
    MS,
    US,
    S,
    adopted,
    analysis,
    app,
    article,
    autoreaped,
    ended,
    killed,
    life,
    zombie,
)
from tests.unit.stack_builders import REAPING_JOIN, STARTING, frame, stack
from zombiebpf.diagnosis.finding import Finding
from zombiebpf.diagnosis.findings import findings
from zombiebpf.diagnosis.headline import headline
from zombiebpf.diagnosis.sites import describe_fork_site, fork_sites, reap_sites
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import Activity, Actor, AdopterKind, Life, ReapCall, ReapedBy
from zombiebpf.model.stack import Frame
from zombiebpf.wording.wording import Wording

SITE = frame("start_all:42")
LINE = Frame("start_all", SITE.file, 42)
FORK: dict[str, Any] = {"fork_site": SITE, "fork_stack": stack(*STARTING, "start_all:42")}
POPEN: dict[str, Any] = {
    "fork_site": SITE,
    "fork_stack": stack("subprocess:Popen._execute_child", "subprocess:Popen.__init__",
                        "start_all:42"),
}  # fmt: skip
OS_FORK: dict[str, Any] = {"fork_site": SITE, "fork_stack": stack("start_all:42")}
GONE = Actor(41230, 41230, "python3")


def call(kind: str, line: str = "main:50", syscall: str = "wait4") -> ReapCall:
    return ReapCall(syscall, 0, BEGAN, 0, kind, stack(*REAPING_JOIN, line), frame(line))


def child(pid: int, kind: str = "join", waited: int = 87 * US, **fields: Any) -> Life:
    """A child of start_all:42 that was a zombie for so long."""
    given: dict[str, Any] = {**FORK, "reap_call": call(kind)}
    return ended(pid, latency=waited + 44 * US, **{**given, **fields})


def join(pid: int, returned: str | None, began: int = 100 * MS, **fields: Any) -> Join:
    given: dict[str, Any] = {
        "pid": APP.pid, "tid": APP.pid, "child_pid": pid, "timeout_s": None,
        "began_ns": BEGAN + began, "ended_ns": BEGAN + began + 50 * MS, "returned": returned,
        "kind": "Process.join", "children": (Child(pid, BEGAN + 7),), "site": frame("main:50"),
    }  # fmt: skip
    return Join(**{**given, **fields})


def seen(*lives: Life, joins: tuple[Join, ...] = (), **meta: Any) -> Analysis:
    return replace(analysis([app(), *lives], **meta), joins=joins)


def only(observed: Analysis) -> Finding:
    (found,) = findings(observed)
    assert found.evidence
    assert found.fix.strip()
    return found


CLEAN = {
    "nothing": seen(),
    "joined": seen(child(7), child(8), joins=(join(7, "reaped"), join(8, "reaped"))),
    "the article": replace(article(), joins=()),
    "running": seen(life(7, **FORK)),
    "joined in time": seen(child(7), joins=(join(7, "reaped", timeout_s=3.0),)),
    "timed out, then joined": seen(
        child(7), joins=(join(7, "timeout", timeout_s=0.1), join(7, "reaped", 300 * MS))
    ),
    "timed out, and reaped by the exit function": seen(
        child(7, "atexit"), joins=(join(7, "timeout", timeout_s=0.1),)
    ),
    "told by an earlier call": seen(child(7), joins=(join(7, "already_reaped", by=APP),)),
    "SIGCHLD ignored by who forks by itself": seen(autoreaped(7, **OS_FORK)),
    "a daemon that outlives its parent": seen(
        ended(8, ran=MS, forker=APP),
        life(7, forker=Actor(8, 8, "python3"),
             reparents=[adopted(at=2 * MS)._replace(from_=Actor(8, 8, "python3"))]),
    ),
    "a worker that ends with its killed parent": seen(
        ended(8, ran=S, wait_status=killed(9)),
        ended(7, ran=S + 20 * MS, forker=Actor(8, 8, "python3"), reaped_by=ReapedBy.ADOPTER,
              reparents=[adopted(at=S)._replace(from_=Actor(8, 8, "python3"))]),
    ),
    "under a fork server": seen(
        child(7, "forkserver", forker=Actor(50, 50, "python3")), joins=(join(7, "reaped"),)
    ),
    "just below the threshold": seen(child(7, "atexit", waited=99 * MS)),
    "a late root": analysis([app(latency=2 * S)]),
}  # fmt: skip


@pytest.mark.parametrize("observed", CLEAN.values(), ids=CLEAN)
def test_a_clean_program_gives_no_finding(observed: Analysis) -> None:
    assert findings(observed) == []
    assert headline(observed, []).startswith(("nothing to find", "no child"))


def test_leak_still() -> None:
    lives = [child(pid) for pid in range(100, 120)] + [zombie(pid, **FORK) for pid in (7, 8, 9)]
    found = only(seen(*lives))
    assert (found.kind, found.severity, found.site) == ("leak", "error", LINE)
    assert found.title == (
        "3 of 23 children forked at app.py:42 stayed zombies until the end of the observation"
    )
    assert [each.pid for each in found.lives] == [7, 8, 9]
    assert found.evidence[0].startswith("PID 7 is a zombie for 5 s, still")
    assert "join()" in found.fix
    assert "app.py:42" in found.fix


def test_leak_until_the_parents_end() -> None:
    found = only(seen(child(7, "atexit", waited=3 * S)))
    assert (found.kind, found.severity) == ("leak", "warning")
    assert found.title == "1 child forked at app.py:42 stayed a zombie until its parent's end"
    assert "then reaped by python3 41230 (atexit) at app.py:50 in main" in found.evidence[0]


def test_adopted_as_a_zombie_is_a_leak() -> None:
    moved = child(
        7,
        waited=3 * S,
        reaped_by=ReapedBy.ADOPTER,
        **OS_FORK
        | {"reparents": [adopted(at=3 * S, while_zombie=True, kind=AdopterKind.SUBREAPER)]},
    )
    found = only(seen(moved))
    assert found.kind == "leak"
    assert "os.waitpid" in found.fix


def test_what_the_parent_was_doing_instead() -> None:
    doing = Activity(BEGAN, APP, BEGAN, "clock_nanosleep", stack("main:61"), frame("main:61"))
    found = only(seen(zombie(7, **FORK, meanwhile=doing)))
    assert found.evidence[0].endswith(
        "; meanwhile python3 41230 was blocked in clock_nanosleep at app.py:61 in main"
    )


@pytest.mark.parametrize(
    ("made", "fix"),
    [
        (FORK, "active_children()"),
        (POPEN, "subprocess.run()"),
        (OS_FORK, "os.waitpid(-1, os.WNOHANG)"),
        ({}, "make python3 wait"),
    ],
)
def test_the_cure_is_the_librarys(made: dict[str, Any], fix: str) -> None:
    assert fix.lower() in only(seen(zombie(7, **made))).fix.lower()


def test_slow_reap() -> None:
    found = only(seen(child(7, "is_alive", waited=3 * S), child(8)))
    assert (found.kind, found.severity) == ("slow reap", "warning")
    assert found.title == (
        "1 of 2 children forked at app.py:42 waited as a zombie for 3 s to be reaped by is_alive"
    )


def test_the_exit_function_joined_another_one_first() -> None:
    """It became a zombie while Python's exit function was waiting already."""
    late = child(7, "atexit", waited=3 * S)
    waiting = join(9, "reaped", 500 * MS, kind="atexit")
    assert [each.kind for each in findings(seen(late, joins=(waiting,)))] == ["slow reap"]


def test_what_is_a_librarys_own_interval_is_a_note() -> None:
    found = only(seen(child(7, "uvicorn supervisor", waited=300 * MS)))
    assert found.severity == "note"
    assert "nothing of yours" in found.fix.lower()


def test_a_join_that_ran_out_of_time_and_was_never_repeated() -> None:
    """The article's own example."""
    late = child(7, "atexit", waited=3 * S)
    given_up = join(7, "timeout", timeout_s=0.05, kind="Process.join(timeout)")
    found = only(seen(late, joins=(given_up,)))
    assert found.kind == "abandoned join"
    assert found.joins == [given_up]
    assert found.site == Frame("main", SITE.file, 50)
    assert found.evidence[0].startswith(
        "PID 7: Process.join at app.py:50 in main gave up after 50 ms, the child ended 850 ms later"
    )


def test_a_stolen_wait_says_who_from_whom() -> None:
    stolen = child(7, "os.wait*", reap_call=call("os.wait*", "thief:3"))
    robbed = join(7, "stolen", by=Actor(APP.pid, 41236, "python3"))
    found = only(seen(stolen, joins=(robbed,)))
    assert (found.kind, found.severity) == ("stolen wait", "error")
    assert found.title == (
        "os.wait* at app.py:3 in python3 41230 (thread 41236) took the status that Process.join"
        " waited for"
    )
    assert found.evidence == [
        "Process.join of PID 41230 at app.py:50 in main waited for PID 7, which python3 41230"
        " (thread 41236) had reaped with os.wait* at app.py:3 in thief"
    ]


@pytest.mark.parametrize("made", [FORK, POPEN])
def test_a_lost_status(made: dict[str, Any]) -> None:
    found = only(seen(autoreaped(7, **made), joins=(join(7, "stolen"),)))
    assert (found.kind, len(found.joins)) == ("lost status", 1)
    assert "signal.SIG_DFL" in found.fix


def test_who_forks_by_itself_and_waits_has_lost_a_status() -> None:
    assert only(seen(autoreaped(7, **OS_FORK), joins=(join(7, "stolen"),))).kind == "lost status"


def test_a_wait_by_the_wrong_process() -> None:
    wrong = replace(join(7, None, kind="os.waitpid"), pid=555, tid=555)
    found = only(seen(child(7), joins=(wrong,)))
    assert found.kind == "wrong process"
    assert found.evidence == ["PID 555 waited for PID 7, a child of python3 41230"]
    for right in (replace(wrong, pid=APP.pid), replace(wrong, kind="Process.join"),
                  replace(wrong, ended_ns=None)):  # fmt: skip
        assert findings(seen(child(7), joins=(right,))) == []


def test_an_orphan_of_a_killed_parent() -> None:
    parent = ended(8, ran=S, wait_status=killed(9))
    from_ = Actor(8, 8, "python3")
    left = ended(7, ran=3 * S, forker=from_, reaped_by=ReapedBy.ADOPTER, **FORK,
                 reparents=[adopted(at=S)._replace(from_=from_)])  # fmt: skip
    found = only(seen(parent, left))
    assert found.kind == "orphan"
    assert (
        found.title == "1 child forked at app.py:42 lived on when SIGKILL killed the parent, PID 8"
    )
    assert found.evidence == ["PID 7 was given to systemd 1 and ran for 2 s more"]


@pytest.mark.parametrize(("ran_on", "count"), [(100 * MS, 1), (100 * MS - 1, 0)])
def test_an_orphan_must_run_on_for_the_threshold(ran_on: int, count: int) -> None:
    parent, from_ = ended(8, ran=S, wait_status=killed(9)), Actor(8, 8, "python3")
    left = ended(7, ran=S + ran_on, forker=from_, reaped_by=ReapedBy.ADOPTER,
                 reparents=[adopted(at=S)._replace(from_=from_)])  # fmt: skip
    assert len(findings(seen(parent, left))) == count


@pytest.mark.parametrize(
    ("waited", "threshold", "count"),
    [
        (100 * MS, 100 * MS, 1),
        (100 * MS - 1, 100 * MS, 0),
        (0, 0, 0),  # it was no zombie for any time
        (1, 0, 1),
    ],
)
def test_a_zombie_is_late_from_the_threshold_on(waited: int, threshold: int, count: int) -> None:
    assert len(findings(seen(child(7, waited=waited)), threshold)) == count


@pytest.mark.parametrize("still", [False, True])
def test_an_init_that_does_not_wait(still: bool) -> None:
    init = Actor(1, 1, "app")
    moved: dict[str, Any] = {"reparents": [adopted(init, at=500 * MS)], **OS_FORK}
    subject = (
        zombie(7, **moved)
        if still
        else child(7, "not Python", waited=2 * S, reaped_by=ReapedBy.ADOPTER, reaper=init, **moved)
    )
    found = only(seen(subject))
    assert found.kind == "init does not wait"
    assert "app 1, the init" in found.title
    assert "tini" in found.fix


def test_lost_records_make_all_incomplete() -> None:
    observed = seen(zombie(7, **FORK), lost_events=3)
    assert only(observed).incomplete
    assert headline(observed, findings(observed)).startswith("Incomplete, 3 records were lost: ")
    assert headline(seen(lost_events=3), []).startswith("Incomplete, ")
    assert not only(seen(zombie(7, **FORK))).incomplete


def test_the_headline_is_the_gravest() -> None:
    observed = seen(zombie(7, **FORK), child(8, "is_alive", waited=S, **POPEN),
                    child(9, "Popen.poll", waited=S, fork_site=frame("other:3")))  # fmt: skip
    found = findings(observed)
    assert [each.kind for each in found] == ["leak", "slow reap", "slow reap"]
    assert headline(observed, found) == (
        "3 of 3 children stayed zombies for 1 s or more, 1 still; 2 forked at app.py:42;"
        " nobody joined 1, is_alive reaped 1 late, Popen.poll reaped 1 late"
    )
    assert headline(seen(child(7)), []) == (
        "nothing to find: 1 child, none a zombie for more than 87 µs"
    )


def test_many_are_grouped_and_not_all_told() -> None:
    found = only(seen(*(zombie(pid, **FORK) for pid in range(100, 123))))
    assert len(found.lives) == 23
    assert len(found.evidence) == 6
    assert found.evidence[-1] == "and 18 more"


def test_each_late_zombie_is_in_one_finding() -> None:
    observed = seen(
        zombie(7, **FORK),
        child(8, "atexit", waited=S),
        child(9, "is_alive", waited=S),
        child(10, "atexit", waited=S),
        zombie(11, reparents=[adopted()]),
        joins=(join(10, "timeout"),),
    )
    pids = [each.pid for found in findings(observed) for each in found.lives]
    assert sorted(pids) == [7, 8, 9, 10, 11]


def test_a_fork_site() -> None:
    lives = [child(pid, "atexit", waited=3200 * MS) for pid in range(100, 218)]
    lives += [zombie(7, **FORK), life(8, **FORK), ended(9)]
    site, other = fork_sites(lives, seen().meta)
    assert (site.site, site.children, site.late) == (LINE, 120, 119)
    assert (site.still_zombies, site.running) == (1, 1)
    assert (site.p50_ns, site.p99_ns, site.max_ns) == (3200 * MS,) * 3
    assert describe_fork_site(site, Wording()) == (
        "app.py:42 forked 120, 118 reaped by atexit after 3.2 s, 1 still zombie, 1 running"
    )
    assert (other.site, other.children) == (None, 1)


def test_a_site_counts_zombies_of_100_ms_as_late() -> None:
    (site,) = fork_sites([child(7, waited=100 * MS), child(8, waited=100 * MS - 1)], seen().meta)
    assert (site.children, site.late) == (2, 1)


def test_reap_sites() -> None:
    lives = [child(7), child(8, "atexit"), zombie(9, **FORK), autoreaped(10, **FORK)]
    first, second = reap_sites(lives, seen().meta)
    assert first.site == Frame("main", SITE.file, 50)
    assert dict(first.reaped_by) == {"join": 1, "atexit": 1}
    assert (second.site, dict(second.reaped_by)) == (None, {"kernel": 1})
