# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tests.unit.life_builders import (
    APP,
    BEGAN,
    MS,
    SYSTEMD,
    US,
    S,
    adopted,
    autoreaped,
    ended,
    found_dead,
    life,
    zombie,
)
from zombiebpf.model.life import Activity, Actor, AdopterKind, PidNamespace, ReapCall, ReapedBy
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.wording.text import printable
from zombiebpf.wording.wording import (
    Wording,
    call_name,
    children_of,
    count_of,
    full_line_name,
    line_name,
    zombies_noun,
)

WORDS = Wording()
DAY = 86_400 * S


@pytest.mark.parametrize(
    ("ns", "expected"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1 µs"),
        (1_234, "1.23 µs"),
        (9_994, "9.99 µs"),
        (9_995, "10 µs"),
        (10_230, "10.2 µs"),
        (99_940, "99.9 µs"),
        (100_400, "100 µs"),
        (87 * US, "87 µs"),
        (87_340, "87.3 µs"),
        (999_400, "999 µs"),
        (999_600, "1 ms"),  # never 1000 µs
        (1_240 * US, "1.24 ms"),
        (100 * MS, "100 ms"),
        (999_999_999, "1 s"),
        (3_200 * MS, "3.2 s"),
        (59_940 * MS, "59.9 s"),
        (59_999 * MS, "1 min 0 s"),
        (60 * S, "1 min 0 s"),
        (67 * S, "1 min 7 s"),
        (30 * 60 * S + 15 * S, "30 min 15 s"),
        (3599 * S, "59 min 59 s"),
        (3_599_499 * MS, "59 min 59 s"),  # rounded to whole seconds
        (3_599_600 * MS, "1 h 0 min"),
        (3600 * S, "1 h 0 min"),
        (3661 * S, "1 h 1 min"),
        (3 * 3600 * S + 59 * 60 * S, "3 h 59 min"),
        (DAY - 60 * S, "23 h 59 min"),
        (DAY - 1, "1 d 0 h"),
        (25 * 3600 * S, "1 d 1 h"),
        (9 * DAY + 23 * 3600 * S, "9 d 23 h"),
        (-87 * US, "-87 µs"),
    ],
)
def test_duration(ns: int, expected: str) -> None:
    assert WORDS.duration(ns) == expected


def test_duration_in_ascii() -> None:
    assert Wording(unicode=False).duration(87 * US) == "87 us"
    assert Wording().duration(87 * US) == "87 µs"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python3 app.py", "python3 app.py"),
        ("café 猫 😀", "café 猫 😀"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x00\x07\x7f", r"\x00\x07\x7f"),
        ("\x9b31m", r"\x9b31m"),  # CSI in one character
        ("\u202eevil", r"\u202eevil"),  # right-to-left override
        ("\u2028\u200b\ufeff", r"\u2028\u200b\ufeff"),
        ("\U000e0041", r"\U000e0041"),
        (b"\xff\xfe".decode("utf-8", "surrogateescape"), r"\xff\xfe"),
        ("\ud800", r"\ud800"),
        (b"\x80".decode("utf-8", "surrogateescape"), r"\x80"),
        ("\udd00", r"\udd00"),  # no byte: it is beyond those of surrogateescape
        ("\uffff", r"\uffff"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_printable(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_printable_in_ascii() -> None:
    assert printable("é 猫 😀 \x1b ok", unicode=False) == r"\xe9 \u732b \U0001f600 \x1b ok"
    assert printable("ÿĀ\U00010000", unicode=False) == r"\xff\u0100\U00010000"


def test_the_line_of_a_frame() -> None:
    frame = Frame("start_all", "/srv/\x1bapp.py", 42)
    assert WORDS.at_line(frame) == r" at \x1bapp.py:42"
    assert WORDS.site(frame) == r" at \x1bapp.py:42 in start_all"
    assert WORDS.at_line(None) == WORDS.site(None) == ""


def test_counts() -> None:
    assert [count_of(each, "zombie") for each in (0, 1, 2)] == [
        "0 zombies",
        "1 zombie",
        "2 zombies",
    ]
    assert [children_of(each) for each in (0, 1, 2)] == ["0 children", "1 child", "2 children"]
    assert [zombies_noun(each) for each in (1, 2)] == ["a zombie", "zombies"]


def test_nothing_that_a_terminal_acts_upon_gets_through() -> None:
    for code in [*range(0x20), *range(0x7F, 0xA0), 0x061C, *range(0x200B, 0x2010), 0x2066]:
        assert printable(chr(code)).isascii()
        assert printable(chr(code)).isprintable()


def test_command_is_quoted_as_one_would_type_it() -> None:
    assert WORDS.command(life(7, argv=("sh", "-c", "a b", ""))) == "sh -c 'a b' ''"
    assert WORDS.command(life(7, argv=None, comm="kworker/0:1")) == "kworker/0:1"
    assert WORDS.command(life(7, argv=(), comm="x")) == "x"
    assert WORDS.command(life(7, argv=None, comm=None)) == "-"


def test_an_actor_that_the_namespace_cannot_see() -> None:
    assert WORDS.actor(Actor(0, 0, "runc")) == "runc outside"
    assert WORDS.actor(Actor(0, 0, None)) == "outside"
    assert WORDS.actor(Actor(5, None, None)) == "PID 5"
    assert WORDS.actor(None) == "-"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, "exit 0"),
        (255 << 8, "exit 255"),
        (9, "SIGKILL"),
        (6 | 0x80, "SIGABRT (core)"),
        (37, "SIGRTMIN+3"),
        (None, "-"),
    ],
)
def test_ending(status: int, expected: str) -> None:
    assert WORDS.ending(ended(7, wait_status=status)) == expected
    assert WORDS.ending(zombie(7, wait_status=status)) == expected


def test_a_process_between_exit_and_zombie_is_not_running() -> None:
    dying = life(7, exit_ns=5, wait_status=0)
    assert WORDS.ending(dying) == "exit 0"
    assert WORDS.zombie_interval(dying) == "-"
    assert WORDS.reap_latency(dying) == ""
    assert WORDS.ending(dying._replace(wait_status=None)) == "-"


def test_a_frame_without_a_line() -> None:
    frame = Frame("start_all", "/srv/app.py", None)
    assert (line_name(frame), full_line_name(frame)) == ("app.py", "/srv/app.py")
    assert full_line_name(frame._replace(line=42)) == "/srv/app.py:42"


@pytest.mark.parametrize(
    ("pid", "in_container", "expected"),
    [
        (41231, 41231, "41231"),
        (41231, 1, "41231 (1)"),
        (41231, 0, "41231"),  # it is not visible from there
        (0, 7, "outside (7)"),
        (0, 0, "outside"),
    ],
)
def test_the_pid_in_a_container(pid: int, in_container: int, expected: str) -> None:
    assert WORDS.pid(life(pid, pidns=PidNamespace(5, in_container))) == expected


MAIN, READ = Frame("main", "/srv/app.py", 50), Frame("read", "/usr/lib/python3.11/io.py", 7)


@pytest.mark.parametrize(
    ("syscall", "stack", "site", "expected"),
    [
        (None, None, None, "running"),
        (None, None, MAIN, "running at app.py:50 in main"),
        ("read", None, None, "blocked in read"),
        ("read", Stack(()), None, "blocked in read"),
        ("read", Stack((READ,)), None, "blocked in read at io.py:7 in read"),
        ("read", Stack((READ, MAIN)), MAIN, "blocked in read at app.py:50 in main"),
    ],
    ids=["running", "running, line", "not Python", "no frames", "library only", "line"],
)
def test_what_the_parent_did_meanwhile(
    syscall: str | None, stack: Stack | None, site: Frame | None, expected: str
) -> None:
    doing = Activity(BEGAN, APP, None, syscall, stack, site)
    assert WORDS.meanwhile(zombie(7, meanwhile=doing)) == f"meanwhile python3 41230 was {expected}"


def test_the_origin() -> None:
    site = Frame("start_all", "/srv/app.py", 42)
    forked = life(7, fork_site=site)
    assert WORDS.origin(forked) == "forked by python3 41230 at app.py:42 in start_all"
    assert WORDS.origin(found_dead(7)) == "child of python3 41230"
    assert WORDS.origin(life(7, forker=None)) == "forker -"


@pytest.mark.parametrize(
    ("after", "offset", "expected"),
    [(500, 0, "500 ns"), (500, 300, "800 ns"), (-9, 0, "0 ns"), (-9, 8, "0 ns")],
)
def test_the_age_of_a_zombie_that_was_one_before(after: int, offset: int, expected: str) -> None:
    dead = found_dead(7)
    age = f"ZOMBIE since before we looked, started {expected} ago"
    assert WORDS.still_zombie(dead, dead.start_ns + after, offset) == age
    if offset == 0:
        assert WORDS.still_zombie(dead, dead.start_ns + after) == age


def test_the_time_as_a_zombie() -> None:
    dead = zombie(7, zombie_ns=BEGAN)
    assert WORDS.still_zombie(dead, BEGAN + 3200 * MS) == "ZOMBIE for 3.2 s, still"
    assert WORDS.still_zombie(dead, BEGAN - 1) == "ZOMBIE for 0 ns, still"
    late = dead._replace(zombie_exact=False)
    assert WORDS.still_zombie(late, BEGAN + 3200 * MS) == "ZOMBIE for >= 3.2 s, still"


WAIT4 = ReapCall("wait4", 1, BEGAN, 5 * MS)


def test_the_reaper() -> None:
    by_join = ended(7, reap_call=WAIT4._replace(kind="join", site=MAIN))
    assert WORDS.reaper(by_join) == (
        "parent python3 41230, wait4 WNOHANG (join) at app.py:50 in main"
    )
    assert WORDS.reaper(ended(7, reap_call=None)) == "parent python3 41230"
    unread = WAIT4._replace(syscall=None)
    assert WORDS.reaper(ended(7, reap_call=unread)) == "parent python3 41230"
    assert WORDS.reaper(autoreaped(7)) == "kernel, nobody waited"
    assert WORDS.reaper(zombie(7)) == ""
    assert WORDS.reaper(ended(7, reaped_by=None)) == "-"


def test_a_reaper_that_was_not_observed() -> None:
    unseen = ended(7, reaped_by=ReapedBy.UNSEEN, reap_call=WAIT4)
    assert WORDS.reaper(unseen) == "python3 41230, wait4 WNOHANG"
    assert WORDS.reaper(unseen._replace(reaper=None)) == "-"


def test_the_name_of_the_call() -> None:
    assert call_name(ended(7, reap_call=WAIT4)) == "wait4 WNOHANG"
    assert call_name(ended(7, reap_call=WAIT4._replace(options=None))) == "wait4"
    assert call_name(ended(7, reap_call=WAIT4._replace(syscall=None))) is None
    assert call_name(zombie(7)) is None


def test_reparentings() -> None:
    sibling = adopted(APP._replace(tid=None), kind=AdopterKind.THREAD)
    steps = [sibling, adopted(SYSTEMD, while_zombie=True)]
    assert WORDS.reparentings(life(7, reparents=steps)) == (
        "→ thread - of python3 41230 → init systemd 1 while zombie"
    )
    assert WORDS.reparentings(life(7)) == ""
