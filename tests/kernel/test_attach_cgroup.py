# SPDX-License-Identifier: Apache-2.0
"""Attach by cgroup and by container: what is in it, what is born in it, what comes into it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kernel.attaching import attached, life_of, lives_of, workload
from tests.kernel.running import one_line, zombiebpf
from zombiebpf.attach.cgroups import hierarchies

ID = "5" * 60 + "beef"

FORKS = """
import os, sys
print("ready")
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os._exit(4)
    os.waitpid(child, 0)
    print(child)
"""

# clone3(CLONE_INTO_CGROUP): a child that is born in a cgroup its forker is not in
INTO_CGROUP = """
import ctypes, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
words = (ctypes.c_uint64 * 11)(0x200000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, fd)
print("ready")
sys.stdin.readline()
pid = ctypes.CDLL(None, use_errno=True).syscall(435, words, 88)
if pid == 0:
    os._exit(6)
os.waitpid(pid, 0)
print(pid)
sys.stdin.read()
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A cgroup of the unified hierarchy with one below it."""
    unified = [each.root for each in hierarchies() if each.unified]
    assert unified, "kernel tests need a cgroup2 hierarchy: mount -t cgroup2 none /sys/fs/cgroup"
    place = unified[0] / f"zombiebpf-test-{os.getpid()}"
    below = place / f"docker-{ID}.scope"
    below.mkdir(parents=True)
    yield place
    for each in (below, place):
        for pid in (each / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (unified[0] / "cgroup.procs").write_text(pid)
        each.rmdir()


def enter(place: Path, pid: int) -> None:
    (place / "cgroup.procs").write_text(str(pid))


def test_a_cgroup_with_all_below(group: Path, tmp_path: Path) -> None:
    below = next(group.glob("docker-*"))
    with workload(FORKS) as inside, workload(FORKS) as deeper, workload(FORKS) as later:
        enter(group, inside.pid)
        enter(below, deeper.pid)
        with attached(tmp_path / "report", "--cgroup", f"/{group.name}") as observer:
            missed = int(later.tell())
            born = [int(inside.tell()), int(deeper.tell())]
            enter(below, later.pid)
            born.append(int(later.tell()))
            # a process that has left is followed nevertheless
            enter(group.parent, inside.pid)
            born.append(int(inside.tell()))
            for each in (inside, deeper, later):
                each.end()
            assert observer.process.poll() is None  # more may come into the cgroup
            document = observer.stop()
    expected = {inside.pid, deeper.pid, later.pid, *born}
    assert {each["pid"] for each in document["processes"]} == expected
    assert not lives_of(document, missed)
    assert life_of(document, deeper.pid)["cgroup"] == f"/{group.name}/{below.name}"
    assert life_of(document, inside.pid)["unseen"]["fork_ns"] == "since before we looked"
    came = life_of(document, later.pid)
    assert came["unseen"]["fork_ns"] == "it came from outside of what is observed"
    assert came["parent"]["pid"] == os.getpid()
    for pid in born:
        life = life_of(document, pid)
        assert life["exit_status"] == 4
        if life["forker"]["pid"] != later.pid:  # whose interpreter is known a moment after it came
            assert life["unseen"] == {}
        assert not life["unseen"].keys() - {"fork_stack", "reap_call.stack"}


def test_born_in_a_container(group: Path, tmp_path: Path) -> None:
    """By the beginning of its id; it ends with the container."""
    below = next(group.glob("docker-*"))
    with workload(FORKS) as init, workload(INTO_CGROUP, str(below)) as runtime:
        enter(below, init.pid)
        with attached(tmp_path / "report", "--container", ID[:61]) as observer:
            executed = int(runtime.tell())
            init.end()
            runtime.end()
            below.rmdir()
            document = observer.document()
            below.mkdir()
    assert {each["pid"] for each in document["processes"]} == {init.pid, executed}
    life = life_of(document, executed)
    assert (life["exit_status"], life["forker"]["pid"]) == (6, runtime.pid)
    assert life["cgroup"] == f"/{group.name}/{below.name}"


def test_two_containers_of_one_beginning(group: Path) -> None:
    second = group / f"libpod-{ID[:63]}0.scope"
    second.mkdir()
    try:
        result = zombiebpf("attach", "--container", ID[:12])
    finally:
        second.rmdir()
    assert result.returncode == 2
    assert f"'{ID[:12]}' are 2 containers" in one_line(result)


def test_an_empty_cgroup_waits_for_processes(group: Path, tmp_path: Path) -> None:
    with attached(tmp_path / "report", "--cgroup", str(group)) as observer:
        done = subprocess.run(
            ["sh", "-c", f"echo $$ >{group}/cgroup.procs; exec {sys.executable} -c pass"],
            check=True,
        )
        document = observer.stop()
    assert done.returncode == 0
    (life,) = document["processes"]
    assert life["argv"][1:] == ["-c", "pass"]
    assert life["state"] == "reaped"
