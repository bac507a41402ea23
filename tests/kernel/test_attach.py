# SPDX-License-Identifier: Apache-2.0
"""`zombiebpf attach`: what existed is taken over as it is, and followed to its end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.attaching import attached, life_of, lives_of, start_ticks, state_of, workload
from tests.kernel.running import PROGRAM, one_line, wait_until, zombiebpf

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
BEFORE = "since before we looked"

# A hundred zombies, one child that runs and has a child of its own; then, told by
# lines: reap sixty, fork one more and wait for it; kill the others and wait for
# both, as PR_SET_CHILD_SUBREAPER (36) gives it the orphan.
ZOMBIES = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
dead = []
for _ in range(100):
    pid = os.fork()
    if pid == 0:
        os._exit(5)
    dead.append(pid)
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    grandchild = os.fork()
    if grandchild == 0:
        signal.pause()
    os.write(writing, b"%d" % grandchild)
    signal.pause()
grandchild = int(os.read(reading, 20))
for pid in dead:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
print("ready")
sys.stdin.readline()
print(*dead, child, grandchild)
sys.stdin.readline()
for pid in dead[:60]:
    os.waitpid(pid, 0)
born = os.fork()
if born == 0:
    os._exit(7)
os.waitpid(born, 0)
print(born)
sys.stdin.readline()
os.kill(grandchild, signal.SIGTERM)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
os.waitpid(grandchild, 0)
print("done")
sys.stdin.read()
"""


def test_zombies_that_existed_before(tmp_path: Path) -> None:
    """Listed with their parent; gone when reaped, with the reaper; never an invented time."""
    with workload(ZOMBIES) as app:
        *dead, child, grandchild = map(int, app.tell().split())
        ticks = {pid: start_ticks(pid) for pid in (app.pid, *dead, child, grandchild)}
        with attached(tmp_path / "report", str(app.pid)) as observer:
            born = int(app.tell())
            assert app.tell() == "done"
            document = observer.stop()
    everything = document["processes"]
    assert len(everything) == 104
    assert document["meta"]["lost_events"] == 0
    for pid, started in ticks.items():
        life = life_of(document, pid)
        assert life["start_ns"] // _TICK_NS == started
        assert (life["forker"], life["fork_ns"]) == (None, None)
        assert life["unseen"]["forker"] == life["unseen"]["fork_ns"] == BEFORE
    for pid in dead:
        life = life_of(document, pid)
        assert life["parent"] == {"pid": app.pid, "tid": app.pid, "comm": life["comm"]}
        assert (life["exit_ns"], life["zombie_ns"], life["zombie_interval_ns"]) == (None,) * 3
        assert life["unseen"]["exit_ns"] == life["unseen"]["zombie_ns"] == BEFORE
        assert life["exit_status"] == 5
    for pid in dead[:60]:
        life = life_of(document, pid)
        assert (life["state"], life["reaped_by"], life["reap_exact"]) == ("reaped", "parent", True)
        assert life["reaper"]["pid"] == app.pid
        assert life["reap_call"]["syscall"] == "wait4"
    for pid in dead[60:]:
        assert life_of(document, pid)["state"] == "zombie"
        assert life_of(document, pid)["reaped_by"] is None
    assert life_of(document, app.pid)["state"] == "running"
    assert life_of(document, app.pid)["argv"][:2] == [sys.executable, "-u"]
    assert life_of(document, app.pid)["parent"]["pid"] == os.getpid()
    for pid, parent, number in (
        (child, app.pid, signal.SIGKILL),
        (grandchild, child, signal.SIGTERM),
    ):
        life = life_of(document, pid)
        assert (life["signal"], life["state"], life["parent"]["pid"]) == (number, "reaped", parent)
        assert life["zombie_interval_ns"] >= 0
    orphan = life_of(document, grandchild)
    assert (orphan["reaped_by"], orphan["reaper"]["pid"]) == ("adopter", app.pid)
    (adoption,) = orphan["reparents"]
    assert (adoption["from"]["pid"], adoption["to"]["pid"]) == (child, app.pid)
    life = life_of(document, born)
    assert (life["parent"], life["unseen"]) == (None, {})
    assert (life["forker"]["pid"], life["exit_status"]) == (app.pid, 7)


def test_where_their_parent_has_slept_since_before() -> None:
    """The probes have not seen it go to sleep: its line is read from its memory."""
    with workload(ZOMBIES) as app:
        app.tell()
        done = zombiebpf("attach", str(app.pid), "--duration", "1s", "--format", "json")
        document = json.loads(done.stdout)
    lines = ZOMBIES.splitlines()
    asleep = lines.index("print(*dead, child, grandchild)") + 2  # counted from 1, the line after
    assert lines[asleep - 1] == "sys.stdin.readline()"
    zombies = [life for life in document["processes"] if life["state"] == "zombie"]
    assert len(zombies) == 100
    for life in zombies:
        seen = life["meanwhile"]
        assert (seen["thread"]["pid"], seen["syscall"]) == (app.pid, "read")
        (frame,) = seen["stack"]
        assert (frame["function"], frame["line"]) == ("<module>", asleep)


def test_text_tells_of_zombies_that_existed_before() -> None:
    with workload(ZOMBIES) as app:
        dead = app.tell().split()[0]
        done = zombiebpf("attach", str(app.pid), "--duration", "0")
    text = done.stdout.decode()
    assert done.returncode == 0
    assert re.search(rf"child of \S+ {app.pid}\b", " ".join(text.split()))
    assert "ZOMBIE since before we looked, started" in " ".join(text.split())
    assert "Still zombie at the end: 100" in text
    assert dead in text


# A program that starts others by name: it execs what its input says.
FAMILY = """
import os, subprocess, sys
print("ready")
child = subprocess.Popen(["sleep", "1000"])
print(child.pid)
sys.stdin.read()
child.kill()
child.wait()
"""


def test_by_name(tmp_path: Path) -> None:
    """A script's name selects, and nothing else that runs."""
    script = tmp_path / "oddly_named_app.py"
    script.write_text(FAMILY)
    with subprocess.Popen(
        [sys.executable, "-u", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as app:
        assert app.stdout is not None
        assert app.stdout.readline() == b"ready\n"
        child = int(app.stdout.readline())
        with attached(tmp_path / "report", "--name", "oddly_named_*") as observer:
            app.communicate()
            document = observer.document()  # it ends with the last of them
    assert [each["pid"] for each in document["processes"]] == [app.pid, child]
    assert life_of(document, child)["argv"] == ["sleep", "1000"]
    assert life_of(document, child)["signal"] == signal.SIGKILL


def test_several_and_all_their_descendants(tmp_path: Path) -> None:
    with workload(FAMILY) as one, workload(FAMILY) as two, workload(FAMILY) as other:
        children = [int(each.readline()) for each in (one, two)]
        with attached(tmp_path / "report", str(one.pid), str(two.pid)) as observer:
            one.end()
            two.end()
            document = observer.document()
        assert {each["pid"] for each in document["processes"]} == {one.pid, two.pid, *children}
        assert not lives_of(document, other.pid)


def test_the_whole_machine(tmp_path: Path) -> None:
    with workload(FAMILY) as app:
        child = int(app.readline())
        with attached(tmp_path / "report", "--all") as observer:
            stranger = subprocess.Popen(["true"])
            stranger.wait()
            assert observer.process.poll() is None
            document = observer.stop()
    assert life_of(document, os.getpid())["state"] == "running"
    assert life_of(document, child)["parent"]["pid"] == app.pid
    assert life_of(document, stranger.pid)["reaper"]["pid"] == os.getpid()
    assert life_of(document, 1)["state"] == "running"
    assert not lives_of(document, 2), "a kernel thread"
    assert not lives_of(document, observer.process.pid), "the observer itself"


def test_two_observers_see_the_same(tmp_path: Path) -> None:
    with workload(ZOMBIES) as app:
        app.tell()
        one_too, two_too = tmp_path / "one", tmp_path / "two"
        with attached(one_too, str(app.pid)) as one, attached(two_too, str(app.pid)) as two:
            app.tell()
            app.tell()
            documents = one.stop(), two.stop()
    first, second = (
        {(each["pid"], each["start_ns"]): each for each in document["processes"]}
        for document in documents
    )
    assert first.keys() == second.keys()
    for key, life in first.items():
        for field in ("state", "reaped_by", "exit_status", "signal", "reaper", "parent"):
            assert life[field] == second[key][field]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_the_report(number: int, tmp_path: Path) -> None:
    with workload(FAMILY) as app:
        with attached(tmp_path / "report", str(app.pid)) as observer:
            observer.signal(number)
            document = observer.document()
        assert state_of(app.pid) is not None
    assert life_of(document, app.pid)["state"] == "running"


def test_report_now_and_go_on(tmp_path: Path) -> None:
    report = tmp_path / "report"
    with workload(ZOMBIES) as app:
        app.tell()
        with attached(report, str(app.pid)) as observer:
            observer.signal(signal.SIGUSR1)
            wait_until(report.exists, "the first report")
            before = report.read_text()
            report.unlink()
            born = int(app.tell())
            document = observer.stop()
    assert f'"pid": {app.pid},' in before
    assert f'"pid": {born},' not in before
    assert life_of(document, born)["state"] == "reaped"


def test_duration() -> None:
    with workload(FAMILY) as app:
        done = zombiebpf("attach", str(app.pid), "--duration", "100ms", "--format", "jsonl")
    assert done.returncode == 0
    assert f'"pid": {app.pid}'.encode() in done.stdout


def test_what_is_not_there() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    for arguments, expected in (
        ((str(gone.pid),), f"no process has the PID {gone.pid}"),
        (("2",), "is a kernel thread"),
        (("--name", "no-such-program-anywhere"), "no process is called"),
        (("--cgroup", "/no/such/cgroup"), "no cgroup"),
        (("--container", "no-such-container"), "no container"),
        ((), "attach to what?"),
        ((str(os.getpid()), "--follow", "--format", "json"), "--follow prints text or jsonl"),
        ((str(os.getpid()), "--rotate", "1h"), "give -o FILE"),
        ((str(os.getpid()), "-o", "/no/such/directory/x.db"), "/no/such/directory"),
        ((str(os.getpid()), "--duration", "soon"), "no duration"),
        (("0",), "0"),
    ):
        result = zombiebpf("attach", *arguments)
        assert result.returncode == 2, arguments
        assert expected in one_line(result)


def test_a_thread_is_no_process() -> None:
    source = """
import threading, sys
thread = threading.Thread(target=sys.stdin.read)
thread.start()
print("ready")
print(thread.native_id)
"""
    with workload(source) as app:
        thread = app.readline()
        result = zombiebpf("attach", thread)
    assert result.returncode == 2
    assert f"{thread} is a thread of the process {app.pid}; attach to {app.pid}" in one_line(result)


def test_lines_for_a_pipe() -> None:
    """As lives end; the reader's end ends it quietly."""
    with workload(ZOMBIES) as app:
        dead = app.tell().split()
        with subprocess.Popen(
            [PROGRAM, "attach", str(app.pid), "--follow", "--format", "jsonl"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as observer:
            assert observer.stdout is not None
            assert observer.stderr is not None
            assert observer.stderr.readline().startswith("zombiebpf: attached: ")
            app.tell()
            assert f'"pid": {dead[0]},' in observer.stdout.readline()
            observer.stdout.close()
            assert observer.wait(timeout=60) == 0  # though nothing more ends
            assert observer.stderr.read() == ""
