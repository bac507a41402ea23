# SPDX-License-Identifier: Apache-2.0
"""Scenarios under the real observer: what holds, what does not, and what cannot be concluded."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

PROGRAM = os.path.join(os.path.dirname(sys.executable), "zombiebpf")
ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "data" / "scenarios"
SCHEMA = ROOT / "docs" / "zombiebpf-1.schema.json"
TIMEOUT_S = 120

YAML = """\
title: T
teaches: it
knobs: {child: 0.3, timeout: 0.1}
start_methods: [fork]
expect:
  - join: {of: child, nth: 0, returned: timeout, lasted: {above: 0.9 * timeout}}
  - join: {of: child, nth: 1, returned: reaped, after: child, within: 1 s}
  - join: {of: child, nth: 2, returned: already_reaped}
  - waited: {of: child, by: parent, blocking: true}
"""
WORKLOAD = """\
import multiprocessing
import story

knobs = story.knobs(child=0.3, timeout=0.1, start_method="fork")
p = multiprocessing.Process(target=story.live, args=(knobs.child,))
p.start()
story.started(p)
story.join(p, knobs.timeout)
story.join(p)
story.join(p)
"""


class Done(NamedTuple):
    code: int
    runs: list[Any]
    stderr: str
    document: Any


def command(*arguments: str, directory: Path = SAMPLES) -> list[str]:
    if os.geteuid() != 0:
        pytest.fail("kernel tests need root: try `sudo make test-kernel`")
    return [PROGRAM, "scenario", "run", "--dir", str(directory), "-u", "root", *arguments]


def run(*arguments: str, directory: Path = SAMPLES) -> Done:
    done = subprocess.run(
        command("--format", "json", *arguments, directory=directory),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    document = json.loads(done.stdout) if done.stdout else {"runs": []}
    return Done(done.returncode, document["runs"], done.stderr, document)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A directory of the user's own, with one scenario."""
    (tmp_path / "mine.yaml").write_text(YAML, encoding="utf-8")
    (tmp_path / "mine.py").write_text(WORKLOAD, encoding="utf-8")
    return tmp_path


def broken_in(run: Any) -> list[str]:
    return [each["kind"] for each in run["outcomes"] if each["held"] is False]


def test_the_sample_holds_with_every_start_method() -> None:
    done = run("sample", "--start-method", "all")
    assert done.code == 0, done.stderr
    assert [each["start_method"] for each in done.runs] == ["fork", "spawn", "forkserver"]
    schema = json.loads(SCHEMA.read_text(encoding="ascii"))
    for each in done.runs:
        assert (each["verdict"], broken_in(each)) == ("held", [])
        jsonschema.validate(each["observation"], schema)
        assert each["observation"]["meta"]["lost_events"] == 0
    fork, _, forkserver = (each["article"]["says"] for each in done.runs)
    assert fork.startswith("the child stayed a zombie for ")
    assert fork != forkserver


def test_a_claim_that_is_false_turns_the_verdict(tmp_path: Path) -> None:
    for name in ("sample.yaml", "sample.py"):
        shutil.copy(SAMPLES / name, tmp_path)
    workload = (SAMPLES / "sample.py").read_text(encoding="utf-8")
    mark = 'story.started(p, "child")\n'
    assert mark in workload
    joining = workload.replace(mark, mark + "    story.join(p)\n")
    (tmp_path / "sample.py").write_text(joining, encoding="utf-8")
    done = run("sample", directory=tmp_path)
    assert done.code == 1
    (only,) = done.runs
    assert only["verdict"] == "not held"
    assert broken_in(only) == ["zombie", "reaped"]
    assert only["marked_joins"][0]["returned"] == "reaped"


def test_joins_agree_with_the_kernel(mine: Path) -> None:
    done = run("mine", directory=mine)
    assert (done.code, broken_in(done.runs[0])) == (0, [])
    joins = done.runs[0]["marked_joins"]
    assert [each["returned"] for each in joins] == ["timeout", "reaped", "already_reaped"]
    (child,) = (
        each
        for each in done.runs[0]["observation"]["processes"]
        if each["pid"] == joins[0]["child_pid"]
    )
    assert joins[1]["began_ns"] < child["zombie_ns"] < child["reap_ns"] < joins[1]["ended_ns"]
    assert child["reaper"]["tid"] == joins[1]["tid"]
    assert child["reap_call"]["options"] == 0


def test_knobs_and_repetitions(mine: Path) -> None:
    done = run("mine", "--set", "child=0.5", "--set", "timeout=200 ms", "--repeat", "2",
               directory=mine)  # fmt: skip
    assert done.code == 0
    assert [each["knobs"]["timeout"] for each in done.runs] == [0.2, 0.2]
    assert {each["marked_joins"][0]["timeout_s"] for each in done.runs} == {0.2}
    (group,) = done.document["reap_latency"]["scenarios"]
    assert (group["runs"], group["zombie_interval"]["count"]) == (2, 2)


@pytest.mark.parametrize(
    ("code", "why", "printed"),
    [
        ("raise SystemExit('it broke')", "the workload failed: exit 1", "it broke"),
        ("import os; os.kill(os.getpid(), 9)", "the workload was killed by SIGKILL", ""),
        (
            "import os; open(os.environ['ZOMBIEBPF_MARKS'], 'a').write('{nonsense\\n')",
            "of the workload's marks is broken",
            "",
        ),
        ("pass", "cannot be told: join 0 of child", ""),
    ],
)
def test_a_failed_workload_is_no_broken_expectation(
    mine: Path, code: str, why: str, printed: str
) -> None:
    (mine / "mine.py").write_text(code + "\n", encoding="utf-8")
    done = run("mine", directory=mine)
    assert done.code == 70
    (only,) = done.runs
    assert only["verdict"] in ("failed", "incomplete")
    assert why in only["why"]
    assert broken_in(only) == []
    assert printed in only["output"]


def test_text_and_saved_reports(mine: Path, tmp_path: Path) -> None:
    text, document = tmp_path / "report.txt", tmp_path / "report.json"
    done = subprocess.run(
        command("mine", "--report", str(text), "--report", str(document), directory=mine),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[1/1] mine (fork) Python" in done.stderr
    assert "  held      join 2 of child returns already_reaped" in done.stdout
    assert f"the report is saved in {document}\n" in done.stdout
    assert "1 run: held 1\n" in text.read_text(encoding="utf-8")
    assert json.loads(document.read_text(encoding="utf-8"))["runs"][0]["verdict"] == "held"


def test_ctrl_c_ends_with_the_report_of_what_ran(mine: Path) -> None:
    """The second run is interrupted while it runs: nothing of it is left, nor reported."""
    pid_file = mine / "pid_file"
    (mine / "mine.yaml").write_text(YAML.replace("child: 0.3", "child: 0.3, n: 0"))
    (mine / "mine.py").write_text(
        WORKLOAD.replace("child=0.3", "child=0.3, n=0")
        + f"import os\nif os.path.exists({str(pid_file)!r}):\n"
        + f"    open({str(pid_file)!r}, 'a').write(str(os.getpid()))\n    story.live(600)\n"
        + f"open({str(pid_file)!r}, 'w').close()\n",
        encoding="utf-8",
    )
    process = subprocess.Popen(
        command("mine", "--repeat", "3", "--format", "json", directory=mine),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not (pid_file.exists() and pid_file.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + signal.SIGINT, stderr
    document = json.loads(stdout)
    assert (document["planned"], document["interrupted"]) == (3, True)
    assert [each["verdict"] for each in document["runs"]] == ["held"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody may read."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def test_another_user_can_tell_but_not_plant(public: Path) -> None:
    """As under sudo: the workload is the user's, and the directory of its marks is not."""
    reaper = ROOT / "zombiebpf" / "scenario" / "workload_reaper.py"
    reach = ["setpriv", "--reuid", "nobody", "--clear-groups", "test", "-r", str(reaper)]
    if subprocess.run(reach, check=False).returncode != 0:
        pytest.skip(f"nobody cannot read {reaper}: the clone lies in a private directory")
    (public / "mine.yaml").write_text(
        YAML[: YAML.index("expect")]
        + "expect:\n  - fact: {name: uid, equals: 65534}\n"
        + "  - fact: {name: planted, equals: false}\n",
        encoding="utf-8",
    )
    (public / "mine.py").write_text(
        "import os, story\n"
        "story.fact('uid', os.getuid())\n"
        "marks = os.environ['ZOMBIEBPF_MARKS']\n"
        "story.fact('planted', os.access(os.path.dirname(marks), os.W_OK))\n"
        "print('hello')\n",
        encoding="utf-8",
    )
    done = run("mine", "-u", "nobody", "--python", "/usr/bin/python3", directory=public)
    assert (done.code, done.runs[0]["why"]) == (0, None), done.stderr
    assert done.runs[0]["output"] == "hello\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["smaple"], "no scenario 'smaple'"),
        (["sample", "--set", "chidl=1"], "did you mean 'child'?"),
        (["sample", "--python", "/bin/false"], "--python /bin/false: "),
        (["sample", "--python", "/no/python"], "no such program"),
        (["sample", "--report", "/no/directory/report"], "cannot be written"),
    ],
)
def test_usage(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert (done.code, done.runs) == (2, [])
    assert says in done.stderr
