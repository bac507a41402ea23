# SPDX-License-Identifier: Apache-2.0
"""System calls have the names that this machine's kernel has for their numbers."""

from __future__ import annotations

import platform
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from zombiebpf.bpf.loaded import Probes
from zombiebpf.kernel import thread_activity
from zombiebpf.kernel.program import probes_directory
from zombiebpf.kernel.syscalls import syscall_names
from zombiebpf.kernel.thread_activity import ThreadActivity, look_at

MACHINES = ("x86_64", "aarch64")


def names(machine: str, monkeypatch: pytest.MonkeyPatch) -> Mapping[int, str]:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    return syscall_names()


@pytest.mark.parametrize("machine", MACHINES)
def test_the_probes_mean_the_same_calls(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """probes/syscall.h defines the numbers of x86_64 first, then those of all others."""
    text = (probes_directory() / "syscall.h").read_text(encoding="utf-8")
    x86_64, _, others = text.partition("\n#else\n")
    part = x86_64 if machine == "x86_64" else others
    declared = re.findall(r"^#define SYS_(\w+) (\d+)\b", part, re.M)
    assert {"WAIT4", "WAITID", "PPOLL", "FUTEX"} <= {name for name, _ in declared}
    known = names(machine, monkeypatch)
    assert {int(number): known.get(int(number)) for _, number in declared} == {
        int(number): name.lower() for name, number in declared
    }


@pytest.mark.parametrize("machine", MACHINES)
def test_each_name_is_one_call(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = names(machine, monkeypatch)
    assert len(set(known.values())) == len(known)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]+", name) for name in known.values())


def test_calls_by_which_a_child_is_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine in MACHINES:
        assert {"wait4", "waitid", "io_uring_enter"} <= set(names(machine, monkeypatch).values())


def test_what_both_machines_have_is_told_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of x86_64 that the generic table never had are the only ones to differ."""
    x86_64, arm64 = (set(names(machine, monkeypatch).values()) for machine in MACHINES)
    assert arm64 <= x86_64
    assert x86_64 - arm64 <= {
        "poll", "select", "pause", "vfork", "epoll_wait", "epoll_pwait2"
    }  # fmt: skip


def test_a_machine_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert names("riscv64", monkeypatch) == {}


# what a thread does just now


class Notes(dict[int, Any]):
    """The probes' table `blocks`."""

    Key = int


def probes(blocks: Notes) -> Probes:
    return cast(Probes, {"blocks": blocks})


def blocked_in(pid: int, number: int) -> None:
    """Wait until the process is in that call."""
    deadline = time.monotonic() + 30
    while not Path(f"/proc/{pid}/syscall").read_text().startswith(f"{number} "):
        assert time.monotonic() < deadline, "it does not come to its call"
        time.sleep(0.001)


@pytest.fixture
def reader() -> Any:
    """A process that reads what never comes."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        blocked_in(process.pid, READ)
        yield process
        process.kill()


(READ,) = [number for number, name in syscall_names().items() if name == "read"]


def test_a_thread_that_is_blocked(reader: subprocess.Popen[bytes]) -> None:
    doing = look_at(probes(Notes()), reader.pid, reader.pid, kernel_tids=True)
    assert doing == ThreadActivity("cat", "read", None, 0)


def test_the_probes_note_of_it(reader: subprocess.Popen[bytes]) -> None:
    notes = Notes({reader.pid: SimpleNamespace(ns=12345, syscall=READ, stack_id=77)})
    bpf = probes(notes)
    pid = reader.pid
    assert look_at(bpf, pid, pid, kernel_tids=True) == ThreadActivity("cat", "read", 12345, 77)
    # numbers of another namespace would name another thread
    assert look_at(bpf, pid, pid, kernel_tids=False) == ThreadActivity("cat", "read", None, 0)


def test_a_note_of_an_earlier_call(reader: subprocess.Popen[bytes]) -> None:
    note = SimpleNamespace(ns=12345, syscall=READ + 1, stack_id=77)
    doing = look_at(probes(Notes({reader.pid: note})), reader.pid, reader.pid, True)
    assert doing == ThreadActivity("cat", "read", None, 0)


def test_a_call_without_a_name(
    reader: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_activity, "syscall_names", dict)
    doing = look_at(probes(Notes()), reader.pid, reader.pid, True)
    assert doing is not None
    assert doing.syscall == f"syscall_{READ}"


def test_a_thread_that_is_gone() -> None:
    with subprocess.Popen(["true"]) as process:
        pid = process.pid
    assert look_at(probes(Notes()), pid, pid, True) is None
    assert look_at(probes(Notes()), 0, 0, True) is None


def test_a_thread_that_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task = tmp_path / "7/task/8"
    task.mkdir(parents=True)
    (task / "comm").write_bytes(b"a b\xff\n")
    monkeypatch.setattr(
        thread_activity, "Path", lambda path: Path(path.replace("/proc", str(tmp_path)))
    )
    note = Notes({8: SimpleNamespace(ns=1, syscall=-1, stack_id=2)})
    for text, syscall in [
        ("running\n", None),
        ("-1 0x7ffd5 0x7f4f\n", "(in the kernel)"),
        (f"{READ} 0x0 0x1 0x2 0x3 0x4 0x5 0x7ffd5 0x7f4f\n", "read"),
    ]:
        (task / "syscall").write_text(text)
        assert look_at(probes(note), 7, 8, True) == ThreadActivity("a b\udcff", syscall, None, 0)
    (task / "syscall").write_text("")  # it died while it was looked at
    assert look_at(probes(note), 7, 8, True) is None
