# SPDX-License-Identifier: Apache-2.0
"""Starting a command: which program, as whom, and what is said when it does not start."""

from __future__ import annotations

import os
import pwd
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from zombiebpf.command import start, user
from zombiebpf.command.inherited import InheritedState
from zombiebpf.errors import CommandError, UsageError

Program = Callable[..., Path]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    def make(name: str, text: str = "#!/bin/sh\nexit 7\n", mode: int = 0o755) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    return make


@pytest.fixture
def inherited() -> Iterator[InheritedState]:
    taken = InheritedState.capture()
    yield taken
    os.close(taken.directory)


def code_of(argv: list[str], environ: dict[str, str], inherited: InheritedState) -> int:
    _, status = os.waitpid(start.start(argv, None, environ, inherited), 0)
    return start.exit_code_of(status)


def test_the_first_in_path_that_can_be_run(program: Program, inherited: InheritedState) -> None:
    program("a/tool", mode=0o644)
    program("b/tool", "#!/bin/sh\nexit 8\n")
    directory = program("c/tool").parent.parent
    environ = {"PATH": f"{directory}/none:{directory}/a:{directory}/b:{directory}/c"}
    start.require_program("tool", environ)
    assert code_of(["tool"], environ, inherited) == 8


def test_an_empty_piece_of_path_is_the_current_directory(
    program: Program, inherited: InheritedState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(program("tool").parent)
    for path in ("", ":/bin", "/bin:"):
        start.require_program("tool", {"PATH": path})
    here = inherited._replace(directory=os.open(".", os.O_PATH))
    assert code_of(["tool"], {"PATH": ":/bin"}, here) == 7
    os.close(here.directory)


def test_a_script_without_interpreter_line_is_the_shells(
    program: Program, inherited: InheritedState
) -> None:
    script = program("script", 'exit "$1"\n')
    assert code_of([str(script), "9"], {}, inherited) == 9


@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        ("no-such-tool", "no-such-tool: command not found", 127),
        ("{}/none", "none: command not found", 127),
        ("", ": command not found", 127),
        ("{}", ": is a directory", 126),
        ("{}/plain", "plain: is not executable", 126),
        ("plain", "plain: is not executable", 126),
    ],
)
def test_what_cannot_be_run(name: str, words: str, code: int, program: Program) -> None:
    directory = program("plain", mode=0o644).parent
    with pytest.raises(CommandError, match=words) as caught:
        start.require_program(name.format(directory), {"PATH": str(directory)})
    assert caught.value.exit_code == code


def test_what_only_the_exec_finds_out(program: Program, inherited: InheritedState) -> None:
    script = program("script", "#!/no/such/interpreter\n")
    with pytest.raises(CommandError, match="the interpreter it names was not found") as caught:
        start.start([str(script)], None, {}, inherited)
    assert caught.value.exit_code == 127
    with pytest.raises(CommandError, match="Argument list too long") as caught:
        start.start(["/bin/true", "x" * 200_000], None, {}, inherited)
    assert caught.value.exit_code == 126
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_exit_codes() -> None:
    assert [start.exit_code_of(status) for status in (0, 3 << 8, 255 << 8, 9, 0x80 | 11)] == [
        *(0, 3, 255),
        *(137, 139),
    ]


def test_what_was_changed_is_given_on_as_it_was(inherited: InheritedState) -> None:
    """In a process of its own: it changes its signals, limits and directory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if not soft:
        pytest.fail("RLIMIT_MEMLOCK is 0 here, and cannot be lowered")
    lower = soft - 1 if soft != resource.RLIM_INFINITY else 1 << 20
    script = f"""
import os, resource, signal
from zombiebpf.command import start
from zombiebpf.command.inherited import InheritedState
taken = InheritedState.capture()
os.environ["CHANGED"] = "1"
resource.setrlimit(resource.RLIMIT_MEMLOCK, ({lower}, {hard}))
signal.signal(signal.SIGUSR1, signal.SIG_DFL)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGHUP])
forgotten = os.open("/dev/null", os.O_RDONLY)
os.set_inheritable(forgotten, True)
os.chdir("/")
show = '''for f in /proc/$$/fd/*; do echo ${{f##*/}}; done; pwd; ulimit -l
    grep -E "Sig(Blk|Ign)" /proc/self/status; env'''
os.waitpid(start.start(["/bin/bash", "-c", show], None, taken.environ, taken), 0)
"""
    environ = {"A": "1", "PYTHONPATH": os.pathsep.join(sys.path)}

    def prepare() -> None:
        for number in signal.SIGINT, signal.SIGQUIT, signal.SIGHUP:
            signal.signal(number, signal.SIG_DFL)  # a shell's background ignores some
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [40])

    printed = subprocess.run(
        [sys.executable, "-c", script],
        cwd="/usr",
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=prepare,
    ).stdout.split("\n")
    kilobytes = "unlimited" if soft == resource.RLIM_INFINITY else str(soft // 1024)
    assert printed[:3] == ["0", "1", "2"]
    assert printed[printed.index("/usr") + 1] == kilobytes
    assert f"SigBlk:\t{1 << 39:016x}" in printed
    (ignored,) = [int(line.split()[1], 16) for line in printed if line.startswith("SigIgn:")]
    # 32 and 33 are the C library's own, and GNU make hands them on ignored
    assert ignored & ~(0b11 << 31) == 1 << signal.SIGUSR1 - 1
    assert "A=1" in printed
    assert not any(line.startswith(("CHANGED=", "LC_CTYPE=")) for line in printed)


# whom


ME = pwd.getpwuid(os.getuid())
OTHER = next(entry for entry in pwd.getpwall() if entry.pw_uid not in (0, os.getuid()))


def test_nobody_else_is_nobody_to_become() -> None:
    assert user.choose_user(None, {}) is None
    assert user.choose_user(ME.pw_name, {"SUDO_UID": str(OTHER.pw_uid)}) is None
    assert user.choose_user(str(ME.pw_uid), {}) is None


def test_user_by_name_and_number() -> None:
    expected = user.User(OTHER.pw_name, OTHER.pw_uid, OTHER.pw_gid, OTHER.pw_dir, OTHER.pw_shell)
    assert user.choose_user(OTHER.pw_name, {}) == expected
    assert user.choose_user(str(OTHER.pw_uid), {}) == expected


@pytest.mark.parametrize("name", ["no-such-user", "", "4294967294", "9" * 30, "²", "-1", "a\0b"])
def test_no_such_user(name: str) -> None:
    with pytest.raises(UsageError, match="no user"):
        user.choose_user(name, {})


def test_caller_of_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    chosen = user.choose_user(None, {"SUDO_UID": str(OTHER.pw_uid), "SUDO_GID": "4321"})
    assert chosen is not None
    assert (chosen.name, chosen.uid, chosen.gid) == (OTHER.pw_name, OTHER.pw_uid, 4321)
    assert user.choose_user(None, {"SUDO_UID": "0"}) is None
    assert user.choose_user(None, {"SUDO_UID": "nonsense"}) is None


def test_groups() -> None:
    me = user.User(ME.pw_name, ME.pw_uid, ME.pw_gid, ME.pw_dir, ME.pw_shell)
    groups = user.groups_of(me)
    assert set(groups) == set(os.getgrouplist(ME.pw_name, ME.pw_gid))
    assert user.groups_of(me._replace(gid=54321)) == [54321, *groups]


def test_environment_of_a_user() -> None:
    sudo = {"SUDO_UID": "1", "SUDO_USER": "x", "SUDO_GID": "1", "SUDO_COMMAND": "y"}
    root = {"PATH": "/bin", "HOME": "/root", "USER": "root", "LOGNAME": "root", "MAIL": "m"}
    whom = user.User("ann", 1000, 1000, "/home/ann", "/bin/zsh")
    assert user.environment_of(whom, {**root, **sudo}) == {
        "PATH": "/bin",
        "HOME": "/home/ann",
        "USER": "ann",
        "LOGNAME": "ann",
        "SHELL": "/bin/zsh",
        "MAIL": "/var/mail/ann",
    }
    assert user.environment_of(None, {**root, **sudo}) == {**root, **sudo}
