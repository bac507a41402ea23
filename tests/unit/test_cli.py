# SPDX-License-Identifier: Apache-2.0
"""The command line: one line for each mistake, help with examples, and no traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import zombiebpf
from zombiebpf import cli
from zombiebpf.cli.console import print_lines
from zombiebpf.cli.values import parse_hooks, seconds
from zombiebpf.errors import Interrupted, PrivilegeError, UsageError, ZombiebpfError


def called(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """As a program: `python -m zombiebpf`."""
    return subprocess.run(
        [sys.executable, "-m", "zombiebpf", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        **settings,
    )


def test_version() -> None:
    done = called("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"zombiebpf, version {zombiebpf.__version__}\n"


@pytest.mark.parametrize("arguments", [["-h"], ["run", "--help"], ["doctor", "-h"]])
def test_help_has_examples_and_exit_codes(arguments: list[str]) -> None:
    done = called(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n  Examples:\n    sudo zombiebpf " in done.stdout
    assert "77" in done.stdout


def test_help_names_each_command_in_its_own_words() -> None:
    context = click.Context(cli.cli)
    shown = " ".join(called("--help", env={**os.environ, "COLUMNS": "100"}).stdout.split())
    for name, line in cli.COMMANDS.items():
        command = cli.cli.get_command(context, name)
        assert command is not None
        first, *_ = (command.help or "").split("\n\n")
        assert " ".join(first.split()).startswith(line), name
        assert line.endswith("."), name
        assert f"{name} {line}" in shown
    modules = {file.stem for file in Path(cli.__file__).parent.glob("*.py")}
    assert set(cli.COMMANDS) <= modules
    assert list(cli.COMMANDS) == sorted(cli.COMMANDS)


@pytest.mark.parametrize("command", ["run", "attach"])
def test_a_start_imports_nothing_that_it_rarely_needs(command: str) -> None:
    """With built-in rules, compiled probes and known interpreters: each takes 1 to 40 ms."""
    program = (
        f"import sys; import zombiebpf.cli.{command}\n"
        "from zombiebpf.observe.rule_files import load_rules; load_rules()\n"
        "print(*{'yaml', 'elftools', 'bcc', 'jinja2', 'rich', 'subprocess'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("\n", "")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_what_needs_no_command_imports_none(arguments: list[str]) -> None:
    program = (
        "import sys; from zombiebpf.cli import cli\n"
        f"cli.main({arguments}, standalone_mode=False)\n"
        "print(sorted(each for each in sys.modules if each.startswith('zombiebpf.')))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    modules = printed.stdout.splitlines()[-1]
    for each in ("kernel", "reports", "scenario", "trace", "python", "cli.run"):
        assert f"zombiebpf.{each}" not in modules, each


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run"], "zombiebpf: Missing argument 'CMD...'; see `zombiebpf run --help`\n"),
        (["never"], "zombiebpf: No such command 'never'; see `zombiebpf --help`\n"),
        (
            ["run", "--linger", "x", "true"],
            "zombiebpf: Invalid value for '--linger': 'x' is not a number of seconds, 0 or more; "
            "see `zombiebpf run --help`\n",
        ),
        (
            ["run", "-u", "no-such-user", "true"],
            "zombiebpf: no user 'no-such-user' on this machine; -u takes a name or a uid of "
            "`getent passwd`\n",
        ),
        (
            ["run", "--hook", "reap", "true"],
            "zombiebpf: --hook 'reap': expected FACT=NAME; `zombiebpf doctor` lists them\n",
        ),
    ],
)
def test_usage_errors(arguments: list[str], line: str) -> None:
    done = called(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ZombiebpfError("it failed", "mend it"), 70, "zombiebpf: it failed; mend it\n"),
        (ZombiebpfError("two\nlines"), 70, "zombiebpf: two lines\n"),
        (PrivilegeError("no"), 77, "zombiebpf: no\n"),
        (click.FileError("f", "hint"), 1, "zombiebpf: Could not open file 'f': hint\n"),
        (
            KeyError("x"),
            70,
            "zombiebpf: internal error: KeyError: 'x'; set ZOMBIEBPF_TRACEBACK=1 to see where, "
            "and please report it\n",
        ),
        (OSError(errno.EIO, "broken"), 70, "zombiebpf: internal error: OSError: "),
        (Interrupted(signal.SIGTERM), 143, ""),
    ],
)
def test_whatever_is_raised_is_one_line(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.cli, "main", fail)
    monkeypatch.setattr(cli, "_set_signals", lambda _: None)
    monkeypatch.delenv("ZOMBIEBPF_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    said = capsys.readouterr()
    assert caught.value.code == code
    assert said.out == ""
    assert said.err.startswith(line)
    assert said.err.count("\n") == (1 if line else 0)


def test_traceback_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(cli.cli, "main", fail)
    monkeypatch.setattr(cli, "_set_signals", lambda _: None)
    monkeypatch.setenv("ZOMBIEBPF_TRACEBACK", "1")
    with pytest.raises(KeyError):
        cli.main()


@pytest.mark.parametrize("streams", [[0], [1], [2], [0, 1, 2]])
def test_closed_streams(streams: list[int]) -> None:
    def close() -> None:
        for number in streams:
            os.close(number)

    done = called("run", "--linger", "x", "true", preexec_fn=close)
    assert done.returncode == 2
    assert done.stdout == ""
    assert ("Invalid value" in done.stderr) == (2 not in streams)


def test_hooks() -> None:
    assert parse_hooks(["reap=sched_process_free", "zombie=x"]) == {
        "reap": "sched_process_free",
        "zombie": "x",
    }
    for wrong in ("", "reap", "reap=", "=x"):
        with pytest.raises(UsageError):
            parse_hooks([wrong])


def test_seconds() -> None:
    assert [seconds(text) for text in ("0", "1.5", "1e3", "inf")] == [0, 1.5, 1000, float("inf")]
    for wrong in ("", "-1", "nan", "-inf", "1s"):
        with pytest.raises(click.BadParameter):
            seconds(wrong)


def test_printing_to_nobody_is_no_failure() -> None:
    script = "from zombiebpf.cli.console import print_lines; print_lines(['x'] * 100000)"
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" | head -n 1; echo "${PIPESTATUS[0]}"', sys.executable, script],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("x\n0\n", "")


def test_printing_without_room() -> None:
    script = "from zombiebpf.cli.console import print_lines; print_lines(['x'])"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert "ZombiebpfError: standard output: No space left on device" in done.stderr
    print_lines([])
