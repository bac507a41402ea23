# SPDX-License-Identifier: Apache-2.0
"""Lines of Python, joins and findings in the reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

from tests.unit.hostile_analysis import HOSTILE, hostile
from tests.unit.json_schema import DOCUMENT, LINE
from tests.unit.life_builders import (
    APP,
    BEGAN,
    MS,
    US,
    S,
    adopted,
    analysis,
    app,
    article,
    crowd,
    ended,
    rendered,
    section,
    zombie,
)
from tests.unit.observations import findings
from tests.unit.stack_builders import REAPING_JOIN, STARTING, frame, stack
from tests.unit.test_reports_schema import set_at
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import Activity, Actor, ReapCall
from zombiebpf.model.stack import Frame, Stack

FORK: dict[str, Any] = {
    "fork_stack": stack(*STARTING, "start_all:42"),
    "fork_site": frame("start_all:42"),
}


def reaped_by(kind: str, line: str = "main:50") -> ReapCall:
    return ReapCall("wait4", 0, BEGAN, 0, kind, stack(*REAPING_JOIN, line), frame(line))


def join(pid: int, began: int = 0, **fields: Any) -> Join:
    """Return a join of a child of program(), forked at as many ms as its last digit says."""
    start_ns = BEGAN + pid % 10 * MS + 7
    given: dict[str, Any] = {
        "pid": APP.pid, "tid": APP.pid, "child_pid": pid, "timeout_s": None,
        "began_ns": BEGAN + began, "ended_ns": BEGAN + began + 50 * MS, "returned": "reaped",
        "kind": "Process.join", "children": (Child(pid, start_ns),), "blocked_ns": 40 * MS,
        "site": frame("main:50"), "stack": stack(*REAPING_JOIN, "main:50", problem="cut"),
    }  # fmt: skip
    return Join(**{**given, **fields})


def program(**meta: Any) -> Analysis:
    doing = Activity(BEGAN + S, APP, BEGAN, "clock_nanosleep", stack("main:61"), frame("main:61"))
    lives = [
        app(),
        ended(41231, 1 * MS, reap_call=reaped_by("join"), **FORK),
        ended(41232, 2 * MS, latency=3 * S, reap_call=reaped_by("atexit"), meanwhile=doing, **FORK),
        zombie(41233, 3 * MS, meanwhile=doing, **FORK),
    ]
    joins = (
        join(41231),
        join(41232, 60 * MS, returned="timeout", timeout_s=0.05, kind="Process.join(timeout)"),
        join(41233, 120 * MS, returned="stolen", by=Actor(APP.pid, 41236, "python3")),
        join(41234, 180 * MS, ended_ns=None, returned=None, child_pid=None, children=()),
    )
    return replace(analysis(lives, **meta), joins=joins)


def test_each_life_says_its_lines() -> None:
    text = rendered(program())
    assert "forked by python3 41230 at app.py:42 in start_all" in text
    flat = " ".join(text.split())
    assert "reaped by parent python3 41230, wait4 (atexit) at app.py:50 in main" in flat
    assert "meanwhile python3 41230 was blocked in clock_nanosleep at app.py:61 in main" in flat
    wide = rendered(program(), 250)
    assert "parent python3 41230, wait4 (join) at app.py:50 in main" in wide
    assert "meanwhile python3 41230 was blocked in clock_nanosleep at app.py:61" in wide


def test_joins_in_the_text() -> None:
    assert section(rendered(program(), 120), "Joins") == [
        "      1  Process.join at app.py:50 in main: reaped, lasted 50 ms, for 41231",
        "      1  Process.join(timeout) at app.py:50 in main: timeout, lasted 50 ms, for 41232",
        "      1  Process.join at app.py:50 in main: stolen, lasted 50 ms, for 41233,"
        " by python3 41230 (thread 41236)",
        "      1  Process.join at app.py:50 in main: lasts on",
    ]


def test_many_joins_are_grouped() -> None:
    joins = tuple(join(pid, pid * MS) for pid in range(1, 5000))
    joins += tuple(join(7, line * MS, site=frame(f"main:{line}")) for line in range(100, 120))
    lines = section(rendered(replace(program(), joins=joins), 120), "Joins")
    assert lines[0] == (
        "   4999  Process.join at app.py:50 in main: reaped, lasted 50 ms (median),"
        " 50 ms at the most"
    )
    assert len(lines) == 11
    assert lines[-1].strip() == "and 11 more kinds"


def test_fork_sites_in_the_text() -> None:
    (line,) = section(rendered(program(), 200), "Fork sites")
    assert line == (
        "  app.py:42 forked 3, 1 reaped by join after 87 µs, 1 reaped by atexit after 3 s,"
        " 1 still zombie; zombies for p50 87 µs, p99 3 s, max 3 s"
    )
    assert section(rendered(program(), 200), "Reap sites")[0].startswith(
        "  app.py:50 in main reaped 2, 1 by join, 1 by atexit; "
    )


def test_findings_are_the_last_thing() -> None:
    text = rendered(program(), 120)
    lines = section(text, "Findings")
    assert any("leak: 1 of 3 children forked at app.py:42 stayed a" in line for line in lines)
    numbered = [line[5:].split(":")[0] for line in lines if line[2:4] in ("1.", "2.", "3.")]
    assert numbered == ["stolen wait", "leak", "abandoned join"]
    assert any(line.strip().startswith("fix: ") for line in lines)
    assert text.index("\nFindings\n") > text.index("\nHooks\n")
    assert "\x1b[1;31mleak" in rendered(program(), color=True)
    assert "incomplete" not in text
    assert "leak (incomplete: records were lost)" in rendered(program(lost_events=1))


def test_nothing_to_find() -> None:
    (line,) = section(rendered(article()), "Findings")
    assert line == "  nothing to find: 1 child, none a zombie for more than 87 µs"
    for absent in ("Joins", "Fork sites", "Reap sites"):
        assert f"\n{absent}\n" not in rendered(article())


@pytest.mark.parametrize(("unicode", "unit"), [(True, "µs"), (False, "us")])
def test_findings_have_the_units_of_the_report(unicode: bool, unit: str) -> None:
    child = ended(41231, MS, latency=S, **FORK)
    assert child.zombie_ns is not None
    early = child.zombie_ns - 69_700
    abandoned = join(41231, returned="timeout", timeout_s=1.0, ended_ns=early)
    for observed, duration in (
        (replace(analysis([app(), child]), joins=[abandoned]), "69.7"),
        (article(), "87"),  # its headline
    ):
        text = rendered(observed, 250, unicode=unicode)
        found = text[text.index("\nFindings\n") :]
        assert f" {duration} {unit}" in found
        assert ("µ" in text) is unicode
        assert "\\xb5" not in text


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [80, 120, 250])
def test_no_line_is_longer_than_the_width(width: int, unicode: bool) -> None:
    text = rendered(program(), width, unicode=unicode)
    assert [line for line in text.splitlines() if cell_len(line) > width] == []
    assert unicode or text.isascii()


@pytest.mark.parametrize("width", [80, 250])
def test_names_in_the_program_cannot_write_to_the_terminal(width: int) -> None:
    nasty = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202e\udcff"
    evil = Frame(nasty, f"/srv/{nasty}.py", 42)
    whole = Stack((evil,), nasty)
    doing = Activity(BEGAN, Actor(5, 5, nasty), BEGAN, nasty, whole, evil)
    call = ReapCall(nasty, 0, BEGAN, 0, nasty, whole, evil)
    lives = [
        app(),
        zombie(7, fork_site=evil, fork_stack=whole, meanwhile=doing),
        ended(8, latency=S, fork_site=evil, fork_stack=whole, reap_call=call, meanwhile=doing,
              reparents=[adopted(at=2 * MS)]),
    ]  # fmt: skip
    joins = (join(7, kind=nasty, site=evil, stack=whole, returned="stolen",
                  by=Actor(5, 5, nasty)),)  # fmt: skip
    observed = replace(analysis(lives), joins=joins)
    text = rendered(observed, width)
    assert all(char.isprintable() or char == "\n" for char in text)
    text.encode("utf-8")
    document = rendered(observed, format_="json")
    assert document.isascii()
    DOCUMENT.validate(json.loads(document))
    json.dumps(json.loads(document), ensure_ascii=False).encode("utf-8")


def test_the_document_is_the_contract() -> None:
    document = json.loads(rendered(program(), format_="json"))
    DOCUMENT.validate(document)
    assert document["meta"]["not_collected"] == []
    assert document["joins"][1] == {
        "pid": 41230,
        "tid": 41230,
        "child_pid": 41232,
        "timeout_s": 0.05,
        "began_ns": BEGAN + 60 * MS,
        "ended_ns": BEGAN + 110 * MS,
        "returned": "timeout",
        "kind": "Process.join(timeout)",
        "children": [{"pid": 41232, "start_ns": BEGAN + 2 * MS + 7}],
        "blocked_ns": 40 * MS,
        "by": None,
        "stack": document["joins"][0]["stack"],
        "stack_problem": "cut",
        "site": {"function": "main", "file": "/srv/app.py", "line": 50},
    }
    assert [each["function"] for each in document["joins"][0]["stack"]][-2:] == [
        "BaseProcess.join", "main"
    ]  # fmt: skip
    assert document["fork_sites"][0] == {
        "site": {"function": "start_all", "file": "/srv/app.py", "line": 42},
        "children": 3,
        "reaped_by": {"join": 1, "atexit": 1},
        "zombie_interval_ns": {"p50": 87 * US, "p99": 3 * S - 44 * US, "max": 3 * S - 44 * US},
        "late": 2,
        "still_zombies": 1,
        "running": 0,
    }
    stolen, leak, abandoned = document["findings"]
    assert [each["kind"] for each in (stolen, leak, abandoned)] == [
        "stolen wait", "leak", "abandoned join"
    ]  # fmt: skip
    assert abandoned["joins"] == [{"pid": 41230, "tid": 41230, "began_ns": BEGAN + 60 * MS}]
    assert leak["processes"] == [{"pid": 41233, "start_ns": BEGAN + 3 * MS + 7}]
    assert leak["incomplete"] is False
    for line in rendered(program(), format_="jsonl").splitlines():
        LINE.validate(json.loads(line))


@pytest.mark.parametrize("observed", [article, crowd, program])
def test_not_collected_is_what_was_not(observed: Any) -> None:
    whole = observed()
    without = replace(whole, joins=None)
    for each, expected in ((without, ["joins"]), (replace(whole, joins=()), [])):
        assert json.loads(rendered(each, format_="json"))["meta"]["not_collected"] == expected
    meta = replace(whole.meta, not_collected=("fork_stack", "joins"))
    document = json.loads(rendered(replace(without, meta=meta), format_="json"))
    DOCUMENT.validate(document)
    assert document["meta"]["not_collected"] == ["fork_stack", "joins"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("joins.0.returned", "won"),
        ("joins.0.children.0.pid", 0),
        ("joins.0.by", {"pid": 1}),
        ("joins.0.site.line", 0),
        ("fork_sites.0.children", 0),
        ("fork_sites.0.reaped_by", {"join": 0}),
        ("findings.0.kind", "bad luck"),
        ("findings.0.severity", "fatal"),
        ("findings.0.evidence", []),
        ("findings.0.extra", 1),
        ("processes.1.fork_stack.0.function", None),
        ("processes.1.fork_site", "app.py:42"),
        ("processes.2.meanwhile.thread.pid", 0),
        ("processes.1.reap_call.kind", ""),
    ],
)
def test_what_is_not_the_contract_is_refused(path: str, value: Any) -> None:
    document = json.loads(rendered(program(), format_="json"))
    set_at(path, value)(document)
    assert not DOCUMENT.is_valid(document)


@pytest.mark.parametrize("width", [60, 100, 200])
def test_hostile_texts_are_harmless_in_joins_sites_and_findings(width: int) -> None:
    text = rendered(hostile(), width=width)
    assert all(line.isprintable() for line in text.splitlines())
    for title in ("Joins", "Fork sites", "Reap sites", "Findings"):
        assert section(text, title)
    assert "<script>window.pwned" in text  # it is shown, and does nothing to a terminal


def test_every_kind_of_text_is_hostile_in_what_the_reports_are_made_from() -> None:
    """Check that hostile() reaches each section, or its tests would test nothing there."""
    observed = hostile()
    joins = observed.joins or ()
    lives = [life for life in observed.lives if life.fork_stack is not None]
    seen = [life.meanwhile for life in lives if life.meanwhile is not None]
    calls = [life.reap_call for life in lives if life.reap_call is not None]
    places: dict[str, Sequence[object]] = {
        "fork stack": [life.fork_stack.frames[0].file for life in lives if life.fork_stack],
        "fork site": [life.fork_site.function for life in lives if life.fork_site],
        "join kind": [join.kind for join in joins],
        "join site": [join.site.file for join in joins if join.site],
        "join by": [join.by.comm for join in joins if join.by],
        "join stack": [join.stack.problem for join in joins if join.stack],
        "meanwhile": [doing.syscall for doing in seen],
        "meanwhile site": [doing.site.function for doing in seen if doing.site],
        "parent": [life.parent.comm for life in observed.lives if life.parent],
    }
    for name, texts in places.items():
        assert set(texts) >= set(HOSTILE), name
    assert {call.kind for call in calls} <= set(HOSTILE)
    assert len({call.kind for call in calls}) > 15
    words = [text for each in findings(observed) for text in (each.title, *each.evidence)]
    assert any(HOSTILE[4] in text for text in words)
