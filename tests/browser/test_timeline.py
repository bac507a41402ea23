# SPDX-License-Identifier: Apache-2.0
"""The timeline: what is painted where, and everything that can be done with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import Page

MS, S = 1e6, 1e9
CHILD, ROOT = 41231, 41230


@pytest.fixture
def opened(page: Page, unjoined: Path) -> Page:
    page.open(unjoined)
    page.settle()
    return page


@pytest.fixture
def crowded(page: Page, everything: Path) -> Page:
    page.shape(1600, 1400)
    page.open(everything)
    page.settle()
    return page


@pytest.fixture
def thousands(page: Page, many: Path) -> Page:
    page.open(many)
    page.settle()
    return page


def span(page: Page) -> float:
    view = page.view()
    return float(view["t1"] - view["t0"])


# --- painted ---


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1600])
def test_a_lane_shows_when_it_ran_and_was_a_zombie(
    page: Page, unjoined: Path, width: int, theme: str
) -> None:
    page.shape(width, 900, theme)
    page.open(unjoined)
    page.settle()
    lane = page.lane_of(CHILD)
    height = page.view()["lane"]
    run, red = page.theme_color("run"), page.theme_color("zombie")

    x0, y = page.place(lane, 0)
    x1, _ = page.place(lane, S)

    def at(*ms: float) -> list[tuple[int, ...]]:
        """Above the words."""
        return page.colors([(x0 + (x1 - x0) * each / 1000, y - height * 0.26) for each in ms])

    assert at(100, 300) == [run, run]
    zombie = at(*range(330, 750, 4))
    assert zombie.count(red) > 30  # the others are the stripes upon it
    assert all(color[0] >= red[0] and color != run for color in zombie)
    assert not {run, red} & set(at(10, 1045))


def test_joins_adoptions_and_reaps_are_painted(crowded: Page) -> None:
    x, y = crowded.place(crowded.lane_of(ROOT), 2200 * MS)
    height = crowded.view()["lane"]
    assert crowded.color(x, y + height * 0.2) == crowded.theme_color("join")
    for name in ("adopt", "reap", "brief"):
        assert crowded.painted(crowded.theme_color(name)) > 0, name
    x, _ = crowded.place(crowded.lane_of(41234), 2 * S)  # adopted by init, whose lane is above
    ys = [crowded.place(lane, 0)[1] for lane in (crowded.lane_of(41234), -2)]
    column = crowded.colors([(x, y) for y in range(round(min(ys)), round(max(ys)))])
    assert column.count(crowded.theme_color("adopt")) > len(column) * 0.3


def test_a_zombie_from_before_reaches_the_left_edge(page: Page, before: Path) -> None:
    page.shape(1600, 900)
    page.open(before)
    page.settle()
    run, red = page.theme_color("run"), page.theme_color("zombie")
    height = page.view()["lane"]

    def at(pid: int, *ns: float) -> list[tuple[int, ...]]:
        lane = page.lane_of(pid)
        places = [page.place(lane, each) for each in ns]
        return page.colors([(x, y - height * 0.36) for x, y in places])

    everywhere = [each * S / 20 for each in range(1, 119)]
    still, reaped = at(41231, *everywhere), at(41232, *everywhere)
    assert still.count(red) > 45  # the others are the stripes upon it
    assert run not in still + reaped
    assert reaped[:38].count(red) > 12
    assert red not in reaped[42:]
    x, y = page.place(page.lane_of(41231), 0)
    assert page.color(x - 4, y) == red  # the point that shows to the left
    x, y = page.place(page.lane_of(ROOT), 0)
    assert page.color(x - 4, y) == run  # also of what ran before
    page.js("Z.choose(arguments[0])", page.lane_of(41231))
    for words in ("since before we looked", ">= 6 s, still", "child of", "python3 41230"):
        assert words in page.text("#facts")


# --- zoom and pan ---


def test_ctrl_wheel_zooms_at_the_mouse(opened: Page) -> None:
    before = span(opened)
    x, y = map(round, opened.place(opened.lane_of(CHILD), 320 * MS))
    opened.mouse(x, y).perform()
    under = opened.js("return Z.timeAt(arguments[0])", x)
    box = opened.js("const r = document.getElementById('canvas').getBoundingClientRect();"
                    "return [r.left, r.top]")  # fmt: skip
    event = {"type": "mouseWheel", "x": box[0] + x, "y": round(box[1] + y),
             "deltaX": 0, "modifiers": 2}  # fmt: skip
    for _ in range(8):
        opened.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {**event, "deltaY": -120})
    opened.until(lambda: span(opened) < before / 20, "the zoom")
    assert abs(opened.place(opened.lane_of(CHILD), under)[0] - x) < 2
    for _ in range(12):
        opened.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {**event, "deltaY": 120})
    opened.until(lambda: span(opened) == pytest.approx(before), "the whole")


def test_from_an_hour_to_a_microsecond(page: Page, far: Path) -> None:
    page.open(far)
    lane = page.lane_of(CHILD)
    assert span(page) > 3600 * S
    page.keys(Keys.END)
    for _ in range(36):
        page.keys("+")
    assert span(page) == 100  # ns: the nearest there is
    page.js("Z.show(3599123456000, 3599123460000)")
    page.settle()
    page.js("Z.view.at = null; Z.draw()")
    view = page.view()
    per_px = 4000 / (view["width"] - view["gutter"])
    fork, exit_, zombie, reap = 456_789, 457_790, 457_890, 458_135
    y = page.place(lane, 0)[1] - view["lane"] * 0.26
    for boundary, before, after in (
        (fork, None, "run"),
        (exit_, "run", "dying"),
        (zombie, "dying", "brief"),
        (reap, "brief", None),
    ):
        ns = 3_599_123_000_000 + boundary
        x, _ = page.place(lane, ns)
        assert abs((x - view["gutter"]) * per_px - (ns - 3_599_123_456_000)) < 1e-3
        for shift, name in ((-3, before), (3, after)):
            if name is not None:
                assert page.color(round(x) + shift, y) == page.theme_color(name)


def test_all_digits_are_told(page: Page, far: Path) -> None:
    page.open(far)
    page.js("Z.choose(arguments[0])", page.lane_of(CHILD))
    facts = page.text("#facts")
    for digits in ("+3599.123 456 789 s", "+3599.123 457 790 s", "+3599.123 458 135 s"):
        assert digits in facts
    for duration in ("245 ns", "345 ns"):
        assert duration in facts


def test_dragging_pans(opened: Page) -> None:
    opened.js("Z.show(2e8, 4e8)")
    opened.settle()
    before = opened.view()
    x, y = opened.place(opened.lane_of(CHILD), 300 * MS)
    opened.mouse(x, y).click_and_hold().move_by_offset(-200, 0).release().perform()
    opened.settle()
    after = opened.view()
    moved = 200 * (before["t1"] - before["t0"]) / (before["width"] - before["gutter"])
    assert after["t0"] - before["t0"] == pytest.approx(moved, rel=0.02)
    assert after["selected"] == -1  # it was no click


def test_double_click_zooms(opened: Page) -> None:
    before = span(opened)
    x, y = opened.place(opened.lane_of(CHILD), 300 * MS)
    opened.mouse(x, y).double_click().perform()
    opened.until(lambda: span(opened) < before / 3, "the zoom")


def test_buttons_zoom(opened: Page) -> None:
    before = span(opened)
    opened.find("#nearer").click()
    assert span(opened) == pytest.approx(before / 2)
    opened.find("#farther").click()
    opened.find("#nearer").click()
    opened.find("#whole").click()
    assert span(opened) == pytest.approx(before)


def test_fingers_pan_pinch_and_tap(page: Page, unjoined: Path) -> None:
    page.shape(390, 900)
    page.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled",
                                {"enabled": True, "maxTouchPoints": 2})  # fmt: skip
    page.open(unjoined)
    page.js("document.getElementById('canvas').scrollIntoView({block: 'center'})")
    before = span(page)
    x, y = page.place(page.lane_of(CHILD), 600 * MS)
    page.touch("touchStart", (x - 20, y), (x + 20, y))
    for step in range(1, 9):
        page.touch("touchMove", (x - 20 - 5 * step, y), (x + 20 + 5 * step, y))
    page.touch("touchEnd")
    page.until(lambda: span(page) < before / 2, "the pinch's zoom")
    begin = page.view()["t0"]
    page.touch("touchStart", (x, y))
    for step in range(1, 9):
        page.touch("touchMove", (x - 10 * step, y))
    page.touch("touchEnd")
    page.until(lambda: page.view()["t0"] > begin, "the pan")
    assert page.view()["selected"] == -1
    page.touch("touchStart", (x, y))
    page.touch("touchEnd")
    page.until(lambda: page.view()["selected"] == page.lane_of(CHILD), "the tap")
    assert "zombie interval" in page.text("#facts")
    assert page.find("#facts").is_displayed()


# --- facts ---


def test_hovering_tells_all_facts_with_their_hooks(opened: Page) -> None:
    x, y = opened.place(opened.lane_of(CHILD), 600 * MS)
    assert not opened.find("#tip").is_displayed()
    opened.mouse(x, y).perform()
    opened.until(lambda: opened.find("#tip").is_displayed(), "the tip")
    words = opened.find("#tip").text
    for fact in (
        "41231", "app.py:42 in MainProcess.executor", "720 ms", "atexit (wait4 WNOHANG)",
        "parent python3 41230", "exit 0", "sched_process_fork", "kmem_cache_free",
        "signal_generate",
    ):  # fmt: skip
        assert fact in words, fact
    opened.mouse(x, 10).perform()
    opened.until(lambda: not opened.find("#tip").is_displayed(), "the tip's end")


def test_a_click_keeps_the_facts_and_the_stack(opened: Page) -> None:
    x, y = opened.place(opened.lane_of(CHILD), 600 * MS)
    opened.mouse(x, y).click().perform()
    opened.until(lambda: opened.find("#facts").is_displayed(), "the facts")
    opened.find("#facts summary").click()
    assert "BaseProcess.start /usr/lib/python3.11/multiprocessing/process.py:121" in (
        opened.find("#facts").text
    )
    assert "720 ms" in opened.text("#said")


def test_facts_of_joins_and_adoptions(crowded: Page) -> None:
    crowded.js("Z.choose(arguments[0])", crowded.lane_of(41237))
    assert "Process.join, with a timeout of 0.5 s" in crowded.text("#facts")
    assert "timeout" in crowded.text("#facts")
    crowded.js("Z.choose(arguments[0])", crowded.lane_of(41235))
    facts = crowded.text("#facts")
    assert "subreaper containerd-shim 990, while a zombie" in facts
    assert "never: it still is a zombie" in facts


# --- keys ---


def test_keys_do_it_all(crowded: Page) -> None:
    before = span(crowded)
    crowded.js("document.activeElement.blur()")
    crowded.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert crowded.view()["selected"] == 1
    assert crowded.text("#said").startswith("41231 ")
    crowded.keys("z")
    assert crowded.js("return Z.interval(Z.view.selected)") >= 1e8
    crowded.keys(Keys.ENTER)
    assert span(crowded) < before
    crowded.keys(Keys.ARROW_RIGHT)
    begin = crowded.view()["t0"]
    crowded.keys(Keys.ARROW_LEFT)
    assert crowded.view()["t0"] < begin
    crowded.keys("0")
    assert span(crowded) == pytest.approx(before)
    low = crowded.view()["lane"]
    crowded.keys("]")
    assert crowded.view()["lane"] > low
    crowded.keys(Keys.ESCAPE)
    assert crowded.view()["selected"] == -1
    assert not crowded.find("#facts").is_displayed()
    crowded.keys("/")
    assert crowded.js("return document.activeElement.id") == "query"


def test_the_timeline_is_reached_by_tab(opened: Page) -> None:
    reached = set()
    for _ in range(40):
        opened.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(opened.js("return document.activeElement.id"))
    assert {"query", "lanes", "next-zombie", "theme"} <= reached


def test_low_rows_show_thousands_and_every_long_zombie(thousands: Page) -> None:
    for _ in range(30):
        thousands.js("Z.stretch(0.6)")
    thousands.settle()
    view = thousands.view()
    assert view["lane"] * 10_000 < view["height"]
    assert thousands.painted(thousands.theme_color("zombie")) > 100
    assert thousands.painted(thousands.theme_color("run")) > 1000


# --- search ---


@pytest.mark.parametrize(
    ("query", "count"),
    [("50007", 1), ("5000", 1), ("worker.py --job 77", 1), ("app.py:42 spawn", 2000), ("zzz", 0)],
)
def test_search(thousands: Page, query: str, count: int) -> None:
    field = thousands.find("#query")
    field.send_keys(query)
    thousands.until(lambda: thousands.text("#found") == f"{count} of 10000", "the count")
    assert thousands.text("#page").startswith(f"{count} processes")


def test_search_goes_from_match_to_match(thousands: Page) -> None:
    field = thousands.find("#query")
    field.send_keys("app.py:43")
    field.send_keys(Keys.ENTER)
    first = thousands.view()["selected"]
    field.send_keys(Keys.ENTER)
    second = thousands.view()["selected"]
    assert 0 < first < second
    thousands.settle()
    assert thousands.painted(thousands.theme_color("match")) > 1000
    thousands.find("#previous").click()
    assert thousands.view()["selected"] == first
    field.send_keys(Keys.ESCAPE)
    assert thousands.text("#found") == ""
    thousands.settle()
    assert thousands.painted(thousands.theme_color("match")) == 0


def test_a_far_match_is_brought_into_view(thousands: Page) -> None:
    thousands.find("#query").send_keys("59990", Keys.ENTER)
    thousands.settle()
    view = thousands.view()
    y = thousands.place(view["selected"], 0)[1]
    assert 0 < y < view["height"]
    assert thousands.js("return Z.d.lives.pid[Z.view.selected]") == 59990


def test_zombies_are_one_key_apart(thousands: Page) -> None:
    seen = []
    for _ in range(5):
        thousands.keys("z")
        seen.append(thousands.view()["selected"])
    assert seen == sorted(set(seen))
    assert all(thousands.js("return Z.interval(arguments[0])", each) >= 1e8 for each in seen)
