# SPDX-License-Identifier: Apache-2.0
"""The HTML page without a browser: its texts, its data, what it escapes.

What it does is seen in tests/browser.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, Optional

import pytest

from tests.unit.hostile_analysis import HOSTILE, hostile
from tests.unit.life_builders import (
    APP,
    BEGAN,
    MS,
    US,
    S,
    analysis,
    app,
    article,
    crowd,
    ended,
    found_dead,
    life,
)
from tests.unit.observations import asked, page_of
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import Actor, Life
from zombiebpf.model.observation import Density
from zombiebpf.model.stack import Frame
from zombiebpf.reports import FORMATS, TextOptions
from zombiebpf.reports.html import SCRIPTS, embed
from zombiebpf.reports.html.histograms import HEIGHT, WIDTH, Chart, chart
from zombiebpf.reports.html.page_data import COLUMNS, MAX_LANES, PageData
from zombiebpf.trace import observe
from zombiebpf.wording.text import printable

SITE = Frame("main", "/srv/app.py", 42)


class Reader(HTMLParser):
    """Collects the elements, their attributes and their texts."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, Optional[str]]]] = []
        self.inside: list[str] = []
        self.texts: list[tuple[str, str]] = []  # of which element
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.texts.append((self.inside[-1] if self.inside else "", data))

    def of(self, tag: str) -> list[dict[str, Optional[str]]]:
        return [attrs for name, attrs in self.tags if name == tag]


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    result: dict[str, Any] = json.loads(found[1])
    return result


def page_data(observed: Analysis, most: int = MAX_LANES) -> dict[str, Any]:
    return asked(observed, lambda observation: PageData(observation, most).value)


def leaking() -> Analysis:
    late = ended(41231, 20 * MS, ran=300 * MS, latency=720 * MS, fork_site=SITE)
    return analysis([app(), late, ended(41232, 30 * MS, fork_site=SITE)])


# --- the page ---


def test_it_is_one_format_of_all() -> None:
    out = io.StringIO()
    with observe(article()) as observation:
        FORMATS["html"](observation, out, TextOptions(source=lambda frame: "p.start()"))
    assert out.getvalue().startswith("<!DOCTYPE html>")


def test_nothing_is_loaded_from_anywhere() -> None:
    page = page_of(leaking())
    read = Reader(page)
    for name in ("src", "href", "action", "style", "onclick", "onload", "srcset"):
        assert not [attrs for _, attrs in read.tags if name in attrs], name
    assert not re.search(r"@import|url\(|https?://", page)
    assert {tag for tag, _ in read.tags} & {"iframe", "object", "embed", "link", "base"} == set()


def test_the_policy_names_the_only_script_and_the_only_style() -> None:
    page = page_of(leaking())
    policy = Reader(page).of("meta")[1]["content"] or ""
    assert "default-src 'none'" in policy
    for directive, tag in (("script-src", "script"), ("style-src", "style")):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        assert len(texts) == 1
        digest = base64.b64encode(hashlib.sha256(texts[0].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


def test_the_answer_stands_on_top_with_its_line_and_cure() -> None:
    page = page_of(leaking(), source=lambda frame: "p.start() # <here>")
    head, rest = page.split('<section id="timeline">')
    assert re.search(r"<h1 class=\"bad\">[^<]*app\.py:42", head)
    assert "p.start() # &lt;here&gt;" in head
    assert "<strong>Fix:</strong>" in head
    assert "Where they were forked" in rest


def test_nothing_to_find_is_said_calmly() -> None:
    head = page_of(article()).split('<section id="timeline">')[0]
    assert "<h1>Nothing to find" in head
    assert "finding" not in re.sub(r"<style>.*?</style>", "", head, flags=re.S)


def test_losses_and_cuts_are_warned_of() -> None:
    lossy = analysis([app()], lost_events=7, lost_by={"ring full": 7}, cut="the disk was full")
    head = page_of(lossy).split("<main>")[0]
    assert "7 records were lost" in head
    assert "the disk was full" in head
    assert "ring full 7" in page_of(lossy).split("<footer>")[1]
    assert "Lost records: 0." in page_of(article())


def test_the_footer_tells_hooks_and_what_was_not_seen() -> None:
    footer = page_of(crowd()).split("<footer>")[1]
    assert "raw_tracepoint kmem_cache_free" in footer
    assert "no hook saw it: exit_signal 0 (1 process)" in footer


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(text: str) -> None:
    """The tags of a page do not depend on the texts in it."""

    def tags(observed: Analysis) -> list[str]:
        return [tag for tag, _ in Reader(page_of(observed)).tags]

    frame = Frame(text, "/x/" + text, 1)

    def observed(named: str, where: Frame) -> Analysis:
        child = ended(7, latency=S, comm=named, argv=(named,), forker=APP._replace(comm=named),
                      fork_site=where, unseen={named: named})  # fmt: skip
        return analysis([app(), child], command=[named], kernel=named,
                        hooks={named: named}, precision={named: named})  # fmt: skip

    assert tags(observed(text, frame)) == tags(observed("x", Frame("x", "/x/x", 1)))


def test_a_hostile_page_is_plain_text_in_every_place() -> None:
    page = page_of(hostile())
    page.encode("utf-8")  # no lone surrogate
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e\ufeff]", page)
    texts = data_of(page)["texts"]
    assert printable(HOSTILE[0]) in texts
    assert all(text.isprintable() for text in texts)
    body = "".join(text for tag, text in Reader(page).texts if tag not in ("script", "style"))
    assert HOSTILE[0] in body  # as text


def test_data_within_a_script_cannot_end_it() -> None:
    text = "</script><!--<script>&\u2028\ud800"
    written = str(embed.json_for_script({"a": text}))
    assert written.isascii()
    assert not set("<>&") & set(written)
    assert json.loads(written) == {"a": text}


def test_source_is_asked_for_each_line_once_a_table() -> None:
    asked = []

    def source(frame: Frame) -> str:
        asked.append(frame)
        return "x" * 10_000

    page = page_of(leaking(), source=source)
    assert set(asked) == {SITE}
    assert "x" * 400 in page
    assert "x" * 401 not in page


def test_the_scripts_are_all_there_is() -> None:
    page = page_of(article())
    for name in SCRIPTS:
        assert name.isidentifier()
    assert page.count("<script>") == 1
    assert "const Z = {};" in page


# --- the data ---


def test_columns_have_one_cell_a_lane_and_offsets_all_their_digits() -> None:
    late = ended(41231, 3_599_123_456_789, ran=1_001, latency=345)
    late = late._replace(zombie_ns=late.exit_ns)
    value = page_data(analysis([app(ran=3600 * S), late]))
    columns = value["lives"]
    assert set(columns) == set(COLUMNS)
    assert {len(cells) for cells in columns.values()} == {2}
    assert columns["fork"][1] == 3_599_123_456_789
    assert columns["reap"][1] == 3_599_123_456_789 + 1_001 + 345
    assert value["started"] == str(BEGAN)


def test_unknown_is_null_never_zero() -> None:
    unknown = life(41231, fork_ns=None, forker=None, comm=None, argv=None, cgroup=None)
    columns = page_data(analysis([unknown]))["lives"]
    assert columns["fork"] == columns["exit"] == columns["zombie"] == columns["reap"] == [None]
    assert columns["forker"] == columns["comm"] == columns["cgroup"] == columns["forkSite"] == [-1]
    assert columns["reaperLane"] == [None]


def test_reapers_and_adopters_have_lanes_or_stand_outside() -> None:
    value = page_data(crowd())
    lanes_of = dict(zip(value["lives"]["pid"], value["lives"]["reaperLane"]))
    assert lanes_of[41231] == value["lives"]["pid"].index(APP.pid)
    outside = [(pid, value["texts"][comm]) for pid, comm in value["outside"]]
    assert outside[-1 - lanes_of[41230]] == (41229, "zombiebpf")
    adopter = value["reparents"][str(value["lives"]["pid"].index(41235))][0][3]
    assert outside[-1 - adopter] == (990, "containerd-shim")


def test_parents_come_before_children() -> None:
    columns = page_data(crowd())["lives"]
    for lane, parent in enumerate(columns["parent"]):
        assert parent < lane
    assert columns["depth"][columns["pid"].index(41235)] == 2


# --- very many ---


def thousand() -> list[Any]:
    lives = [app()]
    for number in range(1000):
        latency = S if number % 100 == 0 else 100 * US
        lives.append(ended(50_000 + number, number * MS, latency=latency, fork_site=SITE))
    return lives


def test_few_lives_have_a_lane_each() -> None:
    assert page_data(analysis(thousand()), most=1001)["shared"] == {}


def test_of_many_those_share_that_tell_least() -> None:
    value = page_data(analysis(thousand()), most=100)
    shared = value["shared"]
    pids = value["lives"]["pid"]
    alone = [pid for lane, pid in enumerate(pids) if str(lane) not in shared]
    ((lane, group),) = shared.items()
    assert len(alone) + group["count"] == 1001
    assert len(alone) == 50
    assert alone[0] == APP.pid  # it has children
    assert {50_000 + number for number in range(0, 1000, 100)} <= set(alone)
    assert value["lives"]["parent"][int(lane)] == 0


def test_lanes_are_not_more_than_that_however_many_have_children() -> None:
    lives = [app()]
    for number in range(500):  # a chain: each forked the next one
        above = APP if number == 0 else Actor(50_000 + number - 1, None, "sh")
        lives.append(ended(50_000 + number, number * MS, ran=3 * S, forker=above))
    value = page_data(analysis(lives), most=100)
    assert len(value["lives"]["pid"]) <= 200
    counts = [each["count"] for each in value["shared"].values()]
    assert len(value["lives"]["pid"]) - len(counts) + sum(counts) == 501


def test_sharing_is_said_and_all_figures_count_all() -> None:
    page = page_of(analysis(thousand()), most=100)
    assert "1001 processes are too many for a lane each: 951 of them" in page
    assert re.search(r"<dt>processes</dt><dd>1001</dd>", page)
    value = data_of(page)
    assert sum(each["count"] for each in value["shared"].values()) == 951
    columns = value["lives"]
    assert {len(cells) for cells in columns.values()} == {51}


def density(lives: list[Life], bins: int) -> Density:
    """The density of the first lives, as a group beside 20 more notable ones."""
    shown = [found_dead(100 + number) for number in range(20)]
    observed = analysis([*lives, *shown], lasted=1000)
    with observe(observed) as observation:
        branches = observation.tree(1, 20)
        (group,) = [each.group for each in branches if each.group is not None]
        assert group.count == len(lives)
        return observation.densities(bins, (BEGAN, BEGAN + 1000))[group.number]


def test_density_is_an_average_over_time() -> None:
    one = ended(1, 0, ran=250, latency=500)._replace(zombie_ns=BEGAN + 250)
    assert density([one], 4) == ([1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0])
    assert density([one], 2) == ([0.5, 0.0], [0.5, 0.5])


def test_density_of_what_lasts_on_or_began_before() -> None:
    old = life(1, -500)
    later = ended(2, 0, ran=500, latency=750)._replace(zombie_ns=BEGAN + 500)
    assert density([old, later], 2) == ([2.0, 1.0], [0.0, 1.0])


def test_density_is_that_of_a_plain_sum() -> None:
    chance = random.Random(7)
    lives = []
    for number in range(1, 200):
        times = sorted(chance.randrange(-200, 1400) for _ in range(4))
        fork, dead, zombie_at, reap = (BEGAN + each for each in times)
        lives.append(ended(number, fork_ns=fork, exit_ns=dead, zombie_ns=zombie_at, reap_ns=reap))
    for bins in (1, 7, 400):
        found = density(lives, bins)
        width = 1000 / bins
        for bin_ in range(bins):
            begin, end = bin_ * width, (bin_ + 1) * width
            for means, first, last in (
                (found.running, "fork_ns", "exit_ns"), (found.zombie, "zombie_ns", "reap_ns"),
            ):  # fmt: skip
                total = sum(
                    max(
                        min(getattr(each, last) - BEGAN, end)
                        - max(getattr(each, first) - BEGAN, begin),
                        0,
                    )
                    for each in lives
                )
                assert means[bin_] == pytest.approx(total / width, abs=0.002)


# --- charts ---


def chart_of(lives: list[Life]) -> Chart:
    return asked(analysis(lives), lambda observation: chart(observation.zombie_intervals()))


def test_each_call_has_a_row_and_bars_lie_within() -> None:
    lives = [
        each._replace(reap_call=each.reap_call._replace(kind=("join", "atexit")[number % 2]))
        for number, each in enumerate(thousand())
    ]
    found = chart_of(lives)
    assert [row.kind for row in found.rows] == ["all calls", "join", "atexit"]
    assert [row.number for row in found.rows] == [1001, 501, 500]
    for row in found.rows:
        assert all(0 <= bar.x <= bar.x + bar.width <= WIDTH + 1 for bar in row.bars)
        assert max(bar.height for bar in row.bars) == HEIGHT
        assert sum(int(bar.title.rsplit(": ")[1]) for bar in row.bars) == row.number
    assert [bar.late for bar in found.rows[0].bars][-1]
    assert all(0 <= tick.percent <= 100 for tick in found.ticks)


def test_a_chart_of_nothing_and_of_zeros() -> None:
    assert chart_of([app(ran=0, latency=0, zombie_ns=None)]).rows == ()
    zero = ended(1)
    rows = chart_of([zero._replace(zombie_ns=zero.reap_ns)]).rows
    assert [row.kind for row in rows] == ["wait4"]  # one call needs no sum
    assert rows[0].bars[0].title == "0 - 1 µs: 1"


# --- who ---


def test_a_pid_is_who_had_it_then() -> None:
    first, second = ended(7, 0), ended(7, 5 * S)
    with observe(analysis([second, first])) as observation:
        at = observation.at
        assert at(7, BEGAN) == 1
        assert at(7, BEGAN + 5 * S) == 2
        assert at(7, BEGAN + 3 * S) is None  # between them
        assert at(7, BEGAN - 1) is None
        assert at(7, None) is None
        assert at(0, BEGAN) is None
        assert at(None, BEGAN) is None
    with observe(analysis([first])) as observation:
        assert observation.at(7, None) == 1


def test_joins_name_lanes() -> None:
    child = article().lives[1]
    children = (Child(child.pid, child.start_ns),)  # forked after the join began, as a pool may
    join = Join(APP.pid, 5, None, 0.5, BEGAN, None, "timeout", children=children)
    value = page_data(replace(article(), joins=[join]))
    assert value["joins"][0][:8] == [0, 5, 0, None, *value["joins"][0][4:6], 0.5, [1]]
