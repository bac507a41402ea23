# SPDX-License-Identifier: Apache-2.0
"""The programs that run in the workload's Python: story.py and workload_reaper.py."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zombiebpf.scenario import workload_log
from zombiebpf.scenario.runner import WORKLOAD, WORKLOAD_REAPER
from zombiebpf.scenario.workload_log import WorkloadLog

FILES = [WORKLOAD_REAPER, WORKLOAD / "story.py"]
TIMEOUT_S = 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_python_3_7(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 7))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_needs_nothing_but_the_standard_library(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        (node.module or "").partition(".")[0]
        if isinstance(node, ast.ImportFrom)
        else node.names[0].name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert imported <= {
        "__future__", "argparse", "ctypes", "json", "multiprocessing", "os", "platform", "signal",
        "sys", "threading", "time", "types", "typing",
    }  # fmt: skip


class ProgramRun:
    """A directory for a run of a program, and the log it leaves."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "marks"
        self.path.touch()
        self.directory = directory

    def environ(self, **knobs: object) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(WORKLOAD),
            "ZOMBIEBPF_MARKS": str(self.path),
            "ZOMBIEBPF_KNOBS": json.dumps(knobs),
        }

    def run(self, *command: str, **knobs: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            env=self.environ(**knobs),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def log(self) -> WorkloadLog:
        return workload_log.parse(self.path.read_bytes())


@pytest.fixture
def program_run(tmp_path: Path) -> ProgramRun:
    return ProgramRun(tmp_path)


def test_story(program_run: ProgramRun) -> None:
    code = """
import multiprocessing, story, time
knobs = story.knobs(timeout=9, start_method="fork")
assert multiprocessing.get_start_method() == "forkserver", knobs
multiprocessing.set_start_method("fork", force=True)
p = multiprocessing.Process(target=story.live, args=(0.3,))
p.start()
story.started(p, "child")
story.join(p, knobs.timeout)
story.join(p)
story.fact("ppid", {"a": 1})
"""
    before = time.monotonic_ns()
    done = program_run.run("-c", code, timeout=0.05, start_method="forkserver")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = program_run.log()
    (started,) = found.started
    first, second = found.joins
    assert before < started.ns < first.began_ns
    assert (first.timeout_s, first.status, second.timeout_s, second.status) == (0.05, None, None, 0)
    assert first.child_pid == second.child_pid == started.pid
    assert first.ended_ns - first.began_ns >= 50_000_000
    assert second.ended_ns > first.ended_ns
    assert (found.facts[0].name, found.facts[0].value) == ("ppid", {"a": 1})
    assert first.tid == first.pid == found.facts[0].pid


def test_a_spawned_child_imports_the_workload_again(program_run: ProgramRun) -> None:
    program = program_run.directory / "program.py"
    program.write_text(
        "import multiprocessing, story\n"
        "knobs = story.knobs(child=0.1, start_method='fork')\n"
        "def work(): story.fact('method', multiprocessing.get_start_method())\n"
        "if __name__ == '__main__':\n"
        "    p = multiprocessing.Process(target=work); p.start(); p.join()\n"
    )
    done = program_run.run(str(program), start_method="spawn")
    assert (done.returncode, done.stderr) == (0, "")
    assert [each.value for each in program_run.log().facts] == ["spawn"]


def test_a_knob_that_the_workload_does_not_have(program_run: ProgramRun) -> None:
    done = program_run.run("-c", "import story; story.knobs(child=1)", parent=3)
    assert "ValueError: story.knobs() lacks parent" in done.stderr


def test_by_hand_nothing_is_told(tmp_path: Path) -> None:
    code = "import story; print(story.knobs(child=0.4).child); story.fact('x'); story.started(1)"
    environ = {**os.environ, "PYTHONPATH": str(WORKLOAD)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, cwd=tmp_path,
        timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0.4\n", "")
    assert list(tmp_path.iterdir()) == []


ORPHANING = """
import os, story
if not os.fork():
    for _ in range(500):
        if os.getppid() == int(os.environ["REAPER_PID"]):
            break
        story.live(0.01)
    story.fact("adopted", os.getppid() == int(os.environ["REAPER_PID"]))
    os._exit(7)
os._exit(3)
"""


def start_reaper(
    program_run: ProgramRun, *command: str, options: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start a reaper whose PID its workload finds in REAPER_PID: the shell's, which execs it."""
    shell = 'REAPER_PID=$$ exec "$@"'
    python = [
        sys.executable,
        "-I",
        "-S",
        str(WORKLOAD_REAPER),
        *options,
        "--",
        sys.executable,
        *command,
    ]
    return subprocess.Popen(
        ["/bin/sh", "-c", shell, "sh", *python],
        env=program_run.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_workload_reaper_adopts_reaps_and_exits_as_the_workload(program_run: ProgramRun) -> None:
    process = start_reaper(program_run, "-c", ORPHANING)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (3, "", "")
    found = program_run.log()
    assert found.reaper_pid == process.pid
    assert found.started[0].role == "parent"
    assert [each.value for each in found.facts] == [True]


def test_workload_reaper_with_init_adopts_nothing(program_run: ProgramRun) -> None:
    code = """
import os, story
reaper, parent = int(os.environ["REAPER_PID"]), os.getpid()
if not os.fork():
    while os.getppid() == parent:
        story.live(0.01)
    story.fact("adopted", os.getppid() == reaper)
    os._exit(0)
"""
    process = start_reaper(program_run, "-c", code, options=("--init",))
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    deadline = time.monotonic() + TIMEOUT_S
    while not program_run.log().facts and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [each.value for each in program_run.log().facts] == [False]


def test_workload_reaper_collects_the_output(program_run: ProgramRun) -> None:
    output = program_run.directory / "output"
    output.touch()
    code = "import sys; print('out'); print('err', file=sys.stderr); print(sys.stdin.read())"
    process = start_reaper(program_run, "-u", "-c", code, options=("--output", str(output)))
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (0, "", "")
    assert output.read_text() == "out\nerr\n\n"


def test_workload_reaper_says_what_killed_the_workload(program_run: ProgramRun) -> None:
    process = start_reaper(program_run, "-c", "import os; os.kill(os.getpid(), 15)")
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 128 + signal.SIGTERM


# a child that ends only when it is killed, and logs its PID
LASTING = """
import os, signal, story
story.fact("pid", os.getpid())
if not os.fork():
    story.fact("pid", os.getpid())
    signal.pause()
os.wait()
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workload_reaper_ends_what_lasts_too_long(program_run: ProgramRun) -> None:
    process = start_reaper(program_run, "-c", LASTING, options=("--limit", "1.5"))
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 70
    found = program_run.log()
    assert found.out_of_time
    assert not any(alive(each.value) for each in found.facts)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workload_reaper_ends_everything_when_it_is_told_to(
    program_run: ProgramRun, number: int
) -> None:
    process = start_reaper(program_run, "-c", LASTING)
    deadline = time.monotonic() + TIMEOUT_S
    while len(program_run.log().facts) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 70
    found = program_run.log()
    assert found.interrupted
    assert len(found.facts) == 2
    assert not any(alive(each.value) for each in found.facts)
