# SPDX-License-Identifier: Apache-2.0
"""The page opens anywhere, complains of nothing, fetches nothing, and can be read by all."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.browser import sample_pages
from tests.browser.chromium import Page
from tests.unit.hostile_analysis import HOSTILE
from tests.unit.life_builders import analysis, app
from zombiebpf.diagnosis.comparison import compare
from zombiebpf.reports.comparison import COMPARISONS
from zombiebpf.reports.terminal import TextOptions

WIDTHS = (390, 1600)
THEMES = ("light", "dark")
NAMES = ("unjoined", "everything", "hostile", "far", "many")


@pytest.fixture(params=NAMES)
def file(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_clean(page: Page, file: Path, width: int, theme: str) -> None:
    page.shape(width, 900, theme)
    page.open(file)
    page.settle()
    assert page.complaints() == []
    assert [url.split("#")[0] for url in page.requests()] == [file.as_uri()]
    assert page.js("return document.documentElement.scrollWidth") <= width
    assert page.js("return Z.stats.first") is not None
    assert page.painted(page.theme_color("run")) > 0
    assert page.js("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)" if theme == "light" else "rgb(15, 19, 24)"
    )


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_no_serious_fault(page: Page, everything: Path, width: int, theme: str) -> None:
    page.shape(width, 900, theme)
    page.open(everything)
    page.js("Z.choose(1)")
    page.js("for (const each of document.querySelectorAll('details')) each.open = true")
    page.js("Z.search('zombie')")
    assert page.faults() == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_opens_clean(page: Page, tmp_path: Path, width: int) -> None:
    found = compare(sample_pages.many(500), sample_pages.everything())
    file = tmp_path / "compare.html"
    with open(file, "w", encoding="utf-8") as out:
        COMPARISONS["html"](found, ("before.db", "after.db"), out, TextOptions())
    page.shape(width, 900)
    page.open(file)
    assert page.complaints() == []
    assert page.requests() == [file.as_uri()]
    assert page.js("return document.documentElement.scrollWidth") <= width
    assert page.faults() == []


def test_a_stranger_finds_who_leaked_and_where(page: Page, unjoined: Path) -> None:
    page.open(unjoined)
    above = page.js("""return [...document.querySelectorAll("h1, .finding")]
        .map((each) => each.innerText).join("\\n")""")
    assert "app.py:42" in page.text("h1")
    assert "720 ms" in page.text(".figures .bad:nth-child(4)")
    assert "MainProcess.executor" in above
    assert "p.start()" in above
    assert page.js("return document.querySelector('#timeline').getBoundingClientRect().top") < 1000


def test_without_scripts_all_but_the_timeline_is_there(page: Page, unjoined: Path) -> None:
    page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.driver.get(unjoined.as_uri())
    words = page.find("body").text
    for each in ("app.py:42", "720 ms", "need JavaScript", "Where they were forked", "kmem_cache"):
        assert each in words
    assert not page.find("#lanes").is_displayed()
    assert not page.find("#theme").is_displayed()


def test_the_theme_changes_the_drawing_too(page: Page, unjoined: Path) -> None:
    page.open(unjoined)
    white, dark = (255, 255, 255), (15, 19, 24)
    assert page.painted(white) > 10_000
    for expected in (white, dark, white):  # light, dark, auto
        page.find("#theme").click()
        page.settle()
        assert page.painted(expected) > 10_000
    page.shape(theme="dark")  # the system's own colours change
    page.until(lambda: page.painted(dark) > 10_000, "the dark timeline")


def test_paper_is_white_and_unfolded(page: Page, everything: Path) -> None:
    page.shape(theme="dark")
    page.open(everything)
    page.js("""addEventListener("beforeprint", () => {
        window.printed = [document.querySelectorAll("details:not([open])").length,
            document.documentElement.dataset.theme]; })""")
    page.js("document.querySelector('.finding').open = false")
    result = page.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(result["data"]).startswith(b"%PDF-")
    assert page.js("return window.printed") == [0, "light"]
    assert page.js("return document.querySelector('.finding').open") is False
    assert page.js("return document.documentElement.dataset.theme") == "auto"


def test_hostile_texts_are_only_texts(page: Page, hostile: Path) -> None:
    page.open(hostile)
    for lane in range(page.js("return Z.count")):
        page.js("Z.choose(arguments[0], true)", lane)
    page.settle()
    for button in page.driver.find_elements("css selector", "button[data-query]")[:5]:
        page.js("arguments[0].click()", button)
    assert page.js("return window.pwned") is None
    assert page.js("return document.querySelectorAll('img, iframe, svg[onload]').length") == 0
    assert page.complaints() == []
    script, braces = HOSTILE[0], HOSTILE[3]
    for text in (script, braces):
        assert text in page.js("return document.body.innerText")
    lane = page.lane_of(60_000)
    page.js("Z.choose(arguments[0])", lane)
    assert script in page.text("#facts")


@pytest.mark.parametrize("count", [0, 1])
def test_few_processes(page: Page, written: Any, count: int) -> None:
    page.open(written(f"few-{count}", analysis([app()][:count])))
    page.settle()
    assert page.complaints() == []
    assert ("No process was seen." in page.text("main")) is (count == 0)


def test_a_hundred_thousand_open(page: Page, written: Any) -> None:
    file = written("huge", sample_pages.many(100_000))
    assert file.stat().st_size < 20_000_000
    page.open(file)
    page.settle()
    assert page.complaints() == []
    assert "100000 processes are too many for a lane each" in page.text("#timeline")
    shared, lanes = page.js(
        "return [Object.values(Z.d.shared).reduce((n, each) => n + each.count, 0), Z.count]"
    )
    assert shared + lanes - page.js("return Object.keys(Z.d.shared).length") == 100_000
    lane = page.js("return Number(Object.keys(Z.d.shared)[0])")
    page.js("Z.choose(arguments[0], true)", lane)
    assert "in one lane" in page.text("#facts")
    x, y = page.place(lane, 1800e9)
    x0, y0, height = x, y, page.view()["lane"]
    column = {page.color(x0, y0 + part * height) for part in (-0.3, -0.1, 0.1, 0.3)}
    assert page.theme_color("run") in column
