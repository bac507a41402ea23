# SPDX-License-Identifier: Apache-2.0
"""A command that is waited for whatever fails beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Optional, cast

import pytest

from tests.unit.encoded_records import records
from tests.unit.event_builders import plain
from tests.unit.own_process import in_own_process
from zombiebpf.bpf.loaded import Probes
from zombiebpf.command.group_signals import GroupSignalDetector
from zombiebpf.command.inherited import InheritedState
from zombiebpf.command.supervision import Supervision
from zombiebpf.errors import CommandError
from zombiebpf.kernel.interpreters import InterpreterRegistry
from zombiebpf.kernel.observer import Observer
from zombiebpf.model.wire import Records
from zombiebpf.observe.command_run import CommandRun
from zombiebpf.observe.rule_files import load_rules
from zombiebpf.python.stacks import Stacks


class BrokenObserver:
    """Reads for a while, then no more."""

    def __init__(self, reads: int) -> None:
        self.reads = reads
        self.expects_interpreters = False
        self.hooks: dict[str, str] = {}
        self.precision: dict[str, str] = {}
        self.stacks = Stacks()
        self.interpreters = InterpreterRegistry(cast(Probes, {}))
        self.expected: list[tuple[list[str], Optional[str]]] = []

    def expect_interpreters(self, path: Sequence[str], program: Optional[str]) -> None:
        self.expected.append((list(path), program))

    @contextmanager
    def following_forks(self) -> Iterator[None]:
        yield

    def read(self) -> Records:
        self.reads -= 1
        if self.reads < 0:
            raise ValueError("the ring is torn")
        return Records()

    def lost(self) -> dict[str, int]:
        return {}


@pytest.fixture
def inherited() -> Iterator[InheritedState]:
    """Of this test: its streams are not released, its mask is put back."""
    taken = InheritedState.capture()
    yield taken._replace(descriptors=())
    signal.pthread_sigmask(signal.SIG_SETMASK, taken.mask)
    os.close(taken.directory)


def command_run(observer: BrokenObserver, inherited: InheritedState) -> CommandRun:
    return CommandRun(cast(Observer, observer), inherited, load_rules())


@in_own_process
def test_the_command_is_waited_for_when_observing_fails(
    inherited: InheritedState, tmp_path: Path
) -> None:
    running = command_run(BrokenObserver(1), inherited)
    done = tmp_path / "done"
    argv = ["/bin/sh", "-c", f"sleep 0.1; touch {done}; exit 3"]
    with pytest.raises(ValueError, match="the ring is torn"):
        running.run(argv, None, {"PATH": "/bin:/usr/bin"}, linger_s=60)
    assert done.exists()
    assert running.exit_code == 3


@in_own_process
def test_the_command_is_reaped_and_nothing_else_is_left(inherited: InheritedState) -> None:
    running = command_run(BrokenObserver(1 << 30), inherited)
    running.run(["/bin/sh", "-c", "kill -KILL $$"], None, {}, linger_s=60)
    assert running.exit_code == 137
    with running.open() as trace:
        assert trace.count == 0
    with pytest.raises(CommandError):
        running.run(["/no/such/program"], None, {}, linger_s=60)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@in_own_process
def test_the_interpreters_are_expected_where_the_command_looks(inherited: InheritedState) -> None:
    observer = BrokenObserver(1 << 30)
    running = command_run(observer, inherited)
    running.run(["sh", "-c", "exit 3"], None, {"PATH": "/none:/bin"}, linger_s=60)
    assert running.exit_code == 3
    assert observer.expected == [(["/none", "/bin"], "/bin/sh")]


class BusyObserver(BrokenObserver):
    """Each read returns one whole life."""

    def read(self) -> Records:
        self.reads += 1
        return records(plain(time.monotonic_ns(), 100_000 + self.reads))


@in_own_process
def test_nothing_is_waited_for_once_all_are_reaped(inherited: InheritedState) -> None:
    """Not even after a read that returned something: `run true` would be late by that."""
    running = command_run(BusyObserver(0), inherited)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Supervision, "end_requested", lambda *_: pytest.fail("it waited"))
        running.run(["/bin/sh", "-c", "exit 3"], None, {}, linger_s=60)
    assert running.exit_code == 3
    with running.open() as trace:
        assert trace.count


GROUP = """
import os, signal, sys
from zombiebpf.command.group_signals import GroupSignalDetector
numbers = {signal.SIGTERM, signal.SIGCONT, signal.SIGTSTP, 40}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
detector = GroupSignalDetector()
for number in sorted(numbers) * 2:
    os.kill(os.getpid(), number)
    signal.sigwait({number})
    alone = detector.was_sent_to_group(number)
    os.killpg(0, number)
    signal.sigwait({number})
    print(int(number), alone, detector.was_sent_to_group(number))
detector.stop()
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("nothing left")
"""


def test_detector_tells_the_group_from_one_alone() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", GROUP],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        start_new_session=True,
        timeout=60,
    ).stdout
    numbers = sorted([signal.SIGTERM, signal.SIGCONT, signal.SIGTSTP, 40])
    assert printed == "".join(f"{int(n)} False True\n" for n in numbers * 2) + "nothing left\n"


def test_detector_ends_when_its_parent_does() -> None:
    script = (
        "import os, signal\n"
        "from zombiebpf.command.group_signals import GroupSignalDetector\n"
        "detector = GroupSignalDetector()\n"
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


def test_detector_that_was_killed() -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    detector = GroupSignalDetector()
    pid = detector._pid
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[0] == pid
    detector.child_was_reaped(pid)
    assert detector.was_sent_to_group(signal.SIGTERM) is False
    detector.stop()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
