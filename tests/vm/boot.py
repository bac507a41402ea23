# SPDX-License-Identifier: Apache-2.0
"""One boot of a VM under QEMU's software emulation: a job in, its results out."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from tests.vm.images import DISK_ID, Image
from tests.vm.rows import Row

ROOT = Path(__file__).resolve().parents[2]
SENT = ("zombiebpf", "probes", "scenarios", "tests", "docs", "tools", "bench", "pyproject.toml",
        "Makefile", "README.md")  # fmt: skip
_OUT_BYTES = 64 << 20


class Boot(NamedTuple):
    """How it went. `code` None: it did not come to its end (a panic, the time limit)."""

    code: Optional[int]
    console: str
    seconds: float
    cpu_s: float  # of QEMU: what it takes on an idle machine


def boot(
    row: Row,
    image: Image,
    job: str,
    out: Path,
    limit_s: float,
    kernel_arguments: Sequence[str] = (),
) -> Boot:
    """Run `job` (JSON for guest/job.py) in the VM; `out` gets what it leaves behind."""
    with tempfile.TemporaryDirectory(prefix="zombiebpf-vm-") as scratch:
        work = Path(scratch)
        _pack(work / "in.tar", job)
        with open(work / "out.img", "wb") as file:
            file.truncate(_OUT_BYTES)
        console = out / "console.log"
        began, used = time.monotonic(), _cpu_s()
        _emulate(row, image, work, console, limit_s, kernel_arguments)
        took, used = time.monotonic() - began, _cpu_s() - used
        _unpack(work / "out.img", out)
        text = console.read_text("utf-8", "replace").replace("\r", "")
        found = re.findall(r"^VM-EXIT (\d+)", text, re.MULTILINE)
        return Boot(int(found[-1]) if found else None, text, took, used)


def _cpu_s() -> float:
    """Of children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _pack(tar: Path, job: str) -> None:
    def wanted(entry: tarfile.TarInfo) -> Optional[tarfile.TarInfo]:
        entry.uid = entry.gid = 0
        return None if "__pycache__" in entry.name else entry

    with tarfile.open(tar, "w") as file:
        for name in SENT:
            file.add(ROOT / name, name, filter=wanted)
        for package in (ROOT / "build" / "dist").glob("zombiebpf*"):
            file.add(package, f"dist/{package.name}", filter=wanted)
        given = tar.with_name("job.json")
        given.write_text(job)
        file.add(given, "job.json", filter=wanted)
    size = tar.stat().st_size
    with open(tar, "r+b") as whole:
        whole.truncate((size + 65535) // 65536 * 65536)


def _emulate(
    row: Row, image: Image, work: Path, console: Path, limit_s: float, arguments: Sequence[str]
) -> None:
    def disk(name: str, file: Path, options: str) -> list[str]:
        return [
            "-drive", f"if=none,id={name},format=raw,file={file},{options}",
            "-device", f"nvme,drive={name},serial={name}",
        ]  # fmt: skip

    append = [
        f"console={row.arch.console}", f"root=PARTUUID={DISK_ID:x}-01", "rootwait", "rw",
        "init=/sbin/zombiebpf-init", "panic=-1", "quiet", *arguments,
    ]  # fmt: skip
    command = [
        row.arch.qemu, *row.arch.machine,
        # with more of QEMU's threads, or more processors, emulated kernels crash now and then
        "-accel", "tcg,thread=single", "-smp", "1",
        "-m", "2048", "-kernel", str(image.kernel), "-append", " ".join(append),
        *disk("root", image.disk, "snapshot=on,cache=unsafe"),
        *disk("in", work / "in.tar", "readonly=on"),
        *disk("out", work / "out.img", "cache=unsafe"),
        "-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot",
        "-chardev", f"file,id=console,path={console}", "-serial", "chardev:console",
    ]  # fmt: skip
    if shutil.which("nice"):
        command = ["nice", "-n", "15", *command]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, errors = process.communicate(timeout=limit_s)
        if process.returncode:
            sys.stderr.write(errors.decode("utf-8", "replace"))
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()


def _unpack(image: Path, out: Path) -> None:
    """A VM that ended too early has written nothing, or not all."""
    try:
        with tarfile.open(image) as file:
            for member in file:
                name = Path(member.name)
                if member.isfile() and not name.is_absolute() and ".." not in name.parts:
                    content = file.extractfile(member)
                    assert content is not None
                    (out / name.name).write_bytes(content.read())
    except (tarfile.TarError, EOFError):
        pass
