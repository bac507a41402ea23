# SPDX-License-Identifier: Apache-2.0
"""`zombiebpf attach` at a terminal, in a pipe, with a trace that is rotated, with rules."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.kernel.attaching import attached, life_of, program, workload
from tests.kernel.running import PROGRAM, Terminal, one_line, wait_until, zombiebpf

# Three zombies; one is reaped for each line of its input.
DEAD = """
import os, sys
dead = [os.fork() or os._exit(5) for _ in range(3)]
for pid in dead:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
print("ready")
print(*dead)
for line in sys.stdin:
    print(os.waitpid(dead.pop(0), 0)[0])
"""

FORKS = """
import os, sys
print("ready")
for line in sys.stdin:
    pids = [os.fork() or os._exit(4) for _ in range(20)]
    for pid in pids:
        os.waitpid(pid, 0)
    print(*pids)
"""

# The erased line, and what is written over it up to the next time.
PROGRESS = re.compile(r"\r\x1b\[2K([^\r\n\x1b]+)")


def test_the_line_on_a_terminal() -> None:
    """Rewritten in place, never longer than the terminal is wide, gone before the report."""
    with workload(DEAD) as app, Terminal() as terminal:
        dead = app.readline().split()
        terminal.resize(50, 150)
        terminal.type(shlex.join([PROGRAM, "attach", str(app.pid)]) + "\n")
        said = terminal.expect(f"3 zombies now, the oldest since before we looked (PID {dead[0]} ")
        assert "zombiebpf: attached: 4 processes that exist" in said
        said = terminal.expect("0 records lost")
        app.tell()
        terminal.expect("2 zombies now")
        terminal.expect("0 records lost")
        terminal.resize(50, 30)
        app.tell()
        said = terminal.expect("1 zombie") + terminal.expect("\r\x1b[2K")
        for line in PROGRESS.findall(said):
            assert len(line) < 150
        assert len(PROGRESS.findall(said)[-1]) < 30
        assert "\n" not in said
        terminal.type("\x03")
        said = terminal.expect("Still zombie at the end: 1")
    assert said.index("\r\x1b[2K") < said.index("PID")
    assert "zombies now" not in said.partition("PID")[2]


def test_a_pipe_that_parses_lines() -> None:
    """As `| jq .pid` does: one line is one document, written when the life has ended."""
    parser = "import json, sys\nfor line in sys.stdin: print(json.loads(line).get('pid'))"
    with workload(DEAD) as app:
        app.readline()
        command = shlex.join([PROGRAM, "attach", str(app.pid), "--follow", "--format", "jsonl"])
        pipe = f"{command} | {shlex.join([sys.executable, '-u', '-c', parser])}"
        with subprocess.Popen(
            ["sh", "-c", pipe], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as shell:
            assert shell.stdout is not None
            assert shell.stderr is not None
            assert shell.stderr.readline().startswith("zombiebpf: attached: ")
            for _ in range(3):
                reaped = app.tell()
                assert shell.stdout.readline().strip() == reaped
            app.end()
            assert shell.stdout.read().split() == [str(app.pid), "None"]  # meta comes last
            assert shell.stderr.read() == ""


def test_a_report_that_nobody_reads() -> None:
    with workload(DEAD) as app:
        command = [PROGRAM, "attach", str(app.pid), "--duration", "0", "--format", "json"]
        script = f"{shlex.join(command)} | true; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("zombiebpf: attached: ")


def test_rotation(tmp_path: Path) -> None:
    """Each part is a whole trace; together they have every life once."""
    trace = tmp_path / "night.db"
    born: list[int] = []
    with workload(FORKS) as app:
        options = ("-o", str(trace), "--rotate", "1s")
        with attached(tmp_path / "report", str(app.pid), *options, json_report=False) as observer:
            for part in (1, 2):
                born += map(int, app.tell().split())
                wait_until((tmp_path / f"night.{part:04}.db").exists, f"part {part}")
            born += map(int, app.tell().split())
            app.end()
            _, said = observer.process.communicate()
    assert f"{len(born) + 1} lives in {trace}" in said
    parts = sorted(map(str, tmp_path.glob("night*.db")))
    assert len(parts) >= 3
    report = json.loads(zombiebpf("report", *parts, "--format", "json").stdout)
    assert sorted(each["pid"] for each in report["processes"]) == sorted([app.pid, *born])
    assert {each["state"] for each in report["processes"]} == {"reaped"}
    assert report["meta"]["lost_events"] == 0
    for file in parts:
        assert zombiebpf("report", file).returncode == 0


RULES = """
rules:
  - kind: our collector
    stack: ["*ourjobs:collect"]
"""

JOBS = """
import os, sys
def collect(pid):
    os.waitpid(pid, 0)
print("ready")
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    collect(pid)
    print(pid)
"""


def test_rules_of_your_own(tmp_path: Path) -> None:
    script, rules = tmp_path / "ourjobs.py", tmp_path / "rules.yaml"
    script.write_text(JOBS)
    rules.write_text(RULES)
    kinds = []
    for options in ((), ("--rules", str(rules))):
        with (
            program(sys.executable, "-u", str(script)) as app,
            attached(tmp_path / "report", str(app.pid), *options) as observer,
        ):
            child = int(app.tell())
            document = observer.stop()
        kinds.append(life_of(document, child)["reap_call"]["kind"])
    assert kinds[0] != "our collector"
    assert kinds[1] == "our collector"


def test_rules_that_are_wrong(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: 5")
    for path in (str(rules), str(tmp_path / "none")):
        result = zombiebpf("attach", "--all", "--rules", path)
        assert result.returncode == 2
        assert path in one_line(result)
