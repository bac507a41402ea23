# SPDX-License-Identifier: Apache-2.0
"""Attach to what lives in PID namespaces: both PIDs are reported, its init is the adopter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.attaching import attached, life_of, state_of, workload
from tests.kernel.running import wait_until

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")

# PID 1 of a namespace. It leaves an orphan of which it is the adopter, as it is
# told; it waits for it only if it is told so.
INIT = """
import os, signal, sys
reading, writing = os.pipe()
middle = os.fork()
if middle == 0:
    if os.fork() == 0:
        os.write(writing, b".")
        signal.pause()
    signal.pause()
os.read(reading, 1)
print("ready")
print(os.getpid(), os.stat("/proc/self/ns/pid").st_ino)
for line in sys.stdin:
    if line == "orphan\\n":
        os.kill(middle, signal.SIGKILL)
        os.waitpid(middle, 0)
    elif line == "kill\\n":
        os.kill(middle + 1, signal.SIGTERM)
        os.waitid(os.P_PID, middle + 1, os.WEXITED | os.WNOWAIT)
    elif line == "wait\\n":
        os.waitpid(middle + 1, 0)
    print("done")
"""


def inner_pids(outer: int) -> dict[int, int]:
    """Our PID -> that in the namespace of all that is in the same one as `outer`."""
    namespace = os.stat(f"/proc/{outer}/ns/pid").st_ino
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if os.stat(f"/proc/{name}/ns/pid").st_ino == namespace:
                text = Path(f"/proc/{name}/status").read_text()
                line = next(each for each in text.splitlines() if each.startswith("NSpid:"))
                found[int(name)] = int(line.split()[-1])
        except OSError:
            pass
    return found


def only_child(pid: int) -> int:
    """Our number of the child that unshare has forked."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(lambda: len(children.read_text().split()) == 1, "unshare's child")
    return int(children.read_text())


def by_inner(document: dict[str, Any], namespace: int) -> dict[int, dict[str, Any]]:
    return {
        each["pidns"]["pid"]: each
        for each in document["processes"]
        if each["pidns"]["inum"] == namespace
    }


@pytest.mark.parametrize("levels", [1, 2])
def test_python_as_init(levels: int, tmp_path: Path) -> None:
    with workload(INIT, prefix=UNSHARE * levels) as app:
        number, namespace = map(int, app.readline().split())
        assert number == 1
        outer = app.pid
        for _ in range(levels):
            outer = only_child(outer)
        inner = inner_pids(outer)
        with attached(tmp_path / "report", str(outer)) as observer:
            for line in ("orphan", "kill"):
                assert app.tell(line) == "done"
            document = observer.stop()
        lives = by_inner(document, namespace)
        assert {life["pid"]: number for number, life in lives.items()} == inner
        init, middle, orphan = (lives[number] for number in sorted(lives))
        assert (init["pid"], init["pidns"]["pid"], init["state"]) == (outer, 1, "running")
        assert middle["parent"]["pid"] == outer
        assert (middle["reaper"]["pid"], middle["reaped_by"]) == (outer, "parent")
        assert orphan["parent"]["pid"] == middle["pid"]
        (adoption,) = orphan["reparents"]
        assert (adoption["kind"], adoption["to"]["pid"]) == ("init", outer)
        # the init does not wait for what it has adopted
        assert (orphan["state"], orphan["reaped_by"]) == ("zombie", None)
        assert orphan["zombie_ns"] > adoption["ns"]
        # attached again, it is a zombie from before, until the init does wait
        with attached(tmp_path / "again", str(outer)) as observer:
            assert app.tell("wait") == "done"
            document = observer.stop()
        orphan = by_inner(document, namespace)[orphan["pidns"]["pid"]]
        assert orphan["parent"]["pid"] == outer
        assert orphan["unseen"]["zombie_ns"] == "since before we looked"
        assert (orphan["reaper"]["pid"], orphan["reaped_by"]) == (outer, "parent")


TINI = """
import os, signal, sys
print("ready")
sys.stdin.readline()
middle = os.fork()
if middle == 0:
    if os.fork() == 0:
        signal.pause()
    os._exit(0)
os.waitpid(middle, 0)
print("done")
sys.stdin.readline()
os.kill(middle + 1, signal.SIGTERM)
print("done")
sys.stdin.read()
"""


def test_tini_as_init(tmp_path: Path) -> None:
    tini = shutil.which("tini")
    assert tini, "kernel tests need tini: try `apt install tini`"
    with workload(TINI, prefix=(*UNSHARE, tini, "--")) as app:
        outer = only_child(app.pid)
        with attached(tmp_path / "report", str(outer)) as observer:
            assert app.tell() == "done"
            orphan = {number: pid for pid, number in inner_pids(outer).items()}[4]
            assert app.tell() == "done"
            wait_until(lambda: state_of(orphan) is None, "tini has waited")
            app.end()
            document = observer.document()  # all have ended, so it has
    life = life_of(document, orphan)
    assert (life["signal"], life["reaped_by"]) == (15, "adopter")
    assert (life["reaper"]["pid"], life["reaper"]["comm"]) == (outer, "tini")
    assert life["unseen"] == {}
    assert life_of(document, outer)["comm"] == "tini"
    assert life_of(document, outer)["reaper"]["comm"] == "unshare"


MOVES = """
import ctypes, os, sys
print("ready")
sys.stdin.readline()
assert ctypes.CDLL(None).unshare(0x20000000) == 0  # CLONE_NEWPID
child = os.fork()
if child == 0:
    if os.fork() == 0:
        os._exit(3)
    os.wait()
    os._exit(os.getpid())
os.waitpid(child, 0)
print(child, os.getpid())
sys.stdin.read()
"""


def test_children_in_a_new_namespace(tmp_path: Path) -> None:
    with workload(MOVES) as app, attached(tmp_path / "report", str(app.pid)) as observer:
        child, me = map(int, app.tell().split())
        app.end()
        document = observer.document()
    assert me == app.pid
    life = life_of(document, child)
    assert (life["pidns"]["pid"], life["exit_status"]) == (1, 1)
    assert life["forker"]["pid"] == app.pid
    (grandchild,) = (each for each in document["processes"] if each["exit_status"] == 3)
    assert grandchild["pidns"] == {"inum": life["pidns"]["inum"], "pid": 2}
    assert grandchild["reaper"]["pid"] == child


@pytest.mark.parametrize("levels", [1, 2])
def test_an_observer_that_is_in_one_itself(levels: int, tmp_path: Path) -> None:
    """PIDs on the command line and in the report are the observer's own."""
    script = tmp_path / "inside.sh"
    report = tmp_path / "report.json"
    program = os.path.join(os.path.dirname(sys.executable), "zombiebpf")
    script.write_text(
        f"""
{sys.executable} -c 'import os, sys
if os.fork() == 0: os._exit(5)
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
print("ready"); sys.stdout.close(); sys.stdin.readline(); os.wait()' <"$1" | (read ready
app=$(pgrep -f os._exit.5)
echo $app >"$2"
{program} attach $app --format json --report {report} 2>"$3" &
wait $!)
"""
    )
    fifo, pid_file, errors = tmp_path / "in", tmp_path / "pid", tmp_path / "errors"
    os.mkfifo(fifo)
    with subprocess.Popen(
        [*UNSHARE * levels, "sh", str(script), str(fifo), str(pid_file), str(errors)]
    ) as shell:
        with fifo.open("w") as line:
            wait_until(lambda: errors.exists() and "attached: " in errors.read_text(), "attached")
            line.write("\n")
        assert shell.wait(timeout=120) == 0
    document = json.loads(report.read_text())
    app = int(pid_file.read_text())
    assert app < 100
    life = life_of(document, app)
    assert life["pidns"]["pid"] == app
    (child,) = (each for each in document["processes"] if each["exit_status"] == 5)
    assert child["parent"]["pid"] == child["reaper"]["pid"] == app
    assert child["pid"] == child["pidns"]["pid"]
    assert child["unseen"]["zombie_ns"] == "since before we looked"
