# SPDX-License-Identifier: Apache-2.0
"""Workers killed from outside while attached to: deaths and reapers as bpftrace reports them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.kernel.attaching import Attached, Workload, attached, program, workload
from tests.oracle.bpftrace import Death, Waited, Watch

APPS = Path(__file__).parent / "apps"
PYTHON = Path(__file__).parents[2] / "build" / "apps" / "bin" / "python"
CLOSE_NS = 5_000_000  # both stamp the same instant, each in a program of its own

# Replaces each worker that dies, like gunicorn's arbiter.
MASTER = """
import os, signal, sys
def spawn():
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        while True:
            signal.pause()
    return pid
workers = {spawn() for _ in range(4)}
print("ready")
print(*workers)
for line in sys.stdin:
    pid, status = os.waitpid(-1, 0)
    workers.remove(pid)
    workers.add(spawn())
    print(*workers)
for pid in workers:
    os.kill(pid, signal.SIGTERM)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""

# A Pool that is there before, one for each line, and a process that is killed: no
# worker is, for one that holds the queue's lock would hang its Pool for ever.
POOL = """
import multiprocessing, os, signal, sys
def task(number):
    return os.getpid()
def helper():
    while True:
        signal.pause()
if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    def start():
        process = fork.Process(target=helper)
        process.start()
        print(process.pid)
        return process
    print("ready")
    process = start()
    pool = fork.Pool(2)
    for line in sys.stdin:
        process.join()
        assert len(pool.map(task, range(8))) == 8
        with fork.Pool(2) as another:
            another.map(task, range(8))
        process = start()
    process.terminate()
    process.join()
    pool.terminate()
    pool.join()
"""

SHELL = """
import os
os.execv("/bin/sh", ["sh", "-c", '''
echo ready
sleep 1000 & echo $!
while read line; do
    /bin/true; (exit 3); (exec sh -c 'exit 4'); sleep 1000 & echo $!
done
kill $!; wait
'''])
"""


def compare(
    document: dict[str, Any],
    deaths: Sequence[Death],
    waited: Sequence[Waited],
    root: int,
    begun_ns: int,
) -> int:
    """Each death within the tree of `root` once, with its parent, status and reaper; how many."""
    reported = {each["pid"]: each for each in document["processes"] if each["exit_ns"] is not None}
    family: set[int] = {root}
    died: dict[int, Death] = {}
    for _ in range(3):  # none is deeper
        for death in deaths:
            if death.ns > begun_ns and (death.parent in family or death.pid in family):
                family.add(death.pid)
                died[death.pid] = death
    assert reported.keys() == died.keys()
    for pid, life in reported.items():
        death = died[pid]
        assert abs(life["exit_ns"] - death.ns) < CLOSE_NS
        status = (life["exit_status"] or 0) << 8 | (life["signal"] or 0)
        assert status == death.status & 0xFF7F
        assert life["reaper"]["pid"] == death.parent
        assert life["reaped_by"] == "parent"
        above = life["forker"] or life["parent"]
        assert above["pid"] == death.parent
        (wait,) = (each for each in waited if each.child == pid and each.ns > death.ns)
        assert (life["reaper"]["pid"], life["reaper"]["tid"]) == (wait.pid, wait.tid)
        assert life["reap_call"]["syscall"] == "wait4"
        assert death.ns - CLOSE_NS < life["reap_ns"] < wait.ns + CLOSE_NS
    return len(died)


def kill_some(app: Workload, observer: Attached) -> list[int]:
    """Three of what it names, one after the other."""
    del observer
    workers = app.readline().split()
    killed = []
    for _ in range(3):
        victim = int(workers[0])
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)
        workers = app.tell(str(victim)).split()
    return killed


@pytest.mark.parametrize(
    ("source", "least"), [(MASTER, 8), (POOL, 12), (SHELL, 14)], ids=["master", "pool", "shell"]
)
def test_as_bpftrace_tells_it(source: str, least: int, tmp_path: Path) -> None:
    with Watch(waits=True) as watch, workload(source) as app:
        with attached(tmp_path / "report", str(app.pid)) as observer:
            killed = kill_some(app, observer)
            app.end()
            document = observer.document()
        deaths = watch.stop()
    taken = document["processes"][0]
    assert taken["pid"] == app.pid
    assert compare(document, deaths, watch.waited, app.pid, observer.attached_ns) >= least
    assert document["meta"]["lost_events"] == 0
    lives = {each["pid"]: each for each in document["processes"]}
    assert {lives[pid]["signal"] for pid in killed} == {signal.SIGKILL}
    assert {each["state"] for each in document["processes"]} == {"reaped"}


def place(site: Optional[dict[str, Any]]) -> Optional[tuple[str, int]]:
    return None if site is None else (site["file"], site["line"])


@pytest.mark.parametrize(
    ("name", "kind", "ends"),
    [("gunicorn", "gunicorn arbiter", True), ("celery", "billiard", False)],
)
def test_servers(name: str, kind: str, ends: bool, tmp_path: Path) -> None:
    """Real ones. Celery does not end by itself when a worker was killed, observed or not."""
    script = APPS / "attached" / f"{name}_app.py"
    lines = enumerate(script.read_text().splitlines(), 1)
    where = next(
        ((str(script), line) for line, text in lines if text.endswith("# forks, reaps")), None
    )
    with Watch(waits=True) as watch, program(str(PYTHON), str(script), str(tmp_path)) as app:
        workers = [int(app.readline()), int(app.readline())]
        with attached(tmp_path / "report", str(app.pid)) as observer:
            killed = []
            for _ in range(3):
                killed.append(workers.pop(0))
                os.kill(killed[-1], signal.SIGKILL)
                workers.append(int(app.readline()))
            if ends:
                os.kill(app.pid, signal.SIGTERM)
                app.end()
                document = observer.document()
            else:
                document = observer.stop()
        deaths = watch.stop()
    count = compare(document, deaths, watch.waited, app.pid, observer.attached_ns)
    assert count >= (6 if ends else 3)
    assert document["meta"]["lost_events"] == 0
    lives = {each["pid"]: each for each in document["processes"]}
    for pid in (*killed, *workers):
        life = lives[pid]
        if life["forker"] is not None:  # else it existed before
            assert place(life["fork_site"]) == where
            assert life["fork_stack"] is not None
        if life["state"] == "reaped":
            call = life["reap_call"]
            assert life["reaper"]["pid"] == app.pid
            assert (call["kind"], place(call["site"])) == (kind, where)
    assert {lives[pid]["forker"]["pid"] for pid in workers if pid not in killed} == {app.pid}
    for pid in killed:
        assert (lives[pid]["signal"], lives[pid]["state"]) == (signal.SIGKILL, "reaped")
