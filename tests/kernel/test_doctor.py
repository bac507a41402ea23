# SPDX-License-Identifier: Apache-2.0
"""`zombiebpf doctor`: what is there, what is missing, and the exit code that says which."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path
from typing import Any

from tests.kernel.running import PROGRAM, Result, in_own_mounts, one_line, plain, refused, zombiebpf
from tests.kernel.test_bad_input import NO_PRIVILEGE

DOCTOR = [PROGRAM, "doctor", "--format", "json"]
NEEDED = ["privileges", "kernel", "lockdown", "BTF", "bcc", "kernel symbols", "self-check"]
FACTS = ["fork", "exec", "exit", "zombie", "reparent", "reap", "wait"]


def document(done: Result) -> dict[str, Any]:
    assert done.stderr == b""
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def failed(done: Result) -> list[str]:
    return [check["name"] for check in document(done)["checks"] if not check["ok"]]


def test_all_is_there() -> None:
    done = zombiebpf("doctor", "--format", "json")
    assert done.returncode == 0
    parsed = document(done)
    assert parsed["ok"] is True
    assert [check["name"] for check in parsed["checks"] if check["needed"]][-1] == "self-check"
    assert set(NEEDED) <= {check["name"] for check in parsed["checks"]}
    assert [hook["fact"] for hook in parsed["hooks"]] == FACTS


def test_text() -> None:
    done = zombiebpf("doctor")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("     ok  privileges: uid 0")
    assert any(line.startswith("     ok  self-check: fork, exec, exit") for line in lines)
    assert not any("MISSING" in line for line in lines)
    exact = ("  reap      kmem_cache_free: exact", "  reap      release_task: exact")
    assert any(line.startswith(exact) for line in lines)


def test_works_where_children_are_not_waited_for() -> None:
    done = zombiebpf("doctor", preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert done.returncode == 0


def test_no_privilege() -> None:
    done = plain(*NO_PRIVILEGE, *DOCTOR)
    assert done.returncode == 77
    assert failed(done)[0] == "privileges"


def test_no_btf(tmp_path: Path) -> None:
    done = in_own_mounts(f"mount --bind {tmp_path} /sys/kernel/btf", "doctor", "--format", "json")
    assert done.returncode == 70
    assert "BTF" in failed(done)


def test_no_bcc() -> None:
    done = zombiebpf("doctor", "--format", "json", env={"ZOMBIEBPF_BCC": "/nowhere"})
    assert done.returncode == 70
    assert failed(done) == ["bcc", "self-check"]


def test_refused_by_a_policy() -> None:
    done = refused("PROG_LOAD", "EPERM", "doctor", "--format", "json")
    assert done.returncode == 77
    assert failed(done) == ["self-check"]
    done = refused("RAW_TRACEPOINT_OPEN", "EINVAL", "doctor", "--format", "json")
    assert done.returncode == 70
    assert failed(done) == ["self-check"]


def test_hidden_symbols_are_a_note(tmp_path: Path) -> None:
    empty = tmp_path / "kallsyms"
    empty.write_text("0000000000000000 T release_task\n")
    done = in_own_mounts(f"mount --bind {empty} /proc/kallsyms", "doctor")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"   note  kernel symbols: " in done.stdout
    assert b"         fix: sysctl kernel.kptr_restrict=1" in done.stdout


def test_nobody_reads_on() -> None:
    done = plain("bash", "-c", shlex.join(DOCTOR) + " | true; echo ${PIPESTATUS[0]}")
    assert (done.stdout, done.stderr) == (b"0\n", b"")


def test_no_room_for_the_output() -> None:
    with open("/dev/full", "w") as full:
        done = zombiebpf("doctor", stdout=full)
    assert done.returncode == 70
    assert one_line(done) == "zombiebpf: standard output: No space left on device\n"
