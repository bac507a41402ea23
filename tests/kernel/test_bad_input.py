# SPDX-License-Identifier: Apache-2.0
"""What cannot work: one line with what failed and the fix, a documented exit code, no CMD run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.running import PROGRAM, QUIET, in_own_mounts, plain, refusal, refused, zombiebpf

BTF = Path("/sys/kernel/btf/vmlinux")
# What was kept of this kernel since it booted would be used instead of its BTF.
NOTHING_KEPT = {**os.environ, "ZOMBIEBPF_CACHE": ""}
BCC = "/usr/lib/python3/dist-packages"  # where this distribution has it
NO_PRIVILEGE = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
# an ordinary user, but one who reaches this clone wherever it lies
STRANGER = [
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["run"], 2, "Missing argument 'CMD...'"),
        (["run", "--"], 2, "Missing argument 'CMD...'"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["run", "--nonsense", "echo"], 2, "No such option"),
        (["run", "--format", "nonsense", "echo"], 2, "'nonsense' is not one of 'text', 'tree'"),
        (["run", "--linger", "-1", "echo"], 2, "'-1' is not a number of seconds"),
        (["run", "--linger", "nan", "echo"], 2, "'nan' is not a number of seconds"),
        (["run", "--hook", "nonsense", "echo"], 2, "expected FACT=NAME"),
        (["run", "--hook", "nonsense=x", "echo"], 2, "facts are fork, exec"),
        (["run", "--hook", "reap=nonsense", "echo"], 2, "hooks are kmem_cache_free"),
        (["run", "-u", "no-such-user", "echo"], 2, "no user 'no-such-user'"),
        (["run", "-u", "4294967294", "echo"], 2, "no user '4294967294'"),
        (["run", "-u", "9" * 40, "echo"], 2, "no user"),
        (["run", "--report", "/nowhere/report", "echo"], 2, "No such file or directory"),
        (["run", "--report", "/tmp", "echo"], 2, "/tmp: cannot be written: Is a directory"),
        (["run", "--report", "/dev/fd/99", "echo"], 2, "Bad file descriptor"),
        (["run", "--report", "/proc/report", "echo"], 2, "/proc/report: cannot be written"),
        (["run", "no-such-command"], 127, "no-such-command: command not found"),
        (["run", "./no-such-command"], 127, "./no-such-command: command not found"),
        (["run", ""], 127, "command not found"),
        (["run", "/tmp"], 126, "/tmp: is a directory"),
        (["run", "/etc/passwd"], 126, "/etc/passwd: is not executable"),
        (["doctor", "extra"], 2, "extra"),
        (["doctor", "--format", "xml"], 2, "'text', 'json'"),
    ],
)
def test_usage(arguments: list[str], code: int, part: str) -> None:
    refusal(zombiebpf(*arguments), code, part)


def test_no_arguments_show_help() -> None:
    done = zombiebpf()
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.startswith(b"Usage: zombiebpf ")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "-h"], ["doctor", "--help"]])
def test_help_has_examples(arguments: list[str]) -> None:
    done = zombiebpf(*arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Examples:\n    sudo zombiebpf" in done.stdout


def test_interpreter_not_found(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    refusal(zombiebpf("run", str(script)), 127, f"{script}: the interpreter it names was not found")


def test_read_only_directory(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o ro none {tmp_path}"
    done = in_own_mounts(mount, "run", "--report", f"{tmp_path}/report", "echo", "ran")
    refusal(done, 2, f"{tmp_path}/report: cannot be written: Read-only file system")


@pytest.mark.parametrize("become", [NO_PRIVILEGE, STRANGER], ids=["no capabilities", "not root"])
def test_no_privilege(become: list[str]) -> None:
    refusal(plain(*become, PROGRAM, "run", "echo", "ran"), 77, "needs root", "sudo")


def test_no_btf(tmp_path: Path) -> None:
    mount = f"mount --bind {tmp_path} {BTF.parent}"
    done = in_own_mounts(mount, "run", "echo", "ran", env=NOTHING_KEPT)
    refusal(done, 70, f"{BTF}: No such file or directory", "CONFIG_DEBUG_INFO_BTF")


@pytest.mark.parametrize("size", [0, 10, 100, 100_000, 3_000_000])
def test_truncated_btf(size: int, tmp_path: Path) -> None:
    damaged = tmp_path / "btf"
    with BTF.open("rb") as whole:
        damaged.write_bytes(whole.read(size))
    mount = f"mount --bind {damaged} {BTF}"
    done = in_own_mounts(mount, "run", "echo", "ran", env=NOTHING_KEPT)
    refusal(done, 70, "BTF", "damaged")


def test_btf_of_noise(tmp_path: Path) -> None:
    """The header is right, the types are not."""
    damaged = tmp_path / "btf"
    data = bytearray(BTF.read_bytes())
    data[24 : len(data) // 2] = os.urandom(len(data) // 2 - 24)
    damaged.write_bytes(data)
    mount = f"mount --bind {damaged} {BTF}"
    done = in_own_mounts(mount, "run", "echo", "ran", env=NOTHING_KEPT)
    refusal(done, 70, "BTF")


def test_bcc_missing(tmp_path: Path) -> None:
    done = in_own_mounts(f"mount --bind {tmp_path} {BCC}", "run", "echo", "ran")
    refusal(done, 70, "bcc's Python module is not on this machine", "apt install python3-bpfcc")


def test_bcc_not_where_told() -> None:
    done = zombiebpf("run", "echo", "ran", env={**os.environ, "ZOMBIEBPF_BCC": "/nowhere"})
    refusal(done, 70, "not on this machine in /nowhere (ZOMBIEBPF_BCC)")


def test_library_of_bcc_broken(tmp_path: Path) -> None:
    copy = tmp_path / "bcc"
    shutil.copytree(f"{BCC}/bcc", copy)
    library = copy / "libbcc.py"
    library.write_text(library.read_text().replace("libbcc.so", "no-such-library.so"))
    done = zombiebpf("run", "echo", "ran", env={**os.environ, "ZOMBIEBPF_BCC": str(tmp_path)})
    refusal(done, 70, "no-such-library.so", "apt install")


def test_another_package_named_bcc_is_not_taken(tmp_path: Path) -> None:
    """PyPI has one. It must not even be imported."""
    package = tmp_path / "bcc"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('the wrong bcc')")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = zombiebpf("run", "--report", os.devnull, "echo", "ran", env=environ, cwd=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ran\n", b"")


@pytest.mark.parametrize("command", ["MAP_CREATE", "PROG_LOAD", "RAW_TRACEPOINT_OPEN"])
@pytest.mark.parametrize(
    ("error", "code", "words", "fix"),
    [
        ("EPERM", 77, "Operation not permitted", "privileged container"),
        ("EACCES", 77, "Permission denied", "privileged container"),
        ("EINVAL", 70, "Invalid argument", "zombiebpf doctor"),
        ("E2BIG", 70, "Argument list too long", "zombiebpf doctor"),
        ("ENOMEM", 70, "Cannot allocate memory", "raise the memory limit"),
    ],
)
def test_bpf_refused(command: str, error: str, code: int, words: str, fix: str) -> None:
    refusal(refused(command, error, "run", "echo", "ran"), code, "the kernel refuses", words, fix)


def test_kernel_symbols_hidden(tmp_path: Path) -> None:
    """Works none the less: every free is then looked at."""
    zeros = tmp_path / "kallsyms"
    with open("/proc/kallsyms") as symbols:
        zeros.write_text("".join("0" * 16 + line[16:] for line in symbols))
    report = tmp_path / "report"
    done = in_own_mounts(
        f"mount --bind {zeros} /proc/kallsyms",
        *("run", "--format", "json", "--report", str(report)),
        *("sh", "-c", "(exit 4); (exit 5); true"),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    document: dict[str, Any] = json.loads(report.read_text())
    lives = document["processes"]
    assert sorted(life["exit_status"] for life in lives) == [0, 4, 5]
    assert {life["reaped_by"] for life in lives} == {"parent"}
    assert all(life["reaper"]["pid"] == life["forker"]["pid"] for life in lives)
    assert all(life["reap_ns"] >= life["zombie_ns"] >= life["exit_ns"] for life in lives)


def test_deleted_directory(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()

    def leave() -> None:
        os.chdir(gone)
        gone.rmdir()

    done = zombiebpf(*QUIET, "readlink", "/proc/self/cwd", preexec_fn=leave)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"{gone} (deleted)\n"


def test_report_to_what_is_open_for_reading() -> None:
    with open(os.devnull) as null:
        refusal(zombiebpf("run", "--report", "/dev/fd/0", "echo", stdin=null), 2, "reading only")
