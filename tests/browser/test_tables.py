# SPDX-License-Identifier: Apache-2.0
"""Tables sort, turn pages, and lead to the timeline; charts say the same as figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.chromium import Page


@pytest.fixture
def crowded(page: Page, everything: Path) -> Page:
    return page.open(everything)


def column(page: Page, table: str, index: int) -> list[str]:
    found: list[str] = page.js(
        "return [...document.querySelectorAll(arguments[0] + ' tbody tr')]"
        ".map((row) => row.cells[arguments[1]].textContent.trim())",
        table,
        index,
    )
    return found


def click_title(page: Page, table: str, index: int) -> None:
    page.js(
        "document.querySelectorAll(arguments[0] + ' thead button')[arguments[1]].click()",
        table,
        index,
    )


def test_sites_sort_by_number_not_by_text(crowded: Page) -> None:
    table = "#places .scroll:nth-of-type(1) table"
    click_title(crowded, table, 5)
    assert column(crowded, table, 5) == ["4.99 s", "3.2 s", "3.19 s", "87 µs"]
    click_title(crowded, table, 5)
    assert column(crowded, table, 5) == ["87 µs", "3.19 s", "3.2 s", "4.99 s"]
    sorts = crowded.js("return [...document.querySelectorAll('[aria-sort]')].map("
                       "(each) => each.getAttribute('aria-sort'))")  # fmt: skip
    assert sorts == ["ascending"]


def test_processes_sort_with_the_unknown_last(crowded: Page) -> None:
    click_title(crowded, "#processes", 5)
    cells = column(crowded, "#processes", 5)
    assert cells[:4] == ["4.99 s, still", "3.2 s", "3.19 s, still", "<= 16 ms"]
    assert set(cells[-3:]) <= {"-", "no zombie"}
    click_title(crowded, "#processes", 0)
    pids = [int(each) for each in column(crowded, "#processes", 0)]
    assert pids == sorted(pids, reverse=True)


def test_pages_turn(page: Page, many: Path) -> None:
    page.open(many)
    assert page.text("#page") == "10000 processes, page 1 of 200"
    first = column(page, "#processes", 0)
    page.find("#page-on").click()
    assert page.text("#page") == "10000 processes, page 2 of 200"
    assert not set(first) & set(column(page, "#processes", 0))
    page.find("#page-back").click()
    assert column(page, "#processes", 0) == first
    assert page.find("#page-back").get_attribute("disabled") is not None


def test_a_process_leads_to_its_lane(crowded: Page) -> None:
    crowded.js("document.querySelectorAll('#processes tbody button')[4].click()")
    assert crowded.view()["selected"] == 4
    assert crowded.js("return document.activeElement.id") == "lanes"


def test_a_site_leads_to_its_lanes(crowded: Page) -> None:
    crowded.js("document.querySelector('#places button[data-query$=\":19\"]').click()")
    assert crowded.text("#found") == "6 of 20"
    selected = crowded.view()["selected"]
    assert "app.py:19" in crowded.js("return Z.site(Z.d.lives.forkSite[arguments[0]])", selected)


def test_a_finding_leads_to_its_lane(crowded: Page) -> None:
    button = crowded.find(".finding button[data-lane]")
    crowded.js("arguments[0].click()", button)
    lane = int(button.get_attribute("data-lane") or "-1")
    assert crowded.view()["selected"] == lane >= 0
    assert crowded.find("#facts").is_displayed()


def test_each_call_has_its_histogram(crowded: Page) -> None:
    rows = column(crowded, ".chart:nth-child(1) table", 0)
    assert rows[0] == "all calls"
    assert set(rows[1:]) == {"join", "atexit", "start -> _cleanup", "wait4", "unseen"}
    counts = [int(each) for each in column(crowded, ".chart:nth-child(1) table", 1)]
    assert counts[0] == sum(counts[1:])
    labels = crowded.js(
        "return [...document.querySelectorAll('.chart:nth-child(1) svg[role=img]')].map((svg) =>"
        " [...svg.querySelectorAll('title')].map((each) => +each.textContent.split(': ')[1])"
        ".reduce((a, b) => a + b, 0))"
    )
    assert labels == counts
    widths = crowded.js("return [...document.querySelectorAll('.chart rect')].map((each) =>"
                        " each.getBoundingClientRect().width)")  # fmt: skip
    assert all(width > 0.4 for width in widths)
