# SPDX-License-Identifier: Apache-2.0
"""A command that is waited for whatever fails beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import pytest

from zombiebpf.errors import CommandError
from zombiebpf.events import Event
from zombiebpf.inheritance import Inheritance
from zombiebpf.kernel.pythons import Pythons
from zombiebpf.observe import CommandRun
from zombiebpf.python.stacks import Stacks
from zombiebpf.sentinel import Sentinel


class BrokenObserver:
    """Reads for a while, then no more."""

    def __init__(self, reads: int) -> None:
        self.reads = reads
        self.hooks: dict[str, str] = {}
        self.precision: dict[str, str] = {}
        self.stacks = Stacks()
        self.pythons = Pythons(None)
        self.expected: list[tuple[list[str], Optional[str]]] = []

    def expect_pythons(self, path: Sequence[str], program: Optional[str]) -> None:
        self.expected.append((list(path), program))

    @contextmanager
    def following_forks(self) -> Iterator[None]:
        yield

    def read(self) -> list[Event]:
        self.reads -= 1
        if self.reads < 0:
            raise ValueError("the ring is torn")
        return []

    def lost(self) -> dict[str, int]:
        return {}


@pytest.fixture
def inherited() -> Iterator[Inheritance]:
    """Of this test: its streams are not released, its mask is put back."""
    taken = Inheritance.take()
    yield taken._replace(descriptors=())
    signal.pthread_sigmask(signal.SIG_SETMASK, taken.mask)
    os.close(taken.directory)


def test_the_command_is_waited_for_when_observing_fails(
    inherited: Inheritance, tmp_path: Path
) -> None:
    running = CommandRun(BrokenObserver(1), inherited)  # type: ignore[arg-type]
    done = tmp_path / "done"
    argv = ["/bin/sh", "-c", f"sleep 0.1; touch {done}; exit 3"]
    with pytest.raises(ValueError, match="the ring is torn"):
        running.run(argv, None, {"PATH": "/bin:/usr/bin"}, linger_s=60)
    assert done.exists()
    assert running.exit_code == 3


def test_the_command_is_reaped_and_nothing_else_is_left(inherited: Inheritance) -> None:
    running = CommandRun(BrokenObserver(1 << 30), inherited)  # type: ignore[arg-type]
    analysis = running.run(["/bin/sh", "-c", "kill -KILL $$"], None, {}, linger_s=60)
    assert running.exit_code == 137
    assert list(analysis.lives) == []
    with pytest.raises(CommandError):
        running.run(["/no/such/program"], None, {}, linger_s=60)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_interpreters_are_expected_where_the_command_looks(inherited: Inheritance) -> None:
    observer = BrokenObserver(1 << 30)
    running = CommandRun(observer, inherited)  # type: ignore[arg-type]
    running.run(["sh", "-c", "exit 3"], None, {"PATH": "/none:/bin"}, linger_s=60)
    assert running.exit_code == 3
    assert observer.expected == [(["/none", "/bin"], "/bin/sh")]


GROUP = """
import os, signal, sys
from zombiebpf.sentinel import Sentinel
numbers = {signal.SIGTERM, signal.SIGCONT, signal.SIGTSTP, 40}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
sentinel = Sentinel()
for number in sorted(numbers) * 2:
    os.kill(os.getpid(), number)
    signal.sigwait({number})
    alone = sentinel.has_seen(number)
    os.killpg(0, number)
    signal.sigwait({number})
    print(int(number), alone, sentinel.has_seen(number))
sentinel.stop()
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("nothing left")
"""


def test_sentinel_tells_the_group_from_one_alone() -> None:
    told = subprocess.run(
        [sys.executable, "-c", GROUP],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        start_new_session=True,
        timeout=60,
    ).stdout
    numbers = sorted([signal.SIGTERM, signal.SIGCONT, signal.SIGTSTP, 40])
    assert told == "".join(f"{int(n)} False True\n" for n in numbers * 2) + "nothing left\n"


def test_sentinel_ends_when_its_parent_does() -> None:
    script = (
        "import os, signal; from zombiebpf.sentinel import Sentinel; s = Sentinel()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    reading, writing = os.pipe()
    killed = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        pass_fds=[writing],
        timeout=60,
    )
    os.close(writing)
    assert killed.returncode == -signal.SIGKILL
    assert os.read(reading, 1) == b""  # it holds nothing open
    os.close(reading)


def test_sentinel_that_was_killed() -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    sentinel = Sentinel()
    pid = sentinel._pid
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[0] == pid
    sentinel.note_reaped(pid)
    assert sentinel.has_seen(signal.SIGTERM) is False
    sentinel.stop()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
