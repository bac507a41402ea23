# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Callable

import pytest

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
    autoreaped,
    crowd,
    ended,
    killed,
    life,
    rendered,
    zombie,
)
from tests.unit.stack_builders import frame, stack
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.life import Activity, Actor, PidNamespace, ReapCall
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.reports import FORMATS
from zombiebpf.reports.json import portable, process_object


def report(observed: Analysis, name: str = "json") -> str:
    return rendered(observed, format_=name)


def lossy() -> Analysis:
    return analysis([app()], lost_events=9, lost_by={"ring buffer full": 9})


def empty() -> Analysis:
    return analysis([], command=[], hooks={}, precision={})


OBSERVED = [article, crowd, lossy, empty]


@pytest.mark.parametrize("observed", OBSERVED)
def test_the_document_is_valid(observed: Callable[[], Analysis]) -> None:
    document = json.loads(report(observed()))
    DOCUMENT.validate(document)
    assert len(document["processes"]) == len(observed().lives)


@pytest.mark.parametrize("observed", OBSERVED)
def test_the_lines_are_valid(observed: Callable[[], Analysis]) -> None:
    *processes, meta = [json.loads(line) for line in report(observed(), "jsonl").splitlines()]
    for line in (*processes, meta):
        LINE.validate(line)
    assert len(processes) == len(observed().lives)
    document = json.loads(report(observed()))
    assert meta == {"schema": "zombiebpf/1", "meta": document["meta"]}
    for line in processes:
        assert line.pop("schema") == "zombiebpf/1"
    by_pid = {process["pid"]: process for process in document["processes"]}
    assert {line["pid"]: line for line in processes} == by_pid


def test_lines_come_as_lives_end() -> None:
    lives = [
        app(ran=5 * S),
        life(7),
        zombie(8),
        ended(23, ran=3 * S),
        ended(41, ran=1 * S),
    ]
    lines = report(analysis(lives), "jsonl").splitlines()
    assert [json.loads(line).get("pid") for line in lines] == [41, 23, APP.pid, 7, 8, None]


def test_a_process_whole() -> None:
    """Compare with the field names of the contract, spelled out once."""
    nowhere = Frame("reap", "/srv/app.py", None)
    subject = ended(
        7,
        wait_status=killed(11, core=True),
        forker=Actor(5, 6, "sh"),
        reparents=[adopted(at=S, while_zombie=True, exact=False)],
        reap_call=ReapCall("waitid", 1, BEGAN, 5, "os.wait*", Stack((nowhere,)), nowhere),
        fork_stack=stack("main", problem="cut"),
        fork_site=frame("main"),
        meanwhile=Activity(BEGAN, APP, None, None, None, None),
        reap_exact=False,
        argv_cut=True,
        unseen={"exec": "attached later"},
    )
    assert process_object(subject) == {
        "pid": 7,
        "start_ns": BEGAN + 7,
        "comm": "python3",
        "argv": ["python3", "app.py"],
        "argv_cut": True,
        "pidns": {"inum": 4026531836, "pid": 7},
        "cgroup": "/user.slice",
        "forker": {"pid": 5, "tid": 6, "comm": "sh"},
        "fork_ns": BEGAN,
        "parent": None,
        "fork_stack": [{"function": "main", "file": "/srv/app.py", "line": 42}],
        "fork_stack_problem": "cut",
        "fork_site": {"function": "main", "file": "/srv/app.py", "line": 42},
        "exec": [],
        "exit_ns": BEGAN + S,
        "zombie_ns": BEGAN + S + 44 * US,
        "zombie_exact": True,
        "reap_ns": BEGAN + S + 131 * US,
        "reap_exact": False,
        "exit_status": None,
        "signal": 11,
        "core_dumped": True,
        "zombie_interval_ns": 87 * US,
        "reap_latency_ns": 131 * US,
        "orphaned": True,
        "reparents": [
            {
                "ns": BEGAN + S,
                "exact": False,
                "from": {"pid": 41230, "comm": "python3"},
                "to": {"pid": 1, "comm": "systemd"},
                "kind": "init",
                "while_zombie": True,
            }
        ],
        "reaper": {"pid": 41230, "tid": 41230, "comm": "python3"},
        "reaped_by": "parent",
        "reap_call": {
            "kind": "os.wait*",
            "syscall": "waitid",
            "options": 1,
            "blocked_ns": 5,
            "stack": [{"function": "reap", "file": "/srv/app.py", "line": None}],
            "stack_problem": None,
            "site": {"function": "reap", "file": "/srv/app.py", "line": None},
        },
        "meanwhile": {
            "ns": BEGAN,
            "thread": {"pid": 41230, "tid": 41230, "comm": "python3"},
            "blocked_since_ns": None,
            "syscall": None,
            "stack": None,
            "stack_problem": None,
            "site": None,
        },
        "state": "reaped",
        "unseen": {"exec": "attached later"},
    }


def test_unknown_is_null() -> None:
    running = process_object(life(7, forker=None, fork_ns=None, cgroup=None, argv=None))
    for field in (
        "forker", "fork_ns", "cgroup", "argv", "exit_ns", "zombie_ns", "zombie_exact", "reap_ns",
        "reap_exact", "exit_status", "signal", "core_dumped", "zombie_interval_ns",
        "reap_latency_ns", "reaper", "reaped_by", "reap_call",
    ):  # fmt: skip
        assert running[field] is None, field


def test_a_process_outside_the_namespace_has_no_pid() -> None:
    subject = process_object(life(7, forker=Actor(0, 0, "runc"), pidns=PidNamespace(5, 0)))
    assert subject["forker"] == {"pid": None, "tid": None, "comm": "runc"}
    assert subject["pidns"] == {"inum": 5, "pid": None}


def test_a_child_that_the_kernel_released() -> None:
    subject = process_object(autoreaped(7))
    assert subject["zombie_ns"] is None
    assert subject["zombie_interval_ns"] is None
    assert subject["reaped_by"] == "kernel"
    assert subject["reap_latency_ns"] == 40 * US


def test_losses_are_a_verdict() -> None:
    meta = json.loads(report(lossy()))["meta"]
    assert (meta["lost_events"], meta["complete"]) == (9, False)
    assert meta["lost_by"] == {"ring buffer full": 9}
    assert json.loads(report(article()))["meta"]["complete"] is True


NASTY = [
    ("caf\u00e9 \u732b \U0001f600", "caf\u00e9 \u732b \U0001f600"),
    (b"a\xff\x80b".decode("utf-8", "surrogateescape"), "a\\xff\\x80b"),
    (b"\xed\xa0\x80".decode("utf-8", "surrogateescape"), "\\xed\\xa0\\x80"),
    ("C:\\xff", "C:\\xff"),
    ('\x00\x1b[31m\n"\u2028', '\x00\x1b[31m\n"\u2028'),
]


def test_two_lone_surrogates_are_no_pair() -> None:
    assert portable("\ud83d\ude00") == "\\ud83d\\ude00"


@pytest.mark.parametrize(("text", "expected"), NASTY)
def test_any_text_of_the_program_gives_valid_json(text: str, expected: str) -> None:
    assert portable(text) == expected
    subject = ended(7, comm=text, argv=(text, ""), cgroup=text, reaper=Actor(5, 5, text))
    observed = analysis([subject], command=[text])
    for name in ("json", "jsonl"):
        output = report(observed, name)
        assert output.isascii()
        json.loads(output.splitlines()[0] if name == "jsonl" else output)
    document = json.loads(report(observed))
    DOCUMENT.validate(document)
    (process,) = document["processes"]
    assert process["argv"] == [expected, ""]
    assert {process["comm"], process["cgroup"], process["reaper"]["comm"]} == {expected}
    assert document["meta"]["command"] == [expected]
    json.dumps(document, ensure_ascii=False).encode("utf-8")  # no lone surrogate is left


def test_the_same_analysis_gives_the_same_bytes() -> None:
    for name in FORMATS:
        assert report(crowd(), name) == report(crowd(), name)


def test_a_process_a_line_in_the_document_too() -> None:
    lines = report(article()).splitlines()
    assert [json.loads(line.strip().rstrip("],"))["pid"] for line in lines[3:4]] == [41230]
    assert sum('"start_ns"' in line for line in lines) == 2


def test_big_stamps_stay_exact() -> None:
    big = 2**53 + 1
    subject = ended(7, fork_ns=big, ran=big + MS)
    assert f'"fork_ns": {big},' in report(analysis([subject]))
