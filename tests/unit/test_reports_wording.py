# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tests.unit.life_builders import MS, US, S, ended, life, zombie
from zombiebpf.model.life import Actor
from zombiebpf.model.stack import Frame
from zombiebpf.wording.text import printable
from zombiebpf.wording.wording import Wording, children_of, count_of, zombies_noun

WORDS = Wording()
DAY = 86_400 * S


@pytest.mark.parametrize(
    ("ns", "expected"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1 µs"),
        (1_234, "1.23 µs"),
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
        ("C:\\new", "C:\\new"),
    ],
)
def test_printable(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_printable_in_ascii() -> None:
    assert printable("é 猫 😀 \x1b ok", unicode=False) == r"\xe9 \u732b \U0001f600 \x1b ok"


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
