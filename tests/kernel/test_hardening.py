# SPDX-License-Identifier: Apache-2.0
"""Where a machine is hardened: it works, or one line says what to do. docs/hardening.md.

What can be tried without changing the machine, in mount namespaces and with capabilities taken
away; sysctls and lockdown are tried in VMs of their own (tests/vm).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.running import PROGRAM, Result, in_own_mounts, one_line, plain

NOBODY = 65534
# these three reach the clone and the report wherever they lie
REACH = ("dac_read_search", "dac_override")
ENDINGS = ("sh", "-c", "(exit 4); (exit 5); true")


def with_capabilities(held: Sequence[str], *arguments: str, user: int = NOBODY) -> Result:
    """zombiebpf as an ordinary user with just these."""
    added = ",".join(["-all", *(f"+{name}" for name in held)])
    # securebits stay: what is not in the three sets cannot come back by an exec
    return plain(
        *("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"),
        *(f"--inh-caps={added}", f"--ambient-caps={added}", f"--bounding-set={added}"),
        *("--", PROGRAM, *arguments),
    )


def observed(done: Result, report: Path) -> None:
    """The three processes of ENDINGS were seen, whole."""
    assert (done.returncode, done.stderr) == (0, b"")
    document: dict[str, Any] = json.loads(report.read_text())
    assert sorted(life["exit_status"] for life in document["processes"]) == [0, 4, 5]
    assert {life["reaped_by"] for life in document["processes"]} == {"parent"}
    assert document["meta"]["lost_events"] == 0


def to(report: Path) -> tuple[str, ...]:
    return ("run", "--format", "json", "--report", str(report), *ENDINGS)


@pytest.mark.parametrize(
    "more", [(), ("syslog",)], ids=["kernel symbols hidden", "kernel symbols readable"]
)
def test_two_capabilities_do(more: Sequence[str], tmp_path: Path) -> None:
    report = tmp_path / "report"
    observed(with_capabilities(["bpf", "perfmon", *more, *REACH], *to(report)), report)


@pytest.mark.parametrize("held", [["bpf"], ["perfmon"], ["net_admin"]], ids=str)
def test_one_of_them_does_not(held: Sequence[str], tmp_path: Path) -> None:
    done = with_capabilities([*held, *REACH], *to(tmp_path / "report"))
    assert done.returncode == 77
    assert "needs root" in one_line(done)
    assert done.stdout == b""


def test_doctor_names_what_is_missing() -> None:
    done = with_capabilities(["bpf", *REACH], "doctor")
    assert done.returncode == 77
    assert b"MISSING  privileges: uid 65534 without CAP_BPF and CAP_PERFMON" in done.stdout


@pytest.mark.parametrize("mode", [1, 2])
def test_other_users_processes_hidden(mode: int, tmp_path: Path) -> None:
    """/proc mounted with hidepid."""
    report = tmp_path / "report"
    mount = f"mount -t proc -o hidepid={mode} proc /proc"
    observed(in_own_mounts(mount, *to(report)), report)


def test_no_tracefs(tmp_path: Path) -> None:
    report = tmp_path / "report"
    hide = (
        'for d in $(awk \'$3 == "tracefs" || $3 == "debugfs" {print $2}\' /proc/mounts | tac); '
        "do umount -l $d; done"
    )
    observed(in_own_mounts(hide, *to(report)), report)
    done = in_own_mounts(hide, "doctor")
    assert done.returncode == 0
    assert b"   note  tracefs: not mounted; raw tracepoints do not need it" in done.stdout


def test_tracefs_elsewhere(tmp_path: Path) -> None:
    place = tmp_path / "tracing"
    place.mkdir()
    move = (
        'for d in $(awk \'$3 == "tracefs" || $3 == "debugfs" {print $2}\' /proc/mounts | tac); '
        f"do umount -l $d; done; mount -t tracefs none {place}"
    )
    done = in_own_mounts(move, "doctor")
    assert done.returncode == 0
    assert f"     ok  tracefs: {place}".encode() in done.stdout


def test_lockdown_of_confidentiality(tmp_path: Path) -> None:
    """As the file says it; a kernel that is locked down is booted in tests/vm."""
    (tmp_path / "lockdown").write_text("none integrity [confidentiality]\n")
    done = in_own_mounts(f"mount --bind {tmp_path} /sys/kernel/security", "doctor")
    assert done.returncode == 70
    assert b"MISSING  lockdown: confidentiality" in done.stdout
    assert b"fix: boot without lockdown=confidentiality" in done.stdout
    done = in_own_mounts(f"mount --bind {tmp_path} /sys/kernel/security", "run", "true")
    assert done.returncode == 70
    assert "locked down" in one_line(done)


def test_lockdown_of_integrity(tmp_path: Path) -> None:
    (tmp_path / "lockdown").write_text("none [integrity] confidentiality\n")
    done = in_own_mounts(f"mount --bind {tmp_path} /sys/kernel/security", "doctor")
    assert done.returncode == 0
    assert b"     ok  lockdown: integrity" in done.stdout


def sticky(tmp_path: Path) -> Path:
    """A directory as /tmp is: anybody may plant something."""
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(0o1777)
    return place


@pytest.mark.parametrize("planted", ["file", "directory", "nothing"])
def test_planted_link_is_not_followed(planted: str, tmp_path: Path) -> None:
    """By whichever of its parts: root would write where a stranger wants it."""
    place = sticky(tmp_path)
    target = tmp_path / "target"
    target.mkdir()
    precious = target / "precious"
    precious.write_text("mine\n")
    link = place / "report"
    where = {"file": precious, "directory": target, "nothing": target / "new"}[planted]
    link.symlink_to(where)
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    report = link / "precious" if planted == "directory" else link
    done = plain(PROGRAM, *to(report))
    assert done.returncode == 2
    assert "symbolic link of another user" in one_line(done)
    assert precious.read_text() == "mine\n"
    assert sorted(target.iterdir()) == [precious]


def test_own_link_is_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    link = tmp_path / "report"
    link.symlink_to(target)
    observed(plain(PROGRAM, *to(link)), target)
    assert link.is_symlink()


def test_nothing_is_left_that_others_can_write(tmp_path: Path) -> None:
    """The least careful umask there is."""
    report = tmp_path / "report"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    before = os.umask(0)
    try:
        done = plain(PROGRAM, *to(report), env={**os.environ, "TMPDIR": str(temporary)})
    finally:
        os.umask(before)
    observed(done, report)
    assert not stat.S_IMODE(report.stat().st_mode) & 0o022
    assert list(temporary.iterdir()) == []


def test_strings_of_the_observed_reach_no_terminal(tmp_path: Path) -> None:
    """Names are data: escapes are shown, not sent, and no shell sees them."""
    name = "\x1b]0;title\x07$(touch pwned)`touch pwned`"
    script = (
        "import ctypes, os, sys\n"
        "ctypes.CDLL(None).prctl(15, b'\\x1b[2J\\nforged')\n"
        f"os.execv('/bin/true', [{name!r}, 'a\\nb', '\\x1b[31m'])\n"
    )
    for format_ in ("text", "json", "jsonl"):
        report = tmp_path / format_
        done = plain(
            *(PROGRAM, "run", "--format", format_, "--report", str(report)),
            *("/usr/bin/python3", "-c", script),
            cwd=tmp_path,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        text = report.read_bytes()
        assert b"\x1b" not in text
        assert b"\x07" not in text
        assert b"title" in text
    assert not (tmp_path / "pwned").exists()
