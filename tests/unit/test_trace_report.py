# SPDX-License-Identifier: Apache-2.0
"""`zombiebpf report TRACE`: filters, formats, several traces, and what it says when it fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unit.life_builders import (
    APP,
    BEGAN,
    MS,
    S,
    analysis,
    app,
    crowd,
    ended,
    life,
    rendered,
    rows,
    zombie,
)
from zombiebpf.cli.report import report
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import Activity, ReapCall
from zombiebpf.model.stack import Frame
from zombiebpf.reports import FORMATS
from zombiebpf.trace import Rotation, TraceWriter, read_trace

FORK = Frame("main", "/srv/app.py", 42)
JOIN = Frame("main", "/srv/app.py", 50)
OTHER = Frame("main", "/srv/other/app.py", 42)


def night() -> Analysis:
    """22:00 local time to 04:00."""
    hour = 3600 * S
    began = datetime.fromisoformat("2026-05-01 22:00").timestamp()
    lives = [
        app(ran=6 * hour, latency=5 * MS),
        ended(10, 1 * hour, ran=S, fork_site=FORK, comm="worker-1", latency=200 * MS),
        ended(11, 3 * hour, ran=3 * hour // 2, fork_site=OTHER, comm="worker-2"),
        ended(12, 5 * hour, reap_call=ReapCall("wait4", 0, None, None, "join", None, JOIN)),
        zombie(13, 5 * hour, comm="sh", meanwhile=Activity(BEGAN, APP, None, None, None, FORK)),
        life(14, 5 * hour + S, comm="a-name-of-15-ch"),
    ]
    joins = [
        Join(APP.pid, APP.tid, 12, 1.5, BEGAN + 5 * hour, None, None, "Process.join", site=JOIN),
        Join(APP.pid, 1, None, None, BEGAN, BEGAN + hour, "reaped", "Pool.join",
             (Child(10, BEGAN + hour + 7), Child(99, None))),
    ]  # fmt: skip
    found = analysis(lives, 6 * hour, started_wall=began)
    return replace(found, joins=sorted(joins, key=lambda join: join.began_ns or 0))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return saved(tmp_path / "night.db", night())


def saved(path: Path, observed: Analysis) -> Path:
    with TraceWriter(str(path), observed.meta) as writer:
        writer.add(rows(observed.lives), observed.joins)
        writer.close(observed.meta)
    return path


def report_of(*arguments: object, format_: str = "json") -> Any:
    """What the report says, of a process of its own."""
    target = Path(str(arguments[0])).parent / "report"
    report.main(
        [*map(str, arguments), "--format", format_, "--report", str(target)], standalone_mode=False
    )
    text = target.read_text()
    return json.loads(text) if format_ == "json" else text


def pids(*arguments: object) -> list[int]:
    return [each["pid"] for each in report_of(*arguments)["processes"]]


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_is_as_of_the_observation(format_: str, tmp_path: Path) -> None:
    observed = crowd()
    path = saved(tmp_path / "t.db", replace(observed, lives=sorted(
        observed.lives, key=lambda each: (each.reap_ns is None, each.reap_ns or 0)
    )))  # fmt: skip
    report.main(
        [str(path), "--format", format_, "--report", str(tmp_path / "r")], standalone_mode=False
    )
    assert (tmp_path / "r").read_text() == rendered(observed, format_=format_)


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ("", [41230, 10, 11, 12, 13, 14]),
        ("--pid 11", [11]),
        ("--pid 11 --pid 10", [10, 11]),
        ("--pid 99999999999999999999", []),
        ("--comm worker-1", [10]),
        ("--comm worker-*", [10, 11]),
        ("--comm worker-[!1] --comm sh", [11, 13]),
        ("--comm a-name-of-15-characters", [14]),  # the kernel keeps no more
        ("--comm worker", []),
        ("--state zombie", [13]),
        ("--state zombie --state running", [13, 14]),
        ("--state reaped --comm worker-*", [10, 11]),
        ("--min-zombie 100ms", [10, 13]),
        ("--min-zombie 1h", []),
        ("--min-zombie 59m", [13]),
        ("--site app.py:42", [10, 11, 13]),
        ("--site srv/app.py:42", [10, 13]),
        ("--site /srv/app.py", [10, 12, 13]),
        ("--site app.py:50", [12]),
        ("--site /app.py:50", []),  # the whole path, or its end from a directory on
        ("--site pp.py:42", []),
        ("--site app.py:43", []),
        ("--since 23:30", [41230, 11, 12, 13, 14]),
        ("--since 02:00", [41230, 11, 12, 13, 14]),  # 11 ends at 02:30
        ("--since 02:45", [41230, 12, 13, 14]),
        ("--until 02:00", [41230, 10, 11]),
        ("--since 02:00 --until 02:15", [41230, 11]),
        ("--since 4h45m --until +5h", [41230, 12, 13]),
        ("--since -30m", [41230, 13, 14]),
        ("--since 2026-05-02T02:45", [41230, 12, 13, 14]),
        ("--until 2026-05-01", []),
        ("--since 2026-06-01 --state reaped", []),
    ],
)
def test_filters(trace: Path, filters: str, left: list[int]) -> None:
    assert pids(trace, *filters.split()) == left


def test_joins_follow_the_lives(trace: Path) -> None:
    def kinds(*filters: str) -> list[str]:
        return [join.kind or "" for join in read(*filters)]

    def read(*filters: str) -> Any:
        from zombiebpf.cli.values import site
        from zombiebpf.trace import Filters

        found = Filters(
            pids=tuple(map(int, filters)) if filters and filters[0].isdigit() else (),
            sites=(site(filters[0]),) if filters and not filters[0].isdigit() else (),
        )
        return read_trace(str(trace), found).joins

    assert kinds() == ["Pool.join", "Process.join"]
    assert kinds("12") == ["Process.join"]
    assert kinds("10") == ["Pool.join"]
    assert kinds("11") == []
    assert kinds("app.py:50") == ["Process.join"]


def test_a_filter_that_leaves_nothing_says_so(
    trace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for format_ in ("json", "jsonl", "text"):
        report_of(trace, "--pid", "1", format_=format_)
        said = capfd.readouterr().err
        assert said == "zombiebpf: no process of the trace's 6 passes the filters\n"
    empty = saved(trace.parent / "empty.db", analysis([]))
    report_of(empty, "--pid", "1")
    assert capfd.readouterr().err == "zombiebpf: there is no process in the trace\n"


def test_the_parts_of_one_observation(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "night.db"
    meta = analysis([]).meta
    with TraceWriter(str(path), meta, rotate=Rotation(None, age_ns=1)) as writer:
        for number in (1, 2):
            writer.add(rows([ended(number, number)]))
            writer.flush()
        writer.add(rows([ended(3, 3)]))
        writer.close(meta)
    pattern = str(tmp_path / "night*.db")
    assert pids(pattern) == [1, 2, 3]
    assert capfd.readouterr().err == ""
    assert pids(path) == [3]
    assert capfd.readouterr().err == (
        f"zombiebpf: {path} is part 3; for all of them: {tmp_path}/night*.db\n"
    )
    assert pids(path, tmp_path / "night.0001.db", path, tmp_path / "night.0002.db") == [1, 2, 3]


# as a program


def run(*arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zombiebpf", "report", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        **settings,
    )


def test_to_standard_output(trace: Path) -> None:
    shown = run(trace, "--state", "zombie")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Still zombie at the end: 1" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["no.db"], "no.db: No such file or directory"),
        (["."], ".: is a directory; name a trace in it"),
        (["night.db", "--since", "noon"], "Invalid value for '--since': 'noon' is no time"),
        (["night.db", "--since", "5h", "--until", "1h"], "--since 5h is after --until 1h"),
        (["night.db", "--min-zombie", "x"], "Invalid value for '--min-zombie': 'x' is no duration"),
        (["night.db", "--site", ":3"], "Invalid value for '--site': ':3' is no line of code"),
        (["night.db", "--pid", "x"], "Invalid value for '--pid': 'x' is not a valid integer"),
        (["night.db", "--state", "dead"], "Invalid value for '--state': 'dead' is not one of"),
        ([], "Missing argument 'TRACE...'"),
    ],
)
def test_one_line_for_each_mistake(trace: Path, arguments: list[str], line: str) -> None:
    shown = run(*arguments, cwd=trace.parent)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith(f"zombiebpf: {line}")
    assert shown.stderr.count("\n") == 1


def test_without_room_or_reader(trace: Path) -> None:
    with open("/dev/full", "w") as full:
        shown = subprocess.run(
            [sys.executable, "-m", "zombiebpf", "report", str(trace)],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert shown.returncode == 70
    assert shown.stderr.startswith("zombiebpf: standard output: No space left on device")
    many = saved(trace.parent / "many.db", analysis([ended(each, each) for each in range(1, 5000)]))
    for format_ in ("jsonl", "text"):
        shown = subprocess.run(
            ["bash", "-c", '"$@" | head -n 1; echo "${PIPESTATUS[0]}"', "-", sys.executable, "-m",
             "zombiebpf", "report", str(many), "--format", format_],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert shown.stderr == ""
        assert shown.stdout.endswith("\n0\n")


def test_neither_bcc_nor_the_kernel_is_asked(trace: Path) -> None:
    script = (
        "import sys; from zombiebpf.cli.report import report;"
        f"report.main([{str(trace)!r}], standalone_mode=False); assert 'bcc' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
def test_a_cut_trace_in_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """Its WAL file wants shared memory beside it: a copy is read."""
    path = tmp_path / "t.db"
    writer = TraceWriter(str(path), analysis([]).meta)
    writer.add(rows([ended(1), ended(2, 1)]))
    writer.flush()
    place = Path("/tmp") / f"zombiebpf-cut-{os.getpid()}"
    place.mkdir()
    try:
        for each in ("t.db", "t.db-wal"):  # as a kill leaves it
            shutil.copy(tmp_path / each, place / each)
            (place / each).chmod(0o444)
        place.chmod(0o555)
        writer.close(analysis([]).meta)
        script = (
            "import os, sys; os.setgid(65534); os.setuid(65534)\n"
            "from zombiebpf.trace import read_trace\n"
            "read = read_trace(sys.argv[1]); print(len(read.lives), read.meta.cut)"
        )
        shown = subprocess.run(
            [sys.executable, "-c", script, str(place / "t.db")],
            capture_output=True, text=True, cwd="/",
            env={"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "TMPDIR": "/tmp"},
        )  # fmt: skip
        assert shown.stdout == "2 the observer ended without closing it\n", shown.stderr
        assert sorted(each.name for each in place.iterdir()) == ["t.db", "t.db-wal"]
    finally:
        shutil.rmtree(place)


def test_a_cut_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with TraceWriter(str(path), analysis([]).meta) as writer:
        writer.add(rows([ended(1)]))
    shown = report_of(path)["meta"]
    assert (shown["cut"], shown["complete"]) == ("the observer ended without closing it", False)
    assert "CUT: the observer ended without closing it\n" in report_of(path, format_="text")
    lines = report_of(path, format_="jsonl").splitlines()
    assert json.loads(lines[-1])["meta"]["cut"] == "the observer ended without closing it"
    whole = report_of(saved(tmp_path / "whole.db", analysis([ended(1)])))["meta"]
    assert (whole["cut"], whole["complete"]) == (None, True)
