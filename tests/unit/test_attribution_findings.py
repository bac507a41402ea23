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
    found_dead,
    killed,
    life,
    zombie,
)
from tests.unit.observations import Found, asked, findings, fork_sites, headline, reap_sites
from tests.unit.stack_builders import REAPING_JOIN, STARTING, frame, stack
from zombiebpf.diagnosis.sites import describe_fork_site
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import Activity, Actor, AdopterKind, Life, ReapCall, ReapedBy, Reparenting
from zombiebpf.model.observation import SiteSummary
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
OTHER = Actor(50, 50, "python3")


MEANWHILE = Activity(BEGAN, APP, BEGAN, "read", stack("main:61"), frame("main:61"))


def made_by(*library: str) -> dict[str, Any]:
    """A fork by functions of a library that start_all:42 called."""
    return {"fork_site": SITE, "fork_stack": stack(*library, "start_all:42")}


def call(kind: str, line: str = "main:50", syscall: str = "wait4") -> ReapCall:
    return ReapCall(syscall, 0, BEGAN, 0, kind, stack(*REAPING_JOIN, line), frame(line))


def child(pid: int, kind: str = "join", waited: int = 87 * US, **fields: Any) -> Life:
    """A child of start_all:42 that was a zombie for so long."""
    given: dict[str, Any] = {**FORK, "reap_call": call(kind)}
    return ended(pid, latency=waited + 44 * US, **{**given, **fields})


def join(pid: int, /, returned: str | None, began: int = 100 * MS, **fields: Any) -> Join:
    given: dict[str, Any] = {
        "pid": APP.pid, "tid": APP.pid, "child_pid": pid, "timeout_s": None,
        "began_ns": BEGAN + began, "ended_ns": BEGAN + began + 50 * MS, "returned": returned,
        "kind": "Process.join", "children": (Child(pid, BEGAN + 7),), "site": frame("main:50"),
    }  # fmt: skip
    return Join(**{**given, **fields})


def seen(*lives: Life, joins: tuple[Join, ...] = (), **meta: Any) -> Analysis:
    return replace(analysis([app(), *lives], **meta), joins=joins)


def times_of(site: SiteSummary) -> tuple[int, int, int]:
    """The median, 99th percentile and maximum of its zombie intervals."""
    times = site.intervals
    assert times is not None
    return times.p50_ns, times.p99_ns, times.max_ns


def only(observed: Analysis) -> Found:
    (found,) = findings(observed)
    assert found.evidence
    assert found.fix.strip()
    return found


PARENT = Actor(8, 8, "python3")
KILLED = ended(8, wait_status=killed(9))  # PARENT, after 1 s


def orphan(pid: int, ran: int = 3 * S, at: int = S, from_: Actor = PARENT, **fields: Any) -> Life:
    """A child of `from_` that was given to init when that one ended."""
    moved = (adopted(at=at)._replace(from_=from_),)
    given = {"forker": from_, "reaped_by": ReapedBy.ADOPTER, "reparents": moved}
    return ended(pid, ran=ran, **{**given, **fields})


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
    "a child that a thread adopted before its process was killed": seen(
        ended(8, ran=3 * S, wait_status=killed(9)),
        orphan(7, ran=3 * S + 50 * MS, reparents=[
            adopted(PARENT, at=S, kind=AdopterKind.THREAD)._replace(from_=PARENT),
            adopted(at=3 * S)._replace(from_=PARENT),
        ]),
    ),
    "an orphan of a process that was not seen": seen(orphan(7)),
    "an orphan whose end was not seen": seen(KILLED, orphan(7, exit_ns=None, zombie_ns=None)),
    "a wait for a child whose parent is unknown": seen(
        child(7, forker=None), joins=(join(7, None, kind="os.waitpid", pid=555),)
    ),
    "a wait by another process that has a result": seen(
        child(7), joins=(join(7, "interrupted", kind="os.waitpid", pid=555),)
    ),
    "several late roots": analysis([
        app(latency=2 * S), app(latency=2 * S)._replace(pid=41400, start_ns=BEGAN + 8),
    ]),
    "a late root whose fork was lost": analysis([app(latency=2 * S, forker=None)]),
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


def test_a_leak_of_several_until_their_parents_end() -> None:
    found = only(seen(*(child(pid, "atexit", waited=3 * S) for pid in (7, 9))))
    assert found.title == "2 children forked at app.py:42 stayed zombies until their parent's end"


def test_children_of_an_unknown_line_are_not_counted_as_of_one() -> None:
    assert only(seen(zombie(7), ended(9))).title == (
        "1 child of python3 41230 stayed a zombie until the end of the observation"
    )


def test_a_child_of_an_unknown_parent() -> None:
    found = only(seen(zombie(7, forker=None)))
    assert found.title == "1 child stayed a zombie until the end of the observation"
    assert found.fix.startswith("Make its parent wait for its children")


def test_a_child_of_a_process_that_was_not_seen_is_not_a_root() -> None:
    assert only(seen(zombie(7, forker=OTHER))).kind == "leak"


def test_findings_are_grouped_by_line_else_by_parent() -> None:
    found = findings(seen(zombie(7), zombie(9, forker=OTHER)))
    assert [each.title.split(" stayed")[0] for each in found] == [
        "1 child of python3 41230",
        "1 child of python3 50",
    ]
    attached = findings(seen(found_dead(7), found_dead(9, parent=OTHER)))
    assert [len(each.lives) for each in attached] == [1, 1]
    assert len(only(seen(zombie(7, **FORK), zombie(9, **FORK, forker=OTHER))).lives) == 2


def test_of_two_errors_the_one_with_more_children_comes_first() -> None:
    one = zombie(7, fork_site=frame("other:3"))
    two = [zombie(pid, **FORK) for pid in (9, 10)]
    assert [len(each.lives) for each in findings(seen(one, *two))] == [2, 1]


def test_the_evidence_begins_with_the_longest_zombie() -> None:
    lives = [child(7, "is_alive", waited=S), child(9, "is_alive", waited=3 * S)]
    found = only(seen(*lives, child(10, "is_alive", waited=2 * S)))
    assert [each.split()[1] for each in found.evidence] == ["9", "10", "7"]


@pytest.mark.parametrize("inexact", [{"zombie_exact": False}, {"reap_exact": False}])
def test_a_late_bound_makes_the_time_approximate(inexact: dict[str, bool]) -> None:
    found = only(seen(child(7, "is_alive", waited=3 * S, **inexact)))
    assert found.evidence[0].startswith("PID 7 was a zombie for about 3 s, then reaped by")


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


def test_a_zombie_given_to_init_is_its_old_parents_leak() -> None:
    moved = adopted(at=3 * S, while_zombie=True)
    assert only(seen(child(7, waited=3 * S, reparents=[moved]))).kind == "leak"


@pytest.mark.parametrize(
    "moved",
    [
        adopted(at=S + 44 * US, while_zombie=True),  # both in one instant
        adopted(at=2 * S, exact=False),  # reported late
    ],
)
def test_what_init_had_to_wait_for_from_the_beginning(moved: Reparenting) -> None:
    assert only(seen(child(7, waited=3 * S, reparents=[moved]))).kind == "init does not wait"


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
        (FORK | {"meanwhile": MEANWHILE}, "active_children()"),
        (made_by("subprocess:Popen.__init__", "asyncio.unix_events:_UnixSelectorEventLoop.run"),
         "await proc.wait()"),
        (made_by(*STARTING, "concurrent.futures.process:ProcessPoolExecutor.submit"),
         "with ProcessPoolExecutor()"),
        (made_by(*STARTING, "multiprocessing.pool:Pool.__init__"), "with Pool()"),
        (made_by("@loky.process_executor:ProcessPoolExecutor.submit"), "executor's shutdown()"),
        (made_by("@joblib.externals.loky.process_executor:submit"), "executor's shutdown()"),
        (made_by("@billiard.process:BaseProcess.start"), "call join() on the process"),
        ({"fork_stack": stack(*STARTING)}, "keep the Process and call its join()"),
        ({}, "make python3 wait for its children: waitpid() in C"),
        ({"meanwhile": MEANWHILE}, "make python3 wait for its children: join() each Process"),
        ({"meanwhile": MEANWHILE._replace(stack=None)}, "waitpid() in C"),
    ],
)  # fmt: skip
def test_the_cure_is_the_librarys(made: dict[str, Any], fix: str) -> None:
    assert fix.lower() in only(seen(zombie(7, **made))).fix.lower()


def test_slow_reap() -> None:
    found = only(seen(child(7, "is_alive", waited=3 * S), child(8)))
    assert (found.kind, found.severity) == ("slow reap", "warning")
    assert found.title == (
        "1 of 2 children forked at app.py:42 waited as a zombie for 3 s to be reaped by is_alive"
    )


def test_a_slow_reap_of_several_gives_the_longest_time() -> None:
    found = only(seen(child(7, "is_alive", waited=S), child(9, "is_alive", waited=3 * S)))
    assert found.site == LINE
    assert found.title == (
        "2 children forked at app.py:42 waited as zombies for up to 3 s to be reaped by is_alive"
    )


def test_a_slow_reap_by_nobody_seen() -> None:
    unseen: dict[str, Any] = {"reap_call": None, "reaper": None, "reaped_by": ReapedBy.UNSEEN}
    found = only(seen(child(7, waited=3 * S, **unseen)))
    assert found.title == "1 child forked at app.py:42 waited as a zombie for 3 s to be reaped"
    assert found.evidence == [
        "PID 7 was a zombie for 3 s, then reaped by somebody not seen (unseen)"
    ]
    assert found.fix.startswith("Keep the Process of app.py:42 and call its join()")


@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        ("join", "multiprocessing.connection.wait("),
        ("join(timeout)", "multiprocessing.connection.wait("),
        ("os.wait*", "when SIGCHLD comes"),
        ("signal handler", "when SIGCHLD comes"),
    ],
)
def test_the_fix_of_a_slow_reap_is_the_calls(kind: str, fix: str) -> None:
    assert fix in only(seen(child(7, kind, waited=3 * S))).fix


def test_the_exit_function_joined_another_one_first() -> None:
    """It became a zombie while Python's exit function was waiting already."""
    late = child(7, "atexit", waited=3 * S)
    waiting = join(9, "reaped", 500 * MS, kind="atexit")
    assert [each.kind for each in findings(seen(late, joins=(waiting,)))] == ["slow reap"]
    again = join(7, "reaped", 2 * S, kind="atexit")
    assert [each.kind for each in findings(seen(late, joins=(waiting, again)))] == ["slow reap"]
    earlier = waiting._replace(kind="Process.join")  # not by the exit function
    assert [each.kind for each in findings(seen(late, joins=(earlier, again)))] == ["leak"]


def test_what_is_a_librarys_own_interval_is_a_note() -> None:
    found = only(seen(child(7, "uvicorn supervisor", waited=300 * MS)))
    assert found.severity == "note"
    assert "nothing of yours" in found.fix.lower()


def test_a_join_that_ran_out_of_time_and_was_never_repeated() -> None:
    """The article's own example."""
    late = child(7, "atexit", waited=3 * S)
    given_up = join(7, "timeout", timeout_s=0.05, kind="Process.join(timeout)")
    found = only(seen(late, joins=(given_up, join(7, "reaped", 2 * S, kind="atexit"))))
    assert found.kind == "abandoned join"
    assert found.joins == [given_up]
    assert found.site == Frame("main", SITE.file, 50)
    assert found.evidence[0].startswith(
        "PID 7: Process.join at app.py:50 in main gave up after 50 ms, the child ended 850 ms later"
    )
    assert found.title == (
        "Process.join ran out of its time of 50 ms for 1 child forked at app.py:42, and was not"
        " repeated"
    )
    assert found.fix == (
        "after the Process.join with a timeout at app.py:50 look whether the child has ended, and"
        " wait again, without a timeout, when it is due or has been told to end (terminate())"
    )


def test_a_join_that_ran_out_of_an_unknown_time() -> None:
    """Nor is it known which process of that PID was meant."""
    given_up = join(7, "timeout", children=(Child(7, None),), site=None, kind=None)
    found = only(seen(child(7, "atexit", waited=3 * S), joins=(given_up,)))
    assert (found.kind, found.site) == ("abandoned join", LINE)
    assert found.title == (
        "join ran out of its time for 1 child forked at app.py:42, and was not repeated"
    )
    assert found.evidence[0].startswith("PID 7: join gave up, the child ended 850 ms later")


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
    assert found.fix == (
        "Wait for your own children only: replace the wait for any child (os.wait(),"
        " os.waitpid(-1, ...)) at app.py:3 by os.waitpid(pid, ...) for each PID that this code has"
        " forked itself"
    )
    assert (found.site, found.lives, found.joins) == (frame("thief:3"), [stolen], [robbed])


def test_several_stolen_waits_of_a_thread() -> None:
    thief = call("os.wait*", "thief:3")
    robbed = [join(pid, "stolen", tid=41237, by=APP) for pid in (7, 9)]
    found = only(seen(*(child(pid, reap_call=thief) for pid in (7, 9)), joins=tuple(robbed)))
    assert found.title.endswith(" took the status that Process.join waited for 2 times")
    assert found.evidence[1].startswith("Process.join of PID 41230 (thread 41237) at app.py:50")


def test_a_wait_stolen_by_an_unknown_call() -> None:
    found = only(seen(child(7, reap_call=None), joins=(join(7, "stolen", by=APP),)))
    assert found.title == (
        "a wait call in python3 41230 took the status that Process.join waited for"
    )
    assert found.evidence == [
        "Process.join of PID 41230 at app.py:50 in main waited for PID 7, which python3 41230 had"
        " reaped"
    ]
    assert found.site == frame("main:50")


def test_a_stolen_wait_for_a_child_that_was_not_seen() -> None:
    found = only(seen(joins=(join(7, "stolen"),)))
    assert found.title == (
        "a wait call in somebody not seen took the status that Process.join waited for"
    )
    assert found.lives == []


@pytest.mark.parametrize("made", [FORK, POPEN])
def test_a_lost_status(made: dict[str, Any]) -> None:
    lost, joined = autoreaped(7, **made), join(7, "stolen")
    found = only(seen(lost, joins=(joined,)))
    assert (found.kind, found.site) == ("lost status", LINE)
    assert (found.lives, found.joins) == ([lost], [joined])
    assert found.title == (
        "the exit status of 1 child forked at app.py:42 is lost: SIGCHLD is ignored"
    )
    assert found.evidence == [
        "PID 7 ended, and the kernel released it itself: its parent python3 41230 ignores SIGCHLD,"
        " or has SA_NOCLDWAIT"
    ]
    assert found.fix == (
        "Set signal.signal(signal.SIGCHLD, signal.SIG_DFL) before the first child is started: with"
        " SIG_IGN, which is inherited through exec, exitcode stays None, wait() gives 0 and"
        " os.system() gives -1"
    )


def test_a_library_loses_a_status_without_a_join() -> None:
    assert only(seen(autoreaped(7, **POPEN))).joins == []


def test_a_lost_status_of_an_unknown_line_names_the_parent() -> None:
    found = only(seen(autoreaped(7), joins=(join(7, "stolen"),)))
    assert found.title == (
        "the exit status of 1 child of python3 41230 is lost: SIGCHLD is ignored"
    )


def test_who_forks_by_itself_and_waits_has_lost_a_status() -> None:
    assert only(seen(autoreaped(7, **OS_FORK), joins=(join(7, "stolen"),))).kind == "lost status"


def test_a_wait_by_the_wrong_process() -> None:
    wrong = join(7, None, kind="os.waitpid")._replace(pid=555, tid=555)
    found = only(seen(child(7), joins=(wrong,)))
    assert found.kind == "wrong process"
    assert found.evidence == ["PID 555 waited for PID 7, a child of python3 41230"]
    assert found.title == (
        "os.waitpid at app.py:50 in main waits in a process whose child it is not"
    )
    assert found.fix == (
        "wait in the process that forked it (python3 41230), or send it the wish to wait; a Popen"
        " or a Process is of no use in another process"
    )
    assert (found.site, found.lives, found.joins) == (frame("main:50"), [child(7)], [wrong])
    for right in (wrong._replace(pid=APP.pid), wrong._replace(kind="Process.join"),
                  wrong._replace(ended_ns=None)):  # fmt: skip
        assert findings(seen(child(7), joins=(right,))) == []
        assert only(seen(child(7), joins=(right, wrong))).joins == [wrong]
    reaped = join(7, "reaped", kind="os.waitpid")
    assert only(seen(child(7), joins=(reaped, wrong))).joins == [wrong]


def test_wrong_waits_of_two_lines_are_two_findings() -> None:
    wrong = [join(7, None, kind="os.waitpid", pid=555, site=frame(f"main:{n}")) for n in (50, 51)]
    assert [each.site for each in findings(seen(child(7), joins=tuple(wrong)))] == [
        frame("main:50"),
        frame("main:51"),
    ]


def test_an_orphan_of_a_killed_parent() -> None:
    parent = ended(8, ran=S, wait_status=killed(9))
    from_ = Actor(8, 8, "python3")
    left = ended(7, ran=3 * S, forker=from_, reaped_by=ReapedBy.ADOPTER, **FORK,
                 reparents=(adopted(at=S)._replace(from_=from_),))  # fmt: skip
    found = only(seen(parent, left))
    assert found.kind == "orphan"
    assert (
        found.title == "1 child forked at app.py:42 lived on when SIGKILL killed the parent, PID 8"
    )
    assert found.evidence == ["PID 7 was given to systemd 1 and ran for 2 s more"]
    assert found.fix == (
        "End the parent with SIGTERM and let it end its children, or let each child notice: wait"
        " for multiprocessing.parent_process().sentinel, or ask the kernel with"
        " prctl(PR_SET_PDEATHSIG, SIGTERM)"
    )
    assert (found.site, found.lives) == (LINE, [left])


def test_an_orphan_that_still_runs() -> None:
    found = only(seen(KILLED, life(7, forker=PARENT, reparents=orphan(7).reparents)))
    assert found.title == "1 child of python3 8 lived on when SIGKILL killed the parent, PID 8"
    assert found.evidence == ["PID 7 was given to systemd 1 and ran on for 5 s more"]


def test_orphans_of_two_killed_parents_are_two_findings() -> None:
    parents = [KILLED, ended(9, wait_status=killed(15))._replace(start_ns=BEGAN + 9)]
    lives = [orphan(7), orphan(10, from_=Actor(9, 9, "python3"))]
    assert [each.title.split(" killed ")[1] for each in findings(seen(*parents, *lives))] == [
        "the parent, PID 8",
        "the parent, PID 9",
    ]


def test_an_orphan_is_the_last_adopters_if_that_was_killed() -> None:
    """A sibling thread adopted it first, when the one that had forked it ended."""
    thread = adopted(PARENT, at=S, kind=AdopterKind.THREAD)._replace(from_=PARENT)
    process = adopted(at=3 * S)._replace(from_=PARENT)
    left = orphan(7, ran=5 * S, reparents=(thread, process))
    found = only(seen(ended(8, ran=3 * S, wait_status=killed(9)), left))
    assert (found.kind, found.lives) == ("orphan", [left])
    assert found.evidence == ["PID 7 was given to systemd 1 and ran for 2 s more"]


def test_an_orphan_of_a_killed_subreaper() -> None:
    """Its first parent ended by itself."""
    first = adopted(PARENT, at=S, kind=AdopterKind.SUBREAPER)
    second = adopted(at=3 * S)._replace(from_=PARENT)
    left = orphan(7, ran=5 * S, forker=OTHER, reparents=[first._replace(from_=OTHER), second])
    found = only(seen(ended(50), ended(8, ran=3 * S, wait_status=killed(9)), left))
    assert found.title == "1 child of python3 50 lived on when SIGKILL killed the parent, PID 8"
    assert found.evidence == ["PID 7 was given to systemd 1 and ran for 2 s more"]


@pytest.mark.parametrize("first", [KILLED, KILLED._replace(forker=None, fork_ns=None, parent=APP)])
def test_the_parent_of_an_orphan_is_who_had_the_pid_then(first: Life) -> None:
    again = life(8, at=2 * S)
    assert only(seen(first, orphan(7), again)).lives == [orphan(7)]
    killed_later = ended(8, at=2 * S, wait_status=killed(9))
    assert findings(seen(first._replace(wait_status=0), orphan(7), killed_later)) == []


@pytest.mark.parametrize(("ran_on", "count"), [(100 * MS, 1), (100 * MS - 1, 0)])
def test_an_orphan_must_run_on_for_the_threshold(ran_on: int, count: int) -> None:
    parent, from_ = ended(8, ran=S, wait_status=killed(9)), Actor(8, 8, "python3")
    left = ended(7, ran=S + ran_on, forker=from_, reaped_by=ReapedBy.ADOPTER,
                 reparents=(adopted(at=S)._replace(from_=from_),))  # fmt: skip
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
    assert (found.kind, found.severity) == ("init does not wait", "error" if still else "warning")
    did = "left 1 adopted zombie unreaped" if still else "reaped 1 adopted child late"
    assert found.title == f"app 1, the init of its PID namespace, {did}"
    assert found.fix == (
        "Run an init that waits as PID 1: `docker run --init`, tini, dumb-init or systemd; or let"
        " PID 1 call waitpid(-1, WNOHANG) in a loop on SIGCHLD"
    )
    twice = only(seen(subject, subject._replace(pid=9)))
    did = "left 2 adopted zombies unreaped" if still else "reaped 2 adopted children late"
    assert twice.title.endswith(did)


def test_two_inits_that_do_not_wait_are_two_findings() -> None:
    inits = [Actor(1, 1, "app"), Actor(300, 300, "sh")]
    lives = [zombie(7 + n, reparents=[adopted(each)]) for n, each in enumerate(inits)]
    assert [each.title.split(",")[0] for each in findings(seen(*lives))] == ["app 1", "sh 300"]


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
    assert len(only(seen(*(zombie(pid, **FORK) for pid in range(100, 105)))).evidence) == 5


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
    assert times_of(site) == (3200 * MS,) * 3
    assert describe_fork_site(site, Wording()) == (
        "app.py:42 forked 120, 118 reaped by atexit after 3.2 s, 1 still zombie, 1 running"
    )
    assert (other.site, other.children) == (None, 1)


def test_an_unknown_line_and_reaps_that_nobody_saw() -> None:
    unseen: dict[str, Any] = {"reap_call": None, "reaper": None, "reaped_by": ReapedBy.UNSEEN}
    (site,) = fork_sites([autoreaped(7), autoreaped(9), ended(10, **unseen)], seen().meta)
    assert describe_fork_site(site, Wording()) == (
        "an unknown line forked 3, 2 reaped by kernel, 1 reaped by nobody seen after 87 µs"
    )


def test_sites_are_sorted_by_late_zombies_then_by_children() -> None:
    few, many, late = (
        [
            ended(10 * line + n, latency=waited, fork_site=frame(f"main:{line}"))
            for n in range(count)
        ]
        for line, count, waited in ((1, 2, MS), (2, 3, MS), (3, 1, S))
    )
    unknown = [ended(100 + n, latency=S) for n in range(5)]
    found = fork_sites([*unknown, *few, *many, *late], seen().meta)
    assert [each.site.line if each.site else None for each in found] == [3, 2, 1, None]
    assert [each.children for each in found] == [1, 3, 2, 5]


def test_a_site_lists_its_reaping_calls_the_most_frequent_first() -> None:
    lives = [
        child(7, waited=MS),
        *(child(pid, "atexit", waited=pid * MS) for pid in range(101, 300)),
    ]
    (site,) = fork_sites(lives, seen().meta)
    assert list(site.reaped_by.items()) == [("atexit", 199), ("join", 1)]
    assert times_of(site) == (199 * MS, 297 * MS, 299 * MS)


def test_a_site_without_a_zombie_has_no_times() -> None:
    (site,) = fork_sites([life(7, **FORK)], seen().meta)
    assert (site.intervals, site.late, site.still_zombies) == (None, 0, 0)


def test_processes_by_the_call_that_reaped_them() -> None:
    late, first, second = child(7, "atexit"), child(8), child(9)
    lives = [late, zombie(10), first, life(11), second]
    found = asked(analysis(lives), lambda observation: observation.zombie_intervals().by_kind)
    counts = [(kind, each.distribution.count if each.distribution else 0) for kind, each in found]
    assert counts == [("join", 2), ("atexit", 1)]


def test_a_site_counts_zombies_of_100_ms_as_late() -> None:
    (site,) = fork_sites([child(7, waited=100 * MS), child(8, waited=100 * MS - 1)], seen().meta)
    assert (site.children, site.late) == (2, 1)


def test_reap_sites() -> None:
    lives = [child(7), child(8, "atexit"), zombie(9, **FORK), autoreaped(10, **FORK)]
    first, second = reap_sites(lives, seen().meta)
    assert first.site == Frame("main", SITE.file, 50)
    assert dict(first.reaped_by) == {"join": 1, "atexit": 1}
    assert (second.site, dict(second.reaped_by)) == (None, {"kernel": 1})


@pytest.mark.parametrize(
    ("began", "when"),
    [(100 * MS, "the child ended"), (1200 * MS, "the child had ended before")],
)
def test_a_join_that_gave_up_although_the_child_had_ended(began: int, when: str) -> None:
    """A grandchild may hold the pipe open that the join waits for."""
    late = child(7, "atexit", waited=3 * S)
    found = only(seen(late, joins=(join(7, "timeout", began=began, timeout_s=0.05),)))
    assert f" gave up after 50 ms, {when}" in found.evidence[0]
    assert " 0 ns later" not in found.evidence[0]


def test_children_of_several_threads_are_their_processs() -> None:
    threads = [zombie(7 + tid, forker=Actor(41230, tid, "python3")) for tid in (41236, 41237)]
    (found,) = findings(seen(*threads))
    assert found.title.startswith("2 children of python3 41230 stayed zombies")
    (found,) = findings(seen(threads[0]))
    assert found.title.startswith("1 child of python3 41230 (thread 41236) stayed a zombie")
