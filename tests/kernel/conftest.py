# SPDX-License-Identifier: Apache-2.0
"""Fixtures that run zombiebpf as its users do: the installed program, as a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.kernel.running import PROGRAM, Observation, Observing
from tests.oracle import ftrace

sys.path.insert(0, str(Path(__file__).with_name("zoo")))  # harness, as the cases import it

# What a shell ignores for its background jobs would be ignored by all that the tests start.
for number, usual in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


@pytest.fixture(scope="session", autouse=True)
def tracefs() -> None:
    """What the oracle and bpftrace read, and `doctor` looks for."""
    if os.geteuid() == 0:
        ftrace.mount_tracefs()


@pytest.fixture(scope="session")
def start_observing(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Observing]:
    """`start_observing(*command, options=()) -> Observing`."""
    if os.geteuid() != 0:
        pytest.fail("kernel tests need root: try `sudo make test-kernel`")
    if not os.path.exists(PROGRAM):
        pytest.fail(f"{PROGRAM} is missing: try `make setup`")

    def start(*command: str, options: Sequence[str] = ()) -> Observing:
        report = tmp_path_factory.mktemp("report") / "report.json"
        return Observing(command, options, report)

    return start


@pytest.fixture(scope="session")
def observation(start_observing: Callable[..., Observing]) -> Callable[..., Observation]:
    """`observation(*command, options=()) -> Observation`, once all has ended."""
    return lambda *command, options=(): start_observing(*command, options=options).finish()


@pytest.fixture(scope="session")
def observe(observation: Callable[..., Observation]) -> Callable[..., dict[str, Any]]:
    """`observe(*command, options=()) -> document`: the JSON report of `zombiebpf run`."""
    return lambda *command, options=(): observation(*command, options=options).document
