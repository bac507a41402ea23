# SPDX-License-Identifier: Apache-2.0
"""`zombiebpf run`: signals and the terminal are the command's; what it leaves is followed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.attaching import state_of
from tests.kernel.running import QUIET, Terminal, started, wait_until, zombiebpf

# Says which signals come, to the first SIGUSR1. It blocks them, so that none is missed.
PATIENT = """
import os, signal, sys
names = "INT TERM HUP QUIT USR1 WINCH CONT".split()
numbers = {getattr(signal, "SIG" + name): name for name in names}
numbers[signal.SIGRTMIN + 3] = "RT"
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
signal.alarm(200)  # never for ever
print("ready", os.getpid(), os.getppid(), flush=True)
name = ""
while name != "USR1":
    name = numbers[signal.sigwait(numbers)]
    print("got", name, flush=True)
sys.exit(7)
"""
patient = (sys.executable, "-c", PATIENT)


def ready(observing: subprocess.Popen[bytes]) -> int:
    """Wait for PATIENT; its PID."""
    assert observing.stdout is not None
    word, pid, parent = observing.stdout.readline().split()
    assert (word, int(parent)) == (b"ready", observing.pid)
    return int(pid)


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "WINCH", "CONT", "RT"])
def test_a_signal_sent_to_us_is_the_commands(name: str) -> None:
    number = signal.SIGRTMIN + 3 if name == "RT" else getattr(signal, "SIG" + name)
    with started("run", *patient) as observing:
        ready(observing)
        assert observing.stdout is not None
        observing.send_signal(number)
        assert observing.stdout.readline().split()[0] == b"got"
        observing.send_signal(signal.SIGUSR1)
        out, report = observing.communicate(timeout=60)
    assert out == b"got USR1\n"  # and the other only once
    assert observing.returncode == 7
    assert b"lost records: 0" in report


def test_a_signal_that_kills_the_command() -> None:
    with started("run", "sleep", "1000") as observing:
        wait_until(lambda: children(observing.pid, "sleep") != [], "sleep runs")
        observing.terminate()
        _, report = observing.communicate(timeout=60)
    assert observing.returncode == 143
    assert b"SIGTERM" in report


def children(pid: int, name: str) -> list[int]:
    """The children of an own process that run a program of this name."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            comm = Path(f"/proc/{child}/comm").read_text()
        except OSError:
            continue
        if comm == name + "\n":
            found.append(int(child))
    return found


@pytest.mark.parametrize("sender", ["kill -TERM 0", "sh -c 'kill -TERM 0; :'", "kill -TERM $PPID"])
def test_a_signal_of_the_commands_own_is_not_passed_on(sender: str) -> None:
    count = 'n=0; trap "n=\\$((n+1))" TERM; ' + f"{sender}; "
    script = count + "sh -c 'trap : TERM; sleep 0.2'; exit $n"
    expected = 0 if "PPID" in sender else 1
    done = zombiebpf(*QUIET, "sh", "-c", script, start_new_session=True)
    assert done.returncode == expected


def test_an_alarm_set_before_is_the_commands() -> None:
    done = zombiebpf(*QUIET, "sleep", "1000", preexec_fn=lambda: signal.alarm(8))
    assert done.returncode in (142, -signal.SIGALRM)  # the latter: on a very slow machine


def compilers(pid: int) -> list[int]:
    """Children of a process that have loaded libbcc."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in children if "libbcc" in Path(f"/proc/{each}/maps").read_text()]


def test_interrupted_while_compiling(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    environ = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "ZOMBIEBPF_CACHE": ""}
    with started("run", "touch", str(tmp_path / "ran"), env=environ) as observing:
        wait_until(lambda: compilers(observing.pid) != [], "bcc compiles")
        (compiler,) = compilers(observing.pid)
        observing.send_signal(signal.SIGINT)
        out, said = observing.communicate(timeout=60)
    assert (observing.returncode, out, said) == (130, b"", b"")
    assert list(tmp_path.glob("**/*")) == [tmp_path / "tmp"]
    assert not Path(f"/proc/{compiler}").exists()


def test_killed_while_compiling(tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path), "ZOMBIEBPF_CACHE": ""}
    with started("run", "true", env=environ) as observing:
        wait_until(lambda: compilers(observing.pid) != [], "bcc compiles")
        (compiler,) = compilers(observing.pid)
        observing.kill()
        observing.communicate(timeout=60)
    wait_until(lambda: state_of(compiler) in (None, "Z"), "it has gone with us")


def test_stopped_and_continued_with_the_command() -> None:
    """As `kill -TSTP` of a job-control shell's job; SIGCONT to us alone continues both."""
    with (
        started("run", *patient, process_group=0)
        if sys.version_info >= (3, 11)
        else started("run", *patient, preexec_fn=lambda: os.setpgid(0, 0)) as observing
    ):
        pid = ready(observing)
        assert observing.stdout is not None
        observing.send_signal(signal.SIGTSTP)
        wait_until(lambda: state(observing.pid) == state(pid) == "T", "both are stopped")
        observing.send_signal(signal.SIGCONT)
        assert observing.stdout.readline() == b"got CONT\n"
        observing.send_signal(signal.SIGUSR1)
        out, _ = observing.communicate(timeout=60)
        assert (out, observing.returncode) == (b"got USR1\n", 7)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# at a terminal


def test_interrupt_key() -> None:
    with Terminal() as terminal:
        terminal.run(patient)
        terminal.expect("ready")
        terminal.type("\x03")
        terminal.expect("got INT")
        terminal.type("\x1c")
        said = terminal.expect("got QUIT")
        assert "got INT" not in said
        terminal.resize(50, 91)
        said = terminal.expect("got WINCH")
        assert "got" not in said.replace("got WINCH", "")
        for go_on in ("fg", "bg"):
            terminal.type("\x1a")  # not caught: stops
            terminal.expect("Stopped")
            terminal.type(go_on + "\n")
            terminal.expect("got CONT")
        terminal.type("kill -USR1 %1\n")  # to its whole group
        said = terminal.expect("lost records: 0")
        assert "got CONT" not in said
        assert said.count("got USR1") == 1
        terminal.type("wait %1; echo code $?\n")
        terminal.expect("code 7")


def test_a_signal_for_the_whole_group_comes_once() -> None:
    with started("run", *patient, start_new_session=True) as observing:
        ready(observing)
        assert observing.stdout is not None
        os.killpg(observing.pid, signal.SIGTERM)
        assert observing.stdout.readline() == b"got TERM\n"
        observing.send_signal(signal.SIGWINCH)  # taken after it: the kernel gives low numbers first
        assert observing.stdout.readline() == b"got WINCH\n"
        observing.send_signal(signal.SIGTERM)  # and this one is for us alone
        assert observing.stdout.readline() == b"got TERM\n"
        observing.send_signal(signal.SIGUSR1)
        out, _ = observing.communicate(timeout=60)
    assert (out, observing.returncode) == (b"got USR1\n", 7)


def test_interrupt_key_ends_the_command_and_then_the_linger() -> None:
    deaf = "(trap '' INT; exec sleep 1000) & echo pids $$ $!.; exec sleep 1000"
    with Terminal() as terminal:
        terminal.run(["sh", "-c", deaf], "--linger", "600")
        terminal.expect("pids ")
        main, orphan = map(int, terminal.expect(".").rstrip(".").split())
        try:
            wait_until(lambda: ignores_interrupt(orphan), "the orphan is deaf")
            terminal.type("\x03")
            wait_until(lambda: not os.path.exists(f"/proc/{main}"), "the command is dead")
            terminal.type("\x03")
            said = terminal.expect("lost records: 0")
        finally:
            os.kill(orphan, signal.SIGKILL)
        assert "SIGINT" in said
        assert "running 1" in said
        terminal.type("echo code $?\n")
        terminal.expect("code 130")


def ignores_interrupt(pid: int) -> bool:
    found = re.search(r"^SigIgn:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) & 1 << signal.SIGINT - 1)


# what it leaves behind


def test_linger_ends_with_the_last_life() -> None:
    reading, writing = os.pipe()
    script = f"(read line; exit 5) <&{reading} >/dev/null & echo $!"
    options = ("run", "--linger", "inf")
    with started(*options, "sh", "-c", script, pass_fds=[reading]) as observing:
        os.close(reading)
        assert observing.stdout is not None
        orphan = int(observing.stdout.read())
        wait_until(lambda: children(observing.pid, "sh") == [], "the command is dead")
        assert observing.poll() is None
        os.close(writing)
        _, report = observing.communicate(timeout=60)
    assert observing.returncode == 0
    assert f"{orphan}".encode() in report
    assert b"running 0" in report


@pytest.mark.parametrize("linger", ["0", "0.2"])
def test_linger_ends_with_its_time(linger: str, tmp_path: Path) -> None:
    report = tmp_path / "report"
    orphan = "sleep 1000 >/dev/null 2>&1 & echo $!; exit 9"
    options = ("--linger", linger, "--format", "json", "--report", str(report))
    done = zombiebpf("run", *options, "sh", "-c", orphan)
    os.kill(int(done.stdout), signal.SIGKILL)
    assert done.returncode == 9
    document = json.loads(report.read_text())
    states = {each["pid"]: each["state"] for each in document["processes"]}
    assert states[int(done.stdout)] == "running"
    assert sorted(states.values()) == ["reaped", "running"]
