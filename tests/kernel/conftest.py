# SPDX-License-Identifier: Apache-2.0
"""Running zombiebpf as its users do: the installed program, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

import pytest

PROGRAM = os.path.join(os.path.dirname(sys.executable), "zombiebpf")
TIMEOUT_S = 120 * float(os.environ.get("ZOMBIEBPF_PATIENCE", "1"))  # more where it is emulated
# FACT=NAME..., which the tests' observers are forced to use; as a rule they choose themselves
HOOKS = os.environ.get("ZOMBIEBPF_HOOKS", "").split()

# What a shell ignores for its background jobs would be ignored by all that the tests start.
for number, usual in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


class Observation(NamedTuple):
    document: dict[str, Any]
    stdout: str  # CMD's: the report went elsewhere
    stderr: str
    returncode: int


class Observing:
    """A `zombiebpf run` under way."""

    def __init__(self, command: Sequence[str], options: Sequence[str], report: Path) -> None:
        self._report = report
        start = [PROGRAM, "run", "-u", "root", "--format", "json", "--report", str(report)]
        start += [f"--hook={each}" for each in HOOKS]
        self._process = subprocess.Popen(
            [*start, *options, "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def readline(self) -> str:
        """The next line that CMD prints."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def finish(self) -> Observation:
        """Wait for its end."""
        try:
            stdout, stderr = self._process.communicate(timeout=TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()
        code = self._process.returncode
        try:
            document = json.loads(self._report.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError) as error:
            pytest.fail(f"zombiebpf ended with {code} and no report ({error}):\n{stderr}{stdout}")
        return Observation(document, stdout, stderr, code)


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
