# SPDX-License-Identifier: Apache-2.0
"""What the bench reads from other tools' output, and how it ends what it started."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import processes, split, start, storm, tools
from bench.split import START, WORK, Clock, Part
from bench.tools import Reported

STAGES = {"fork_ns": 1, "exit_ns": 2, "zombie_ns": 3, "reap_ns": 4}


def output(directory: Path, text: str) -> Path:
    file = directory / "output"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_report_of_lines_is_counted_and_read(tmp_path: Path) -> None:
    life = {
        "pid": 7, "comm": "storm1", **STAGES, "zombie_interval_ns": 9, "reaper": {"pid": 3},
        "fork_site": {"line": 12},
    }  # fmt: skip
    meta = {"meta": {"lost_events": 5}}
    unseen = {**life, "pid": 8, "reap_ns": None, "reaper": None, "fork_site": None}
    lines = [json.dumps(each) for each in (life, unseen, {**life, "comm": "sh"}, meta)]
    file = output(tmp_path, "\n".join(lines) + "\n")
    assert tools.count_jsonl(file, "storm1") == 1
    assert tools.reported_jsonl(file, 7) == Reported(3, 9, 12)
    assert tools.reported_jsonl(file, 8) == Reported(None, 9, None)
    assert tools.reported_jsonl(file, 9) == Reported()
    assert storm.lost_records(file.read_text()) == 5


def test_bpftrace_is_read(tmp_path: Path) -> None:
    file = output(tmp_path, "fork 1000 3 7\nexit 2000 7 storm1\nwait 5000 3 7\nwait 9000 4 8\n")
    assert tools.reported_printed(file, 7) == Reported(3, 3000)
    assert tools.reported_printed(file, 8) == Reported()
    assert tools.BY_KEY["bpftrace-print"].count(file, "storm1") == 1
    assert tools.BY_KEY["bpftrace-print"].count(file, "storm") == 0
    file = output(tmp_path, "Attaching 1 probe...\n\n@[sh]: 5\n@[storm1]: 1234\n")
    assert tools.count_map(file, "storm1") == 1234
    assert tools.count_map(file, "storm2") == 0


def test_strace_is_read(tmp_path: Path) -> None:
    text = (
        "3 100.000000 wait4(-1,  <unfinished ...>\n7 100.250000 exit_group(0)     = ?\n"
        "3 100.500000 <... wait4 resumed>[{WIFEXITED(s)}], 0, NULL) = 7\n"
        "3 100.600000 wait4(-1, NULL, WNOHANG, NULL) = 77\n"
        "3 100.700000 exit_group(0)     = ?\n"
    )
    file = output(tmp_path, text)
    assert tools.reported_strace(file, 7).reaper == 3
    assert tools.reported_strace(file, 7).zombie_ns == pytest.approx(0.25e9)
    assert tools.reported_strace(file, 77) == Reported()
    assert tools.BY_KEY["strace"].count(file, "any") == 1


def test_perf_trace_is_read(tmp_path: Path) -> None:
    text = (
        "     1.000 (         ): sh/3 wait4(upid: -1, stat_addr: 0x7ffd401e0e1c)     ...\n"
        "     2.000 (         ): storm1/7 exit_group()                               = ?\n"
        "     1.000 ( 6.500 ms): sh/3  ... [continued]: wait4())                     = 7 (storm1)\n"
    )
    file = output(tmp_path, text)
    assert tools.reported_perf_trace(file, 7).reaper == 3
    assert tools.reported_perf_trace(file, 7).zombie_ns == pytest.approx(5.5e6)
    assert tools.BY_KEY["perf-trace"].count(file, "storm1") == 1


def test_snoopers_are_counted_by_name(tmp_path: Path) -> None:
    file = output(tmp_path, "PCOMM PID\nstorm1  7  3  7  0.00  0\nstorm12  8  3  8  0.00  0\n")
    assert tools.BY_KEY["exitsnoop-libbpf"].count(file, "storm1") == 1
    line = "19:17:31 exit  {}      0   0.001s {}\n"
    file = output(tmp_path, line.format(7, "storm1") + line.format(8, "cat"))
    assert tools.BY_KEY["forkstat"].count(file, "storm1") == 1


def test_the_error_that_says_most_is_named() -> None:
    assert processes.error_line("a warning\nError: no such tracepoint\nusage\n") == (
        "Error: no such tracepoint"
    )
    assert processes.error_line("first\nlast\n") == "last"
    assert processes.error_line("") == "it printed no error"


def test_a_tool_that_is_missing_is_named() -> None:
    with pytest.raises(OSError, match="no-such-tool"):
        processes.Process(["no-such-tool"])


def test_a_process_that_ends_early_is_named_with_its_error(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo fatal error >&2"]
    process = processes.Process(command, stdout=subprocess.PIPE, stderr=tmp_path / "errors")
    with processes.ended(process), pytest.raises(processes.ProcessFailed) as raised:
        process.line()
    assert str(raised.value) == "sh printed nothing more: fatal error"


def test_nothing_is_left_behind() -> None:
    """Neither a daemon nor a process that ignores SIGTERM."""
    code = """if True:
        import os, subprocess, sys
        from bench import processes
        processes._END_S = 0.5
        processes.adopt_orphans()
        script = "trap '' TERM; (setsid sh -c 'echo $$; exec sleep 600') & echo $$; sleep 600"
        stubborn = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
        pids = [int(stubborn.stdout.readline()) for _ in range(2)]
        assert set(pids) <= set(processes.tree(os.getpid()))
        processes.end_all()
        print(*pids, *processes.tree(os.getpid())[1:])
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE,
        text=True, check=True, timeout=60,
    )  # fmt: skip
    pids = [int(each) for each in done.stdout.split()]
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_cpu_time_is_that_of_the_process() -> None:
    before = processes.cpu_ns([os.getpid()])
    sum(range(200_000))
    assert processes.cpu_ns([os.getpid()]) > before
    assert processes.tree(os.getpid(), without=os.getpid()) == []


def test_the_clock_gives_each_part_its_own_time() -> None:
    now = iter([0, 10, 15, 40])
    clock = Clock(lambda: next(now))
    inner = clock.wrap(Part("load", "m", "Class.load", of=True), lambda self, name: name)
    outer = clock.wrap(Part("attach", "m", "attach"), lambda: inner(None, "on_fork"))
    assert outer() == "on_fork"
    assert clock.spent_ns == {"load on_fork": 5, "attach": 35}


@pytest.mark.parametrize("part", [*START, *WORK], ids=lambda part: part.name)
def test_each_part_of_the_start_is_a_function(part: split.Part) -> None:
    owner = importlib.import_module(part.module)
    for name in part.path.split("."):
        owner = getattr(owner, name)
    assert callable(owner)


def test_import_times_are_added_up_by_package() -> None:
    printed = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:      1000 |       1000 |     click.core\n"
        "import time:       500 |       1500 |   click\n"
        "import time:       250 |        250 | _json\n"
        "import time:       250 |        250 | json.decoder\n"
        "noise\n"
    )
    assert start.import_times(printed) == {"click": 1.5, "Python's own modules": 0.5}
