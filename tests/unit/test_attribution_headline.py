# SPDX-License-Identifier: Apache-2.0
"""Zombies from before the observation, and the answer in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.hostile_analysis import hostile
from tests.unit.life_builders import (
    APP,
    BEGAN,
    MS,
    SYSTEMD,
    S,
    adopted,
    analysis,
    autoreaped,
    ended,
    found_dead,
    killed,
    life,
    zombie,
)
from tests.unit.observations import findings, fork_sites, headline
from tests.unit.stack_builders import STARTING, frame, stack
from tests.unit.test_attribution_findings import (
    FORK,
    OS_FORK,
    OTHER,
    SITE,
    call,
    child,
    join,
    only,
    seen,
)
from zombiebpf.model.life import Actor, Life, ReapedBy


def test_a_zombie_since_before_we_looked_is_a_leak() -> None:
    observed = seen(found_dead(7), found_dead(8))
    found = only(observed)
    assert (found.kind, found.severity) == ("leak", "error")
    assert found.title == (
        "2 children of python3 41230 were zombies since before we looked, for at least 6 s, still"
    )
    assert found.evidence[0] == (
        "PID 7 is a zombie for at least 6 s, still (since before we looked; started 1 min 6 s ago)"
    )
    assert "make python3 wait" in found.fix.lower()
    assert headline(observed, [found]) == (
        "2 of 2 children stayed zombies for 6 s, still; all of python3 41230; nobody waited for"
        " them"
    )


def test_nor_does_a_short_look_hide_it() -> None:
    """Its time is not known, its age is: nobody has waited for it."""
    assert only(seen(found_dead(7), lasted=MS)).title == (
        "1 child of python3 41230 was a zombie since before we looked, for at least 1 ms, still"
    )
    assert findings(seen(found_dead(7, age=MS), lasted=MS)) == []


def test_one_that_was_reaped_is_judged_by_what_was_seen() -> None:
    given: dict[str, Any] = {"reaper": APP, "reaped_by": ReapedBy.PARENT, "reap_call": call("join")}
    soon = found_dead(7, reap_ns=BEGAN + 5 * MS, **given)
    assert findings(seen(soon)) == []
    late = found_dead(7, reap_ns=BEGAN + 3 * S, **given)
    found = only(seen(late))
    assert found.title == (
        "1 child of python3 41230 waited as a zombie for at least 3 s to be reaped by join"
    )
    assert late.zombie_interval_ns is None
    assert headline(seen(late), [found]) == (
        "the only child stayed a zombie for at least 3 s; of python3 41230; join reaped it late"
    )


def test_the_age_counts_the_time_that_the_machine_slept() -> None:
    found = only(seen(found_dead(7), boottime_offset_ns=10 * S))
    assert found.evidence[0].endswith("(since before we looked; started 1 min 16 s ago)")


def test_a_zombie_since_before_we_looked_that_init_was_given_is_a_leak() -> None:
    given: dict[str, Any] = {"reaper": SYSTEMD, "reaped_by": ReapedBy.ADOPTER}
    moved = adopted(at=4 * S, while_zombie=True)
    lives = [found_dead(pid, reap_ns=BEGAN + 4 * S, reparents=[moved], **given) for pid in (7, 8)]
    found = only(seen(*lives))
    assert (found.kind, found.severity) == ("leak", "warning")
    assert found.title == (
        "2 children of python3 41230 were zombies since before we looked, for at least 4 s"
    )


def test_a_slow_reap_of_some_from_before_has_a_lower_bound() -> None:
    given: dict[str, Any] = {"reaper": APP, "reaped_by": ReapedBy.PARENT, "reap_call": call("join")}
    before = found_dead(7, reap_ns=BEGAN + 3 * S, **given)
    others = [ended(pid, latency=S, **given) for pid in (8, 9)]
    assert only(seen(before, *others)).title == (
        "3 children of python3 41230 waited as zombies for sometimes at least 3 s to be reaped by"
        " join"
    )


def test_a_zombie_from_before_that_the_exit_function_joined_is_found() -> None:
    late = found_dead(7, reap_ns=BEGAN + 3 * S, reaper=APP, reaped_by=ReapedBy.PARENT,
                      reap_call=call("atexit"))  # fmt: skip
    found = only(seen(late))
    assert found.kind == "leak"
    assert found.title == (
        "1 child of python3 41230 was a zombie since before we looked, for at least 3 s"
    )


def test_what_was_attached_to_is_somebodys_child() -> None:
    """The first life of an attach is no command of ours."""
    assert only(analysis([found_dead(7)])).kind == "leak"


def test_a_fork_site_counts_a_zombie_from_before_as_late() -> None:
    (site,) = fork_sites([found_dead(7)], seen().meta)
    assert (site.late, site.still_zombies, site.intervals) == (1, 1, None)
    assert fork_sites([found_dead(7)], seen(lasted=MS).meta)[0].late == 0


# --- the answer ---


def said(*lives: Life, **more: Any) -> str:
    observed = seen(*lives, **more)
    return headline(observed, findings(observed))


def test_the_answer_counts_and_says_how_long_where_and_why() -> None:
    late = [child(pid, "atexit", waited=1200 * MS + pid) for pid in (7, 8, 9)]
    others = [child(pid) for pid in range(100, 217)]
    assert said(*late, *others) == (
        "3 of 120 children stayed zombies for more than 1.2 s; all forked at app.py:42; nobody"
        " joined them until the parent's end"
    )


@pytest.mark.parametrize(
    ("lives", "text"),
    [
        ([child(7, "atexit", waited=720 * MS)],
         "the only child stayed a zombie for 720 ms; forked at app.py:42; nobody joined it until"
         " the parent's end"),
        ([zombie(7, **OS_FORK), child(8)],
         "1 of 2 children stayed a zombie for 5 s, still; forked at app.py:42; nobody waited for"
         " it"),
        ([zombie(7, **FORK), child(8, "atexit", waited=S), child(9)],
         "2 of 3 children stayed zombies for 1 s or more, 1 still; all forked at app.py:42; nobody"
         " joined 1, nobody joined 1 until the parent's end"),
        ([child(7, "is_alive", waited=S), child(8, "is_alive", waited=S,
                                                fork_site=frame("other:3"))],
         "2 of 2 children stayed zombies for 1 s; 1 forked at app.py:42; is_alive reaped them"
         " late"),
        ([zombie(pid, fork_site=frame(f"main:{pid}"), fork_stack=stack(*STARTING, "main:7"))
          for pid in (7, 8, 9)],
         "3 of 3 children stayed zombies for more than 4.9 s, still; forked at 3 different lines;"
         " nobody joined them"),
        ([child(7, "not Python", waited=2 * S, reparents=[adopted(at=500 * MS)])],
         "the only child stayed a zombie for 2 s; forked at app.py:42; init waits late for it"),
        ([zombie(pid, reparents=[adopted(at=500 * MS)]) for pid in (7, 8)],
         "2 of 2 children stayed zombies for more than 4.9 s, still; all of python3 41230; init"
         " does not wait for them"),
        ([zombie(7, fork_site=SITE, fork_stack=stack("@billiard.process:Process.start",
                                                     "start_all:42"))],
         "the only child stayed a zombie for 5 s, still; forked at app.py:42; nobody joined it"),
        ([zombie(7), zombie(8, forker=OTHER)],
         "2 of 2 children stayed zombies for more than 4.9 s, still; nobody waited for them"),
        ([zombie(7), zombie(8)],
         "2 of 2 children stayed zombies for more than 4.9 s, still; all of python3 41230; nobody"
         " waited for them"),
    ],
)  # fmt: skip
def test_the_answer(lives: list[Life], text: str) -> None:
    assert said(*lives) == text


def test_the_answer_to_a_join_that_ran_out_of_time() -> None:
    text = said(child(7, "atexit", waited=3 * S), joins=(join(7, "timeout", timeout_s=0.05),))
    assert text == (
        "the only child stayed a zombie for 3 s; forked at app.py:42; a join ran out of time for it"
    )


def test_the_answer_names_the_parent_if_all_have_the_same() -> None:
    threads = [Actor(41230, tid, "python3") for tid in (41230, 41236, 41237)]
    by_three = said(*(zombie(7 + n, forker=each) for n, each in enumerate(threads)))
    assert "; all of python3 41230; " in by_three
    by_one = said(*(zombie(7 + n, forker=threads[1]) for n in range(3)))
    assert "; all of python3 41230 (thread 41236); " in by_one


def test_an_unknown_line_is_not_counted_as_a_line() -> None:
    assert "different lines" not in said(zombie(7), zombie(9), zombie(10, **FORK))


def test_the_answer_counts_what_else_was_found() -> None:
    parent, from_ = ended(8, wait_status=killed(9)), Actor(8, 8, "python3")
    left = life(9, forker=from_, reparents=[adopted(at=S)._replace(from_=from_)])
    assert said(zombie(7, **OS_FORK), parent, left) == (
        "1 of 3 children stayed a zombie for 5 s, still; forked at app.py:42; nobody waited for"
        " it; and 1 more finding"
    )


def test_the_answer_on_children_without_a_zombie() -> None:
    assert said(life(7)) == "nothing to find: 1 child, no zombie"


def test_the_answer_has_nanoseconds() -> None:
    observed = seen(*(child(pid, "is_alive", waited=5) for pid in (7, 8)))
    assert headline(observed, findings(observed, 1)).startswith(
        "2 of 2 children stayed zombies for 5 ns; "
    )


def test_the_answer_where_something_graver_was_found() -> None:
    text = said(autoreaped(7, **FORK), child(8, "is_alive", waited=S), joins=(join(7, "stolen"),))
    assert text == (
        "the exit status of 1 child forked at app.py:42 is lost: SIGCHLD is ignored;"
        " and 1 more finding"
    )


def test_the_answer_survives_odd_names() -> None:
    observed = hostile()
    text = headline(observed, findings(observed))
    assert "8 of 29 children stayed zombies" in text
    unseen = [child(pid, waited=S, reap_call=None) for pid in (7, 8)]
    assert said(*unseen) == (
        "2 of 2 children stayed zombies for 1 s; all forked at app.py:42; reaped late"
    )
    odd = seen(child(7, "{them} {0} {", waited=S))
    assert said(*odd.lives[1:]).endswith("{them} {0} { reaped it late")


def test_the_headline_names_three_reasons() -> None:
    kinds = ["join", "join", "is_alive", "exitcode", "Popen.poll"]
    observed = seen(*(child(7 + n, kind, waited=S) for n, kind in enumerate(kinds)))
    assert headline(observed, findings(observed)).endswith(
        "; join reaped 2 late, is_alive reaped 1 late, exitcode reaped 1 late and others"
    )
