# SPDX-License-Identifier: Apache-2.0
"""The layout of the text report: widths, trees, colour, hostile names."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from tests.unit.life_builders import (
    APP,
    MS,
    US,
    S,
    adopted,
    analysis,
    app,
    crowd,
    ended,
    killed,
    life,
    line_of,
    rendered,
    section,
    zombie,
)
from zombiebpf.model.life import Actor, PidNamespace
from zombiebpf.model.stack import Frame
from zombiebpf.reports.tree import OUTLIERS, WHOLE
from zombiebpf.wording.wording import Wording

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [80, 100, 120, 160, 200])
def test_no_line_is_longer_than_the_width(width: int, unicode: bool) -> None:
    lives = [
        *crowd().lives,
        life(99, argv=("猫" * 60, "long " * 60)),
        ended(98, wait_status=killed(64, core=True), pidns=PidNamespace(7, 4194304)),
    ]
    text = rendered(analysis(lives, command=["x" * 300]), width, unicode=unicode)
    assert [line for line in text.splitlines() if cell_len(line) > width] == []
    assert unicode or text.isascii()


def test_a_wide_page_is_used() -> None:
    narrow, wide = rendered(crowd(), 80), rendered(crowd(), 200)
    assert len(wide.splitlines()) < len(narrow.splitlines()) - 20
    lines = wide.splitlines()
    assert lines[3].split("  ")[-1] == "REPARENTED"
    assert lines[3].count("  ") >= 7
    assert re.search(r"Zombie interval +Reap latency", wide)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_every_life_is_there_once_in_tree_order(width: int) -> None:
    lines = rendered(crowd(), width).splitlines()
    table = lines[4 : lines.index("", 4)]
    pids = [int(found.group(1)) for line in table if (found := re.match(r" *(\d+)  ", line))]
    assert sorted(pids) == sorted(each.pid for each in crowd().lives)
    assert pids[3:6] == [41233, 41234, 41235]  # children right after their forker


@pytest.mark.parametrize("width", [80, 200])
def test_two_hundred_lives_are_all_printed_whole(width: int) -> None:
    lives = [app()] + [
        ended(4193000 + index, index * US, latency=(50 + index) * US, argv=("w" * 90,))
        for index in range(WHOLE - 1)
    ]
    text = rendered(analysis(lives), width)
    for index in range(WHOLE - 1):
        assert len(re.findall(f"(?m)^ *{4193000 + index}  ", text)) == 1
    latencies = [int(each) for each in re.findall(r" (\d+) µs", "\n".join(text.splitlines()[4:]))]
    assert set(range(50, 50 + WHOLE - 1)) <= set(latencies)


@pytest.mark.parametrize("width", [80, 200])
def test_of_more_the_outliers_are_printed_and_a_line_for_the_others_of_each_line(
    width: int,
) -> None:
    """2,000 children of two lines: 100 of them with longer and longer zombie intervals."""
    lines = (Frame("main", "/srv/app.py", 7), Frame("main", "/srv/app.py", 8))
    lives = [app()]
    for index in range(2000):
        latency = (1 + index % 10) * 50 * US + (index // 20 * MS if index % 20 == 0 else 0)
        lives.append(ended(50_000 + index, index * US, latency=latency, fork_site=lines[index % 2]))
    text = rendered(analysis(lives), width)
    table = text[: text.index("\nTimeline\n")]
    shown = [int(each) for each in re.findall(r"(?m)^ *(5\d{4})  ", table)]
    assert shown == [50_000 + 20 * (99 - each) for each in reversed(range(OUTLIERS))]
    assert "960 more, forked at app.py:7" in table
    assert "1000 more, forked at app.py:8" in table
    assert len(table.splitlines()) < 4 * OUTLIERS
    rest = sorted(
        each.zombie_interval_ns or 0
        for each in lives
        if each.fork_site == lines[0] and each.pid not in shown
    )
    words = [Wording().duration(rest[rank - 1]) for rank in (480, 951, 960)]
    p50, p99, most = words
    flat = " ".join(table.split())
    assert f"960 more, forked at app.py:7; │ zombies for p50 {p50}, p99 {p99}, max {most}" in (
        flat if width == 80 else flat.replace("app.py:7; zombies", "app.py:7; │ zombies")
    )


def test_a_long_time_as_a_zombie_moves_no_column() -> None:
    subject = zombie(7, argv=("w" * 90,), zombie_exact=False)
    observed = analysis([app(reparents=[adopted()]), subject], lasted=86_000 * S)
    line = line_of(rendered(observed), 7)
    assert line.endswith("ZOMBIE for >= 23 h 53 min, still")
    assert len(line) <= 80
    moved = zombie(7, zombie_exact=False, reparents=[adopted()])
    lines = rendered(analysis([app(), moved], lasted=86_000 * S), 200).splitlines()
    assert lines[3].index("REPARENTED") == lines[5].index("→ init")


def test_bars_are_drawn_to_an_eighth_of_a_cell_and_never_vanish() -> None:
    lives = [ended(pid, latency=100 * US) for pid in range(100, 1100)]
    lives += [ended(7, latency=10 * MS), *(ended(pid, latency=S) for pid in range(23, 34))]
    bars = section(rendered(analysis(lives)), "Reap latency")
    assert bars[0] == "    64 µs -  128 µs  1000  " + "█" * 40
    assert [bar for bar in bars if bar.endswith("   1  ▏")] == ["  8.19 ms - 16.4 ms     1  ▏"]
    assert bars[-1] == "   524 ms -  1.05 s    11  ▌"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_colour_changes_nothing_but_colour(width: int) -> None:
    plain, colored = rendered(crowd(), width), rendered(crowd(), width, color=True)
    assert "\x1b" not in plain
    assert "\x1b" in colored
    stripped = "".join(line.rstrip(" ") + "\n" for line in ESCAPE.sub("", colored).splitlines())
    assert stripped == plain


@pytest.mark.parametrize("color", [True, False])
def test_the_observed_program_cannot_write_to_the_terminal(color: bool) -> None:
    nasty = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202e\udcff"
    actor = Actor(5, 5, nasty)
    lives = [
        ended(7, argv=("python3", nasty), comm=nasty, forker=actor, reaper=actor,
              reparents=[adopted(actor)]),
        zombie(8, argv=None, comm=nasty),
    ]  # fmt: skip
    observed = analysis(lives, command=["run", nasty])
    for width in (80, 400):
        text = (
            ESCAPE.sub("", rendered(observed, width, color)) if color else rendered(observed, width)
        )
        assert all(char.isprintable() or char == "\n" for char in text)
        assert r"\x1b]0;owned\x07\x1b[2J" in text
        assert len(text.splitlines()) == text.count("\n")
        text.encode("utf-8")


def test_a_newline_in_a_command_makes_no_line() -> None:
    text = rendered(analysis([life(7, argv=("python3", "-c", "import os\n9999  fake"))]))
    assert r"python3 -c 'import os\n9999  fake'" in line_of(text, 7)
    assert "\n9999" not in text


def test_a_cut_command_says_so() -> None:
    assert "python3 app.py …  running" in rendered(analysis([life(7, argv_cut=True)]))
    long = rendered(analysis([life(7, argv=("x" * 200,))]), unicode=False)
    assert re.search(r" x{30,}\.\.\.  running$", line_of(long, 7))


def test_a_long_command_loses_its_directories_before_its_end() -> None:
    argv = (
        "/usr/lib/python/versions/3.11/bin/python3",
        "/srv/app/current/worker.py",
        "--queue=mail",
    )
    line = line_of(rendered(analysis([life(7, argv=argv)])), 7)
    assert line.lstrip().split("  ")[1] == "…/python3 …/worker.py --queue=mail"
    line = line_of(rendered(analysis([life(7, argv=argv)]), 90), 7)
    assert line.lstrip().split("  ")[1] == "…/python3 /srv/app/current/worker.py --queue=mail"
    assert " ".join(argv) in line_of(rendered(analysis([life(7, argv=argv)]), 160), 7)


def test_the_pid_in_the_container_stands_beside() -> None:
    text = rendered(analysis([app(), life(41231, pidns=PidNamespace(7, 12))]))
    assert re.search(r"^41231 \(12\)  └ python3", text, re.MULTILINE)
    assert re.search(r"^ +41230  python3", text, re.MULTILINE)


def test_a_reused_pid_is_no_parent() -> None:
    """The first life of the PID was gone when the child was forked."""
    first = ended(7, 0, ran=MS, forker=None)
    second = ended(7, 2 * S, ran=S, forker=None)
    forker = Actor(7, 7, "sh")
    lives = [first, ended(23, 500 * MS, forker=forker), second, ended(41, 2500 * MS, forker=forker)]
    lines = rendered(analysis(lives), 200).splitlines()[4:8]
    assert [line.split()[0] for line in lines] == ["7", "23", "7", "41"]
    assert [("└" in line) for line in lines] == [False, False, False, True]


def test_deep_trees_stay_within_the_page() -> None:
    chain = [
        ended(100 + depth, depth * MS, forker=Actor(99 + depth, 99 + depth, "sh"))
        for depth in range(WHOLE)
    ]
    text = rendered(analysis(chain))
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "(199) python3" in line_of(text, 299)
    assert APP.pid not in [each.pid for each in chain]
