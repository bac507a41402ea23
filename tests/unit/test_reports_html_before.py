# SPDX-License-Identifier: Apache-2.0
"""The HTML page with processes that were zombies before the observation, and of scenarios."""

from __future__ import annotations

import re

from tests.unit.life_builders import APP, BEGAN, S, analysis, app, ended, found_dead
from tests.unit.observations import page_of
from tests.unit.test_reports_html import data_of, leaking
from zombiebpf.model.life import ReapedBy
from zombiebpf.reports.html.page_data import FOUND_DEAD
from zombiebpf.trace import observe


def test_a_zombie_from_before_is_told_as_one() -> None:
    reaped = found_dead(8, reap_ns=BEGAN + S, reaper=APP, reaped_by=ReapedBy.PARENT)
    page = page_of(analysis([found_dead(7), reaped]))
    data = data_of(page)
    assert [flags & FOUND_DEAD for flags in data["lives"]["flags"]] == [FOUND_DEAD] * 2
    assert data["lives"]["zombie"] == [None, None]  # never invented
    assert [data["texts"][n] for n in data["lives"]["above"]] == ["python3 41230"] * 2
    head = page.split('<section id="timeline">')[0]
    assert "<dd>&gt;= 6 s</dd>" in head
    assert "since before we looked" in head


def test_a_lane_of_many_shows_it_as_a_zombie_from_the_start_on() -> None:
    with observe(analysis([found_dead(pid) for pid in range(7, 30)], lasted=4 * S)) as dead:
        dead.tree(1, 20)
        assert list(dead.densities(4, (BEGAN, BEGAN + 4 * S)).values()) == [([0.0] * 4, [3.0] * 4)]
    lives = [app(), *(ended(pid) for pid in range(100, 150)), found_dead(7)]
    with observe(analysis(lives)) as observation:
        assert 7 in [each.life.pid for each in observation.tree(10, 5) if each.life is not None]


def test_what_stands_above_the_answer() -> None:
    page = page_of(leaking(), about="3 scenarios <made>")
    head = page.split('<section id="timeline">')[0]
    assert "<h1>3 scenarios &lt;made&gt;</h1>" in head
    assert re.search(r'<p class="answer">[^<]*app\.py:42[^<]*</p>', head)
