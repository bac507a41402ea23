# SPDX-License-Identifier: Apache-2.0
"""The text timeline: a line a process, as wide as asked, zombies without colour."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from tests.unit.hostile_analysis import hostile
from tests.unit.life_builders import (
    APP,
    BEGAN,
    MS,
    S,
    adopted,
    analysis,
    app,
    crowd,
    ended,
    found_dead,
    life,
    zombie,
)
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Join
from zombiebpf.reports.terminal import TextOptions
from zombiebpf.reports.text_page import TextPage
from zombiebpf.reports.timeline import (
    ADOPTED,
    BEFORE,
    DEAD,
    ENDS,
    RUNS,
    WAITS,
    ZOMBIE,
    row,
    write_timeline,
)
from zombiebpf.reports.tree import OUTLIERS, WHOLE
from zombiebpf.trace import observe

SPAN = (BEGAN, BEGAN + 1000 * MS)


def drawn(observed: Analysis, width: int = 100, color: bool = False, unicode: bool = True) -> str:
    out = io.StringIO()
    with observe(observed) as observation:
        page = TextPage(out, TextOptions(width, color, unicode))
        write_timeline(page, observation, observation.tree(WHOLE, OUTLIERS))
    return out.getvalue()


def leaking() -> Analysis:
    late = ended(41231, 0, ran=300 * MS, latency=500 * MS)
    return analysis([app(ran=S), late], lasted=S)


def test_cells_follow_the_life() -> None:
    late = ended(7, 200 * MS, ran=300 * MS, latency=300 * MS, zombie_ns=BEGAN + 500 * MS)
    assert row(late, (), SPAN, 10) == [None, None, *[RUNS] * 3, *[ZOMBIE] * 3, ENDS, None]


def test_a_short_zombie_is_the_end_mark_alone() -> None:
    assert row(ended(7, 0, ran=500 * MS), (), SPAN, 10) == [*[RUNS] * 5, ENDS, *[None] * 4]


def test_nor_does_a_short_one_fill_a_cell_where_it_crosses_into_the_next() -> None:
    short = ended(7, 0, ran=500 * MS - 60_000, zombie_ns=BEGAN + 500 * MS - 50_000)
    assert row(short, (), SPAN, 10) == [*[RUNS] * 5, ENDS, *[None] * 4]
    join = Join(7, 7, None, None, BEGAN + 250 * MS, BEGAN + 252 * MS, "timeout")
    assert row(life(7), [join], SPAN, 4) == [RUNS] * 4


def test_what_lasts_on_has_no_end_mark() -> None:
    assert row(life(7), (), SPAN, 4) == [RUNS] * 4
    dead = zombie(7, 0, ran=500 * MS, zombie_ns=BEGAN + 500 * MS)
    assert row(dead, (), SPAN, 4) == [RUNS, RUNS, ZOMBIE, ZOMBIE]


def test_joins_and_adoptions() -> None:
    join = Join(7, 7, None, None, BEGAN + 250 * MS, BEGAN + 499 * MS, "timeout")
    assert row(life(7), [join], SPAN, 4) == [RUNS, WAITS, RUNS, RUNS]
    orphan = life(7, reparents=[adopted(at=500 * MS)])
    assert row(orphan, (), SPAN, 4) == [RUNS, RUNS, ADOPTED, RUNS]


def test_unseen_instants_leave_no_false_mark() -> None:
    late = ended(7, zombie_ns=None, ran=500 * MS)
    assert ZOMBIE not in row(late, (), SPAN, 10)
    assert row(life(7, fork_ns=None), (), SPAN, 2) == [RUNS, RUNS]


@pytest.mark.parametrize("unicode", [True, False])
def test_zombies_are_letters(unicode: bool) -> None:
    text = drawn(leaking(), unicode=unicode)
    line = next(line for line in text.splitlines() if "41231" in line)
    assert 25 < line.count("Z") < 45
    assert unicode or text.isascii()
    assert "Z zombie" in text


def test_colour_only_where_it_is_asked_for() -> None:
    assert "\x1b" not in drawn(leaking())
    colored = drawn(leaking(), color=True)
    assert re.search("\x1b\\[1;31mZ+\x1b\\[0m", colored)
    assert re.sub("\x1b\\[[0-9;]*m", "", colored) == drawn(leaking())


@pytest.mark.parametrize("width", [60, 80, 100, 250])
@pytest.mark.parametrize("observed", [leaking(), crowd(), hostile()], ids=["few", "crowd", "odd"])
def test_no_line_is_wider_than_asked(observed: Analysis, width: int) -> None:
    lines = drawn(observed, width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert all(line.isprintable() for line in lines)
    assert len(lines) >= len(observed.lives) + 3


def test_of_many_the_outliers_have_a_line_each_and_the_others_one() -> None:
    lives = [app(), *(ended(50_000 + n, n) for n in range(WHOLE))]
    lives[7] = ended(50_006, 6, latency=2 * S)
    lines = drawn(analysis(lives)).splitlines()
    assert len([line for line in lines if "python3 app.py" in line]) == OUTLIERS
    (together,) = [line for line in lines if f"{WHOLE + 1 - OUTLIERS} more, forked by" in line]
    assert "Z" not in together
    (late,) = [line for line in lines if " 50006 " in line]
    assert late.count("Z") > 10


def test_zombies_of_a_group_are_drawn() -> None:
    lives = [app(), *(ended(50_000 + n, n, latency=2 * S) for n in range(WHOLE + 50))]
    (together,) = [line for line in drawn(analysis(lives)).splitlines() if " more, " in line]
    assert together.count("Z") > 10
    assert together.index("─") < together.index("Z")


def test_joins_are_explained_only_where_there_are_some() -> None:
    assert "waits for" not in drawn(leaking())
    join = Join(APP.pid, APP.pid, 41231, None, BEGAN, BEGAN + 900 * MS, "reaped")
    assert "waits for a child" in drawn(replace(leaking(), joins=[join]))


def test_no_process_no_timeline() -> None:
    assert drawn(analysis([])) == ""


def test_a_zombie_from_before_is_one_from_the_left_edge_on() -> None:
    assert row(found_dead(7), (), SPAN, 4) == [DEAD, ZOMBIE, ZOMBIE, ZOMBIE]
    reaped = found_dead(7, reap_ns=BEGAN + 600 * MS)
    assert row(reaped, (), SPAN, 4) == [DEAD, ZOMBIE, ENDS, None]
    assert row(life(7, fork_ns=None, parent=APP), (), SPAN, 2) == [BEFORE, RUNS]
    text = drawn(analysis([found_dead(7)]))
    assert re.search("7 python3  «Z+\n", text)
    assert "« since before we looked" in text
    assert "«" not in drawn(leaking())
    assert drawn(analysis([found_dead(7)]), unicode=False).isascii()
