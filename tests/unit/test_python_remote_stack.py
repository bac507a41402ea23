# SPDX-License-Identifier: Apache-2.0
"""The stack of a sleeping main thread, read from outside: of each Python that is installed."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Optional

import pytest

from tests.unit.installed_pythons import Installed, readable
from zombiebpf.model.stack import Stack
from zombiebpf.python.interpreter import Interpreter, find_interpreter
from zombiebpf.python.remote_stack import stack_of_main_thread

TIMEOUT_S = 30.0
SLEEPER = """import sys, threading
def outer(number):
    for each in range(number):
        inner(each)
def inner(number):
    sys.stdin.buffer.raw.read(1)
threading.Thread(target=threading.Event().wait, daemon=True).start()
outer(1)
"""
ASLEEP = [("inner", 6), ("outer", 4), ("<module>", 8)]


def _own_ticks(pid: int) -> int:
    """CPU time in user mode, in clock ticks (fs/proc/array.c, field 14)."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return int(file.read().rpartition(")")[2].split()[11])


def looked_at(pid: int) -> Optional[Stack]:
    found = find_interpreter(pid)
    return stack_of_main_thread(pid, found) if isinstance(found, Interpreter) else None


@pytest.mark.parametrize("python", readable(), ids=lambda each: each.label)
def test_where_it_sleeps(python: Installed) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    with subprocess.Popen(
        [python.program, "-c", SLEEPER], stdin=subprocess.PIPE, env=environ
    ) as sleeper:
        deadline = time.monotonic() + TIMEOUT_S
        seen: list[tuple[str, Optional[int]]] = []
        while seen != ASLEEP and time.monotonic() < deadline:
            time.sleep(0.01)
            stack = looked_at(sleeper.pid)
            frames = () if stack is None else stack.frames
            seen = [(frame.function, frame.line) for frame in frames]
        sleeper.kill()
    assert seen == ASLEEP


def test_one_that_runs_is_not_told_of() -> None:
    with subprocess.Popen([readable()[0].program, "-c", "while True: pass"]) as runner:
        deadline = time.monotonic() + TIMEOUT_S
        # while it is starting it may sleep; from then on never
        while _own_ticks(runner.pid) < 50 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert _own_ticks(runner.pid) >= 50
        looks = [looked_at(runner.pid) for _ in range(20)]
        runner.kill()
    assert looks == [None] * 20


def test_one_that_is_gone() -> None:
    with subprocess.Popen([readable()[0].program, "-c", SLEEPER], stdin=subprocess.PIPE) as sleeper:
        deadline = time.monotonic() + TIMEOUT_S
        found = find_interpreter(sleeper.pid)
        while not isinstance(found, Interpreter) and time.monotonic() < deadline:
            time.sleep(0.01)
            found = find_interpreter(sleeper.pid)
        assert isinstance(found, Interpreter)
        sleeper.kill()
    assert stack_of_main_thread(sleeper.pid, found) is None
