# SPDX-License-Identifier: Apache-2.0
"""The HTML page without a browser: its texts, its data, what it escapes.

What it does is seen in tests/browser.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
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
    life,
    zombie,
)
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import Actor
from zombiebpf.model.stack import Frame
from zombiebpf.model.statistics import zombie_intervals
from zombiebpf.reports import FORMATS, TextOptions
from zombiebpf.reports.html import SCRIPTS, embed, write_page
from zombiebpf.reports.html.histograms import HEIGHT, WIDTH, chart
from zombiebpf.reports.html.lanes import Lane, SharedLane, density, lanes
from zombiebpf.reports.html.page_data import COLUMNS, PageData
from zombiebpf.reports.pid_index import PidIndex
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


def page_of(observed: Analysis, **options: Any) -> str:
    out = io.StringIO()
    write_page(observed, out, options.pop("source", lambda frame: None), **options)
    return out.getvalue()


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    result: dict[str, Any] = json.loads(found[1])
    return result


def leaking() -> Analysis:
    late = ended(41231, 20 * MS, ran=300 * MS, latency=720 * MS, fork_site=SITE)
    return analysis([app(), late, ended(41232, 30 * MS, fork_site=SITE)])


# --- the page ---


def test_it_is_one_format_of_all() -> None:
    out = io.StringIO()
    FORMATS["html"](article(), out, TextOptions(source=lambda frame: "p.start()"))
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
    value = PageData(analysis([app(ran=3600 * S), late])).value
    columns = value["lives"]
    assert set(columns) == set(COLUMNS)
    assert {len(cells) for cells in columns.values()} == {2}
    assert columns["fork"][1] == 3_599_123_456_789
    assert columns["reap"][1] == 3_599_123_456_789 + 1_001 + 345
    assert value["started"] == str(BEGAN)


def test_unknown_is_null_never_zero() -> None:
    unknown = life(41231, fork_ns=None, forker=None, comm=None, argv=None, cgroup=None)
    columns = PageData(analysis([unknown])).value["lives"]
    assert columns["fork"] == columns["exit"] == columns["zombie"] == columns["reap"] == [None]
    assert columns["forker"] == columns["comm"] == columns["cgroup"] == columns["forkSite"] == [-1]
    assert columns["reaperLane"] == [None]


def test_reapers_and_adopters_have_lanes_or_stand_outside() -> None:
    value = PageData(crowd()).value
    lanes_of = dict(zip(value["lives"]["pid"], value["lives"]["reaperLane"]))
    assert lanes_of[41231] == value["lives"]["pid"].index(APP.pid)
    outside = [(pid, value["texts"][comm]) for pid, comm in value["outside"]]
    assert outside[-1 - lanes_of[41230]] == (41229, "zombiebpf")
    adopter = value["reparents"][str(value["lives"]["pid"].index(41235))][0][3]
    assert outside[-1 - adopter] == (990, "containerd-shim")


def test_parents_come_before_children() -> None:
    columns = PageData(crowd()).value["lives"]
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
    assert all(isinstance(each, Lane) for each in lanes(thousand(), most=1001))


def test_of_many_those_share_that_tell_least() -> None:
    found = lanes(thousand(), most=100)
    shared = [each for each in found if isinstance(each, SharedLane)]
    alone = [each for each in found if isinstance(each, Lane)]
    assert len(shared) == 1
    assert len(alone) + len(shared[0].lives) == 1001
    assert len(alone) <= 52
    assert alone[0].life.pid == APP.pid  # it has children
    late = {each.pid for each in thousand() if each.zombie_interval_ns > 100 * MS}
    assert late <= {each.life.pid for each in alone}
    assert shared[0].parent == 0


def test_sharing_is_said_and_all_figures_count_all() -> None:
    page = page_of(analysis(thousand()), most=100)
    assert "1001 processes are too many for a lane each: 951 of them" in page
    assert re.search(r"<dt>processes</dt><dd>1001</dd>", page)
    value = data_of(page)
    assert sum(each["count"] for each in value["shared"].values()) == 951
    columns = value["lives"]
    assert {len(cells) for cells in columns.values()} == {51}


def test_density_is_an_average_over_time() -> None:
    one = ended(1, 0, ran=250, latency=500)._replace(zombie_ns=BEGAN + 250)
    running, zombies = density([one], BEGAN, BEGAN + 1000, bins=4)
    assert running == [1.0, 0.0, 0.0, 0.0]
    assert zombies == [0.0, 1.0, 1.0, 0.0]
    running, zombies = density([one], BEGAN, BEGAN + 1000, bins=2)
    assert (running, zombies) == ([0.5, 0.0], [0.5, 0.5])


def test_density_of_what_lasts_on_or_began_before() -> None:
    old = life(1, -500)
    dead = zombie(2, 0, ran=500, zombie_ns=BEGAN + 500)
    running, zombies = density([old, dead], BEGAN, BEGAN + 1000, bins=2)
    assert running == [2.0, 1.0]
    assert zombies == [0.0, 1.0]


# --- charts ---


def test_each_call_has_a_row_and_bars_lie_within() -> None:
    lives = [
        each._replace(reap_call=each.reap_call._replace(kind=("join", "atexit")[number % 2]))
        for number, each in enumerate(thousand())
    ]
    found = chart(lives, zombie_intervals)
    assert [row.kind for row in found.rows] == ["all calls", "join", "atexit"]
    assert [row.number for row in found.rows] == [1001, 501, 500]
    for row in found.rows:
        assert all(0 <= bar.x <= bar.x + bar.width <= WIDTH + 1 for bar in row.bars)
        assert max(bar.height for bar in row.bars) == HEIGHT
        assert sum(int(bar.title.rsplit(": ")[1]) for bar in row.bars) == row.number
    assert [bar.late for bar in found.rows[0].bars][-1]
    assert all(0 <= tick.percent <= 100 for tick in found.ticks)


def test_a_chart_of_nothing_and_of_zeros() -> None:
    assert chart([app(ran=0, latency=0, zombie_ns=None)], zombie_intervals).rows == ()
    zero = ended(1)
    rows = chart([zero._replace(zombie_ns=zero.reap_ns)], zombie_intervals).rows
    assert [row.kind for row in rows] == ["wait4"]  # one call needs no sum
    assert rows[0].bars[0].title == "0 - 1 µs: 1"


# --- who ---


def test_a_pid_is_who_had_it_then() -> None:
    first, second = ended(7, 0), ended(7, 5 * S)
    who = PidIndex([second, first])
    assert who.find(7, BEGAN) == 1
    assert who.find(7, BEGAN + 5 * S) == 0
    assert who.find(7, BEGAN + 3 * S) is None  # between them
    assert who.find(7, BEGAN - 1) is None
    assert who.find(7, None) is None
    assert PidIndex([first]).find(7, None) == 0
    assert who.find(0, BEGAN) is None
    assert who.find_actor(None, BEGAN) is None
    assert who.find_actor(Actor(7, 8, None), BEGAN + 1) == 1


def test_joins_name_lanes() -> None:
    child = article().lives[1]
    children = (Child(child.pid, child.start_ns),)  # forked after the join began, as a pool may
    join = Join(APP.pid, 5, None, 0.5, BEGAN, None, "timeout", children=children)
    value = PageData(replace(article(), joins=[join])).value
    assert value["joins"][0][:8] == [0, 5, 0, None, *value["joins"][0][4:6], 0.5, [1]]
