# SPDX-License-Identifier: Apache-2.0
"""`zombiebpf run`: the command behaves as without it, and the report still comes."""

from __future__ import annotations

import json
import os
import pwd
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running import (
    PROGRAM,
    QUIET,
    Terminal,
    in_own_mounts,
    one_line,
    plain,
    started,
    wait_until,
    zombiebpf,
)

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


def test_options_after_the_command_are_the_commands() -> None:
    told = zombiebpf(*QUIET, "echo", "--report", "-u", "--help", "--", "-x")
    assert told.stdout == b"--report -u --help -- -x\n"


def test_a_script_without_interpreter_line_is_the_shells(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$0 $1"\n')
    script.chmod(0o755)
    assert zombiebpf(*QUIET, str(script), "x").stdout.decode() == f"{script} x\n"


def test_streams_are_the_commands_own(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    report = tmp_path / "report"
    copy = ["sh", "-c", "tee /dev/stderr"]
    told = zombiebpf("run", "--report", str(report), *copy, input=data)
    assert told.stdout == data
    assert told.stderr == data
    assert report.read_text().startswith("zombiebpf ")


def test_report_goes_to_stderr() -> None:
    told = zombiebpf("run", "echo", "hello")
    assert told.stdout == b"hello\n"
    assert told.stderr.startswith(b"zombiebpf ")
    assert b"lost records: 0" in told.stderr


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
    told = plain("bash", "-c", script)
    assert told.stdout.decode() == codes + "\n"
    assert told.stderr == b""


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

    def lines(told: subprocess.CompletedProcess[bytes]) -> list[str]:
        return re.sub(r"pipe:\[\d+\]", "pipe", told.stdout.decode()).splitlines()

    assert lines(observed) == lines(without)
    assert {str(number) for number in numbers} <= {line.split()[0] for line in lines(observed)}


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stay_closed(closed: str, tmp_path: Path) -> None:
    told, report = tmp_path / "told", tmp_path / "report"
    show = f"exec 9>{told}; for n in 0 1 2; do [ ! -e /proc/$$/fd/$n ] || echo $n >&9; done"
    without = plain("sh", "-c", f"sh -c '{show}' {closed}")
    expected = told.read_text()
    observed = plain("sh", "-c", f"{PROGRAM} run --report {report} -- sh -c '{show}' {closed}")
    assert told.read_text() == expected
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
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"x")
        assert observing.poll() is None
        os.kill(sleeper, signal.SIGKILL)
        assert observing.wait(60) == 0
    os.close(writing)
    os.close(other_end)
    (process,) = [p for p in json.loads(report.read_text())["processes"] if p["pid"] == sleeper]
    assert process["signal"] == signal.SIGKILL


# signals


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
    told = zombiebpf(*QUIET, "sh", "-c", script, start_new_session=True)
    assert told.returncode == expected


def test_an_alarm_set_before_is_the_commands() -> None:
    told = zombiebpf(*QUIET, "sleep", "1000", preexec_fn=lambda: signal.alarm(8))
    assert told.returncode in (142, -signal.SIGALRM)  # the latter: on a very slow machine


def test_interrupted_while_starting(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    environ = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    with started("run", "touch", str(tmp_path / "ran"), env=environ) as observing:
        maps = Path(f"/proc/{observing.pid}/maps")
        wait_until(lambda: "libbcc" in maps.read_text(), "bcc is loaded")
        observing.send_signal(signal.SIGINT)
        out, said = observing.communicate(timeout=60)
    assert (observing.returncode, out, said) == (130, b"", b"")
    assert list(tmp_path.glob("**/*")) == [tmp_path / "tmp"]


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
        observing.send_signal(signal.SIGTERM)  # and this one is for us alone again
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
    told = zombiebpf("run", *options, "sh", "-c", orphan)
    os.kill(int(told.stdout), signal.SIGKILL)
    assert told.returncode == 9
    document = json.loads(report.read_text())
    states = {each["pid"]: each["state"] for each in document["processes"]}
    assert states[int(told.stdout)] == "running"
    assert sorted(states.values()) == ["reaped", "running"]


# where the report goes


def test_report_replaces_a_file_and_keeps_its_owner_and_mode(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.write_text("old")
    report.chmod(0o640)
    os.chown(report, 1, 2)
    link = tmp_path / "link"
    link.symlink_to(report)
    look = zombiebpf("run", "--report", str(link), "cat", str(report))
    assert look.stdout == b"old"  # until it is whole
    assert report.read_text().startswith("zombiebpf ")
    about = report.stat()
    assert (about.st_mode & 0o7777, about.st_uid, about.st_gid) == (0o640, 1, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "report"]


def test_new_report_obeys_the_umask(tmp_path: Path) -> None:
    report = tmp_path / "report"
    assert zombiebpf("run", "--report", str(report), "true", umask=0o026).returncode == 0
    assert report.stat().st_mode & 0o7777 == 0o640


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/proc/self/fd/1"])
def test_report_after_the_commands_output(name: str, tmp_path: Path) -> None:
    with open(tmp_path / "out", "w") as out:
        told = zombiebpf("run", "--report", name, "echo", "hello", stdout=out)
    assert told.stderr == b""
    assert (tmp_path / "out").read_text().startswith("hello\nzombiebpf ")


def test_report_to_an_inherited_descriptor(tmp_path: Path) -> None:
    with open(tmp_path / "out", "w") as out:
        number = out.fileno()
        told = zombiebpf("run", "--report", f"/dev/fd/{number}", "true", pass_fds=[number])
    assert (told.returncode, told.stderr) == (0, b"")
    assert (tmp_path / "out").read_text().startswith("zombiebpf ")


def test_report_into_a_fifo(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with started("run", "--report", str(fifo), "sh", "-c", "exit 3") as observing:
        assert fifo.read_text().startswith("zombiebpf ")
        assert observing.wait(60) == 3


def test_report_to_a_stderr_that_does_not_block() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    forks = "i=0; while [ $i -lt 400 ]; do (:); i=$((i+1)); done; exit 3"
    with started("run", "--format", "json", "sh", "-c", forks, stderr=writing) as observing:
        os.close(writing)
        with os.fdopen(reading) as pipe:
            document = json.load(pipe)
        assert observing.wait(60) == 3
    assert len(document["processes"]) == 401


def test_nobody_reads_the_report() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    told = zombiebpf("run", "sh", "-c", "exit 3", stderr=writing)
    os.close(writing)
    assert told.returncode == 3


def test_report_file_that_is_mounted_by_itself(tmp_path: Path) -> None:
    """As `docker run -v /host/report:/report` does: it cannot be replaced, only written."""
    report = tmp_path / "report"
    report.write_text("old" * 10000)
    told = in_own_mounts(
        f"mount --bind {report} {report}", "run", "--report", str(report), "sh", "-c", "exit 3"
    )
    assert (told.returncode, told.stderr) == (3, b"")
    assert report.read_text().startswith("zombiebpf ")
    assert report.read_text().endswith("lost records: 0\n")
    assert list(tmp_path.iterdir()) == [report]


def test_no_room_for_the_report(tmp_path: Path) -> None:
    target = f"{tmp_path}/report"
    full = f"mount -t tmpfs -o size=4k none {tmp_path}; echo old >{target}"
    told = in_own_mounts(full, "run", "--report", target, "sh", "-c", f"cat {target}; exit 3")
    assert told.stdout == b"old\n"
    assert told.returncode == 70
    report, _, last = told.stderr.decode().rstrip("\n").rpartition("\n")
    assert report.startswith("zombiebpf ")
    assert report.rstrip().endswith("lost records: 0")
    assert last == (
        f"zombiebpf: {target}: No space left on device; the report stands above instead; "
        "CMD itself exited with 3"
    )


def test_no_room_anywhere() -> None:
    with open("/dev/full", "w") as full:
        told = zombiebpf("run", "--report", "/dev/full", "sh", "-c", "exit 3", stderr=full)
    assert told.returncode == 70


# as whom it runs

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


def whom(uid: int, gid: int, groups: list[int], sudo: list[str], home: str, name: str) -> str:
    path = os.environ["PATH"]
    return f"{[(uid,) * 3, (gid,) * 3, sorted(groups)]}\n{sudo}\n{[home, name, name, path]}\n"


def nobodys() -> str:
    groups = os.getgrouplist("nobody", NOBODY.pw_gid)
    return whom(NOBODY.pw_uid, NOBODY.pw_gid, groups, [], NOBODY.pw_dir, "nobody")


def test_under_sudo_as_its_caller() -> None:
    told = zombiebpf(*QUIET, "/usr/bin/python3", "-c", WHOM, env=SUDO)
    assert told.stdout.decode() == nobodys()


@pytest.mark.parametrize("name", ["nobody", str(NOBODY.pw_uid)])
def test_as_the_user_named(name: str) -> None:
    told = zombiebpf(*QUIET, "-u", name, "/usr/bin/python3", "-c", WHOM)
    assert told.stdout.decode() == nobodys()


def test_under_sudo_as_root_if_asked() -> None:
    told = zombiebpf(*QUIET, "-u", "root", "/usr/bin/python3", "-c", WHOM, env=SUDO)
    sudo = [name for name in SUDO if name.startswith("SUDO")]
    assert told.stdout.decode() == whom(0, 0, os.getgroups(), sudo, "/root", "root")


@pytest.mark.parametrize(("owner", "given"), [(NOBODY.pw_uid, NOBODY.pw_uid), (1, 0)])
def test_report_under_sudo_is_its_callers_in_his_directory(
    owner: int, given: int, tmp_path: Path
) -> None:
    os.chown(tmp_path, owner, NOBODY.pw_gid)
    report = tmp_path / "report"
    assert zombiebpf("run", "--report", str(report), "true", env=SUDO, cwd="/").returncode == 0
    assert report.stat().st_uid == given


def test_a_program_that_only_root_may_run(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("#!/bin/sh\n")
    secret.chmod(0o700)
    told = zombiebpf(*QUIET, str(secret), env=SUDO, cwd="/")
    assert one_line(told) == f"zombiebpf: {secret}: Permission denied\n"
    assert told.returncode == 126
