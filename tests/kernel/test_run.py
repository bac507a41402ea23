# SPDX-License-Identifier: Apache-2.0
"""`zombiebpf run`: the command behaves as without it, and the report still comes."""

from __future__ import annotations

import json
import os
import pwd
import re
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.bpf_objects import is_in_kernel, objects_of
from tests.kernel.running import PROGRAM, QUIET, one_line, plain, started, wait_until, zombiebpf


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
        ("kill -INT $$", 130),
        ("ulimit -c 0; kill -SEGV $$", 139),
    ],
)
def test_exit_status(script: str, code: int) -> None:
    assert zombiebpf(*QUIET, "sh", "-c", script).returncode == code


def test_nothing_stays_in_the_kernel(tmp_path: Path) -> None:
    """What was attached is detached when zombiebpf exits, not some time later."""
    # a file that is open for a moment may be gone when cp comes to it
    done = zombiebpf(*QUIET, "sh", "-c", f"cp /proc/$PPID/fdinfo/* {tmp_path} || true")
    assert done.returncode == 0, done.stderr
    objects = objects_of(tmp_path)
    assert [each for each in objects if each.kind == "link" and is_in_kernel(each)] == []
    assert {each.kind for each in objects} == {"prog", "map", "link"}
    assert len(objects) > 20
    # the kernel frees programs and maps after RCU grace periods
    wait_until(lambda: not any(map(is_in_kernel, objects)), f"{objects} are gone")


def test_options_after_the_command_are_the_commands() -> None:
    done = zombiebpf(*QUIET, "echo", "--report", "-u", "--help", "--", "-x")
    assert done.stdout == b"--report -u --help -- -x\n"


def test_a_script_without_interpreter_line_is_the_shells(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$0 $1"\n')
    script.chmod(0o755)
    assert zombiebpf(*QUIET, str(script), "x").stdout.decode() == f"{script} x\n"


def test_streams_are_the_commands_own(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    report = tmp_path / "report"
    copy = ["sh", "-c", "tee /dev/stderr"]
    done = zombiebpf("run", "--report", str(report), *copy, input=data)
    assert done.stdout == data
    assert done.stderr == data
    assert report.read_text().startswith("zombiebpf ")


def test_report_goes_to_stderr() -> None:
    done = zombiebpf("run", "echo", "hello")
    assert done.stdout == b"hello\n"
    assert done.stderr.startswith(b"zombiebpf ")
    assert b"lost records: 0" in done.stderr


@pytest.mark.parametrize(
    ("pipeline", "codes"),
    [
        ("yes | {} head -n 1 >/dev/null", "141 0"),
        ("{} yes | head -n 1 >/dev/null", "141 0"),
        ("{} yes 2>/dev/full | head -n 1 >/dev/null", "141 0"),
    ],
)
def test_pipes(pipeline: str, codes: str) -> None:
    script = pipeline.format(" ".join([PROGRAM, *QUIET])) + '; echo "${PIPESTATUS[*]}"'
    done = plain("bash", "-c", script)
    assert done.stdout.decode() == codes + "\n"
    assert done.stderr == b""


# what is asked of the process itself, by a program that changes nothing of it
PORTRAIT = [
    f"/proc/self/{name}"
    for name in (
        "status",
        "limits",
        "stat",
        "oom_score_adj",
        "cgroup",
        "personality",
        "coredump_filter",
        "loginuid",
        "timerslack_ns",
        "environ",
    )
]
# lines that differ from one process to the next
PASSING = re.compile(
    rb"^(Pid|FDSize|Tgid|NStgid|NSpid|PPid|Vm|Rss|\w+_ctxt_switches|SigQ|Speculation)"
)
STAT_FIELDS = [4, 5, 6, 7, 17, 18, 39, 40, 41]  # pgrp, session, tty, tpgid, priority, nice, rt...
# prctl(2) and others have no file
ASKED = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
value = ctypes.c_int()
for number in (2, 37):  # PR_GET_PDEATHSIG, PR_GET_CHILD_SUBREAPER
    libc.prctl(number, ctypes.byref(value)); print(number, value.value)
for number in (3, 7, 21, 27, 30, 39, 42):
    print(number, libc.prctl(number, 0, 0, 0, 0))
print([signal.getitimer(which) for which in range(3)], sorted(os.sched_getaffinity(0)))
print(os.getpriority(os.PRIO_PGRP, 0), os.sched_getscheduler(0), libc.syscall(252, 1, 0))
print(os.getcwd(), os.getresuid(), os.getresgid(), os.getgroups())
"""


def portrait(cat: subprocess.CompletedProcess[bytes]) -> list[bytes]:
    assert cat.returncode == 0, cat.stderr
    lines = []
    for line in cat.stdout.splitlines():
        if re.match(rb"\d+ \(cat\) ", line):
            fields = line.split()
            lines += [fields[number] for number in STAT_FIELDS]
        elif not PASSING.match(line):
            lines.append(line)
    return lines


def odd_surroundings() -> None:
    """Whatever a caller can leave to its child, changed."""
    for number in (signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGTSTP, 40):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGTERM, 41])
    os.umask(0o027)
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_NOFILE, (777, 888))
    resource.setrlimit(resource.RLIMIT_CORE, (4096, 8192))
    Path("/proc/self/oom_score_adj").write_text("77")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"preexec_fn": odd_surroundings},
        {"env": {}},
        {"env": {"A": "\udcff\n", "LC_CTYPE": "C", "BCC_KERNEL_SOURCE": "/nowhere"}},
        {"start_new_session": True, "cwd": "/usr"},
    ],
    ids=["plain", "odd", "no environment", "odd environment", "session"],
)
def test_inherits_the_same(settings: dict[str, Any]) -> None:
    commands = [["/bin/cat", *PORTRAIT], [sys.executable, "-c", ASKED]]
    for command in commands:
        without = plain(*command, **settings)
        observed = zombiebpf(*QUIET, *command, **settings)
        if command[0] == "/bin/cat" and settings.get("start_new_session"):
            assert b"(cat)" in observed.stdout
            continue  # the numbers of a new session are new
        assert portrait(observed) == portrait(without)


def test_the_environment_is_not_changed_in_order_or_by_python() -> None:
    environ = {"Z": "1", "A": "2", "PYTHONUTF8": "0", "M": ""}
    without = plain("/usr/bin/env", "-0", env=environ)
    assert zombiebpf(*QUIET, "/usr/bin/env", "-0", env=environ).stdout == without.stdout


def test_descriptors(tmp_path: Path) -> None:
    with open(tmp_path / "a", "w") as one, open("/dev/null") as other:
        numbers = (one.fileno(), other.fileno())
        show = ["sh", "-c", "for n in /proc/$$/fd/*; do echo ${n##*/} $(readlink $n); done"]
        without = plain(*show, pass_fds=numbers, stderr=subprocess.DEVNULL)
        observed = zombiebpf(*QUIET, *show, pass_fds=numbers, stderr=subprocess.DEVNULL)

    def lines(done: subprocess.CompletedProcess[bytes]) -> list[str]:
        return re.sub(r"pipe:\[\d+\]", "pipe", done.stdout.decode()).splitlines()

    assert lines(observed) == lines(without)
    assert {str(number) for number in numbers} <= {line.split()[0] for line in lines(observed)}


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stay_closed(closed: str, tmp_path: Path) -> None:
    listed, report = tmp_path / "listed", tmp_path / "report"
    show = f"exec 9>{listed}; for n in 0 1 2; do [ ! -e /proc/$$/fd/$n ] || echo $n >&9; done"
    without = plain("sh", "-c", f"sh -c '{show}' {closed}")
    expected = listed.read_text()
    observed = plain("sh", "-c", f"{PROGRAM} run --report {report} -- sh -c '{show}' {closed}")
    assert listed.read_text() == expected
    assert len(expected.split()) == 3 - closed.count("-")
    assert report.read_text().startswith("zombiebpf ")
    for each in (without, observed):
        assert (each.returncode, each.stdout, each.stderr) == (0, b"", b"")


def test_a_pipe_ends_when_the_command_lets_it_go(tmp_path: Path) -> None:
    """What only we would hold open, a reader or writer would wait for."""
    (reading, writing), (other_end, passed) = os.pipe(), os.pipe()
    orphan = "sleep 1000 </dev/null >/dev/null 2>&1 3>&- & echo $!"
    script = f"exec 3<&- {passed}>&-; {orphan}"
    report = tmp_path / "report"
    options = ("run", "--format", "json", "--report", str(report), "--linger", "600")
    with started(*options, "bash", "-c", script, stdin=reading, pass_fds=[passed]) as observing:
        os.close(reading)
        os.close(passed)
        assert observing.stdout is not None
        sleeper = int(observing.stdout.read())  # to its end
        assert os.read(other_end, 1) == b""
        nobody_reads = select.poll()
        nobody_reads.register(writing, 0)  # POLLERR comes unasked
        assert nobody_reads.poll(60_000), "somebody holds the end that is read from"
        assert observing.poll() is None
        os.kill(sleeper, signal.SIGKILL)
        assert observing.wait(60) == 0
    os.close(writing)
    os.close(other_end)
    (process,) = [p for p in json.loads(report.read_text())["processes"] if p["pid"] == sleeper]
    assert process["signal"] == signal.SIGKILL


# the user that CMD runs as

NOBODY = pwd.getpwnam("nobody")
SUDO = {
    **os.environ,
    "SUDO_UID": str(NOBODY.pw_uid),
    "SUDO_GID": str(NOBODY.pw_gid),
    "SUDO_USER": "nobody",
    "SUDO_COMMAND": "zombiebpf",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
}
WHOM = """
import os
print([os.getresuid(), os.getresgid(), sorted(os.getgroups())])
print([name for name in os.environ if name.startswith("SUDO")])
print([os.environ[name] for name in ("HOME", "USER", "LOGNAME", "PATH")])
"""


def identity(uid: int, gid: int, groups: list[int], sudo: list[str], home: str, name: str) -> str:
    path = os.environ["PATH"]
    return f"{[(uid,) * 3, (gid,) * 3, sorted(groups)]}\n{sudo}\n{[home, name, name, path]}\n"


def nobodys() -> str:
    groups = os.getgrouplist("nobody", NOBODY.pw_gid)
    return identity(NOBODY.pw_uid, NOBODY.pw_gid, groups, [], NOBODY.pw_dir, "nobody")


def test_under_sudo_as_its_caller() -> None:
    done = zombiebpf(*QUIET, "/usr/bin/python3", "-c", WHOM, env=SUDO)
    assert done.stdout.decode() == nobodys()


@pytest.mark.parametrize("name", ["nobody", str(NOBODY.pw_uid)])
def test_as_the_user_named(name: str) -> None:
    done = zombiebpf(*QUIET, "-u", name, "/usr/bin/python3", "-c", WHOM)
    assert done.stdout.decode() == nobodys()


def test_under_sudo_as_root_if_asked() -> None:
    done = zombiebpf(*QUIET, "-u", "root", "/usr/bin/python3", "-c", WHOM, env=SUDO)
    sudo = [name for name in SUDO if name.startswith("SUDO")]
    assert done.stdout.decode() == identity(0, 0, os.getgroups(), sudo, "/root", "root")


def test_a_program_that_only_root_may_run(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("#!/bin/sh\n")
    secret.chmod(0o700)
    done = zombiebpf(*QUIET, str(secret), env=SUDO, cwd="/")
    assert one_line(done) == f"zombiebpf: {secret}: Permission denied\n"
    assert done.returncode == 126
