# SPDX-License-Identifier: Apache-2.0
"""`zombiebpf run`: where the report goes, and whose it is."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest

from tests.kernel.running import in_own_mounts, started, zombiebpf

NOBODY = pwd.getpwnam("nobody")


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
        done = zombiebpf("run", "--report", name, "echo", "hello", stdout=out)
    assert done.stderr == b""
    assert (tmp_path / "out").read_text().startswith("hello\nzombiebpf ")


def test_report_to_an_inherited_descriptor(tmp_path: Path) -> None:
    with open(tmp_path / "out", "w") as out:
        number = out.fileno()
        done = zombiebpf("run", "--report", f"/dev/fd/{number}", "true", pass_fds=[number])
    assert (done.returncode, done.stderr) == (0, b"")
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
    done = zombiebpf("run", "sh", "-c", "exit 3", stderr=writing)
    os.close(writing)
    assert done.returncode == 3


def test_report_file_that_is_mounted_by_itself(tmp_path: Path) -> None:
    """As `docker run -v /host/report:/report` does: it cannot be replaced, only written."""
    report = tmp_path / "report"
    report.write_text("old" * 10000)
    done = in_own_mounts(
        f"mount --bind {report} {report}", "run", "--report", str(report), "sh", "-c", "exit 3"
    )
    assert (done.returncode, done.stderr) == (3, b"")
    assert report.read_text().startswith("zombiebpf ")
    assert report.read_text().endswith("lost records: 0\n")
    assert list(tmp_path.iterdir()) == [report]


def test_no_room_for_the_report(tmp_path: Path) -> None:
    target = f"{tmp_path}/report"
    full = f"mount -t tmpfs -o size=4k none {tmp_path}; echo old >{target}"
    done = in_own_mounts(full, "run", "--report", target, "sh", "-c", f"cat {target}; exit 3")
    assert done.stdout == b"old\n"
    assert done.returncode == 70
    report, _, last = done.stderr.decode().rstrip("\n").rpartition("\n")
    assert report.startswith("zombiebpf ")
    assert report.rstrip().endswith("lost records: 0")
    assert last == (
        f"zombiebpf: {target}: No space left on device; the report stands above instead; "
        "CMD itself exited with 3"
    )


def test_no_room_anywhere() -> None:
    with open("/dev/full", "w") as full:
        done = zombiebpf("run", "--report", "/dev/full", "sh", "-c", "exit 3", stderr=full)
    assert done.returncode == 70


@pytest.mark.parametrize(("owner", "given"), [(NOBODY.pw_uid, NOBODY.pw_uid), (1, 0)])
def test_report_under_sudo_is_its_callers_in_his_directory(
    owner: int, given: int, tmp_path: Path
) -> None:
    os.chown(tmp_path, owner, NOBODY.pw_gid)
    report = tmp_path / "report"
    sudo = {**os.environ, "SUDO_UID": str(NOBODY.pw_uid), "SUDO_GID": str(NOBODY.pw_gid)}
    assert zombiebpf("run", "--report", str(report), "true", env=sudo, cwd="/").returncode == 0
    assert report.stat().st_uid == given
