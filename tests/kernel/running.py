# SPDX-License-Identifier: Apache-2.0
"""zombiebpf as its users start it: from a shell, at a terminal, in a mount namespace."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shlex
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, NamedTuple

import pytest

PROGRAM = os.path.join(os.path.dirname(sys.executable), "zombiebpf")
TIMEOUT_S = 120.0 * float(os.environ.get("ZOMBIEBPF_PATIENCE", "1"))  # more where it is emulated
# FACT=NAME..., which the tests' observers must use; by default they choose themselves
HOOKS = os.environ.get("ZOMBIEBPF_HOOKS", "").split()
QUIET = ("run", "--report", os.devnull, "--linger", "0")
Result = subprocess.CompletedProcess[bytes]


def zombiebpf(*arguments: str, **settings: Any) -> Result:
    """Run it to its end; `settings` as of subprocess.run()."""
    return plain(PROGRAM, *arguments, **settings)


def plain(*command: str, **settings: Any) -> Result:
    """The same without it."""
    if "input" not in settings:
        settings.setdefault("stdin", subprocess.DEVNULL)
    settings.setdefault("stdout", subprocess.PIPE)
    settings.setdefault("stderr", subprocess.PIPE)
    return subprocess.run(command, timeout=TIMEOUT_S, **settings)


@contextmanager
def started(*arguments: str, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A zombiebpf under way; it is killed if it still is at the end."""
    settings.setdefault("stdin", subprocess.DEVNULL)
    settings.setdefault("stdout", subprocess.PIPE)
    settings.setdefault("stderr", subprocess.PIPE)
    with subprocess.Popen([PROGRAM, *arguments], **settings) as process:
        try:
            yield process
        finally:
            process.kill()


def in_own_mounts(script: str, *arguments: str, **settings: Any) -> Result:
    """zombiebpf after the shell `script` has changed what is mounted, for it alone."""
    prepare = f'set -e; {script}; exec "$@"'
    return plain("unshare", "-m", "sh", "-c", prepare, "sh", PROGRAM, *arguments, **settings)


def refused(bpf_command: str, error: str, *arguments: str) -> Result:
    """zombiebpf where the kernel refuses a command of bpf(2)."""
    refuse = str(Path(__file__).with_name("refuse_bpf.py"))
    return plain(sys.executable, refuse, bpf_command, error, PROGRAM, *arguments)


def suite(name: str, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run `python -m tests.NAME` to its end; stdout has stderr, too."""
    return subprocess.run(
        [sys.executable, "-m", f"tests.{name}", *arguments],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def one_line(result: Result) -> str:
    """What stderr says: one line, or this fails."""
    text = result.stderr.decode()
    assert text.startswith("zombiebpf: "), text
    assert text.count("\n") == 1, text
    assert text.endswith("\n"), text
    assert "Traceback" not in text
    return text


def refusal(result: Result, code: int, *parts: str) -> None:
    """One line with these parts, this exit code, and nothing on stdout."""
    line = one_line(result)
    assert [part for part in parts if part not in line] == [], line
    assert result.returncode == code
    assert result.stdout == b""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {TIMEOUT_S:g} s: {what}"
        time.sleep(0.005)


class Observation(NamedTuple):
    """What `zombiebpf run` reported and printed."""

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
        """Return the next line that CMD prints."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def finish(self) -> Observation:
        """Wait until it exits."""
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


class Terminal:
    """An interactive bash with job control, on a terminal of its own."""

    def __init__(self, **environ: str) -> None:
        self._master, slave = pty.openpty()
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "dumb", "HISTFILE": "", **environ},
        )
        os.close(slave)
        self._read = b""
        # no echo and no prompts: what can be read then is what programs have written
        self.type("stty -echo; PS1=; PS2=; set +o history; echo begin''ning\n")
        self.expect("beginning")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, text: str) -> str:
        """Read until `text` has come; what has come up to its end."""
        deadline = time.monotonic() + TIMEOUT_S
        while text.encode() not in self._read:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._master], [], [], left)
            assert ready, f"{text!r} has not come, only {self._read.decode()!r}"
            self._read += os.read(self._master, 65536)
        before, _, self._read = self._read.partition(text.encode())
        return (before + text.encode()).decode()

    def run(self, command: Sequence[str], *options: str) -> None:
        """Observe a command, in the foreground."""
        self.type(shlex.join([PROGRAM, "run", *options, "--", *command]) + "\n")

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up: whatever still runs in it gets SIGHUP."""
        os.close(self._master)
        self._bash.wait(TIMEOUT_S)
