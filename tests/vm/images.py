# SPDX-License-Identifier: Apache-2.0
"""A row's kernel and root disk, made from Debian's packages alone and kept between runs."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.vm.rows import Row

GUEST = Path(__file__).resolve().parent / "guest"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DISK_ID = 0x564D4C42  # root=PARTUUID=564d4c42-01: the names of NVMe disks are not stable
_FORMAT = 1  # of what is built here: a greater number makes all images anew
_SECTORS = 2048  # of 512 bytes before the partition
_WHEELS = ("click>=8,<9", "pyyaml>=5.4", "rich>=12", "pyelftools", "jinja2", "pytest>=7",
           "jsonschema>=4", "exceptiongroup", "tomli", "typing-extensions")  # fmt: skip


class Image(NamedTuple):
    kernel: Path
    disk: Path
    release: str


class ImageError(Exception):
    """One line: what could not be made, and the fix."""


def cache() -> Path:
    """Where images lie: ZOMBIEBPF_VM_CACHE, else the user's cache."""
    chosen = os.environ.get("ZOMBIEBPF_VM_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "zombiebpf-vm"


def mirror() -> str:
    """The machine's own Debian mirror."""
    chosen = os.environ.get("ZOMBIEBPF_VM_MIRROR")
    if chosen:
        return chosen
    output = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    for line in output.splitlines():
        uri, _, label = line.partition(" ")
        if label == "Debian":  # the archive's own word; its security updates have another
            return uri
    raise ImageError("apt knows no mirror of Debian: name one by ZOMBIEBPF_VM_MIRROR")


def missing_tools(row: Row) -> list[str]:
    """Commands; tools/setup.sh knows which packages bring them."""
    wanted = [row.arch.qemu, "mmdebstrap", "mke2fs", "dpkg-deb"]
    if row.arch.debian != _own_architecture():  # its packages' scripts are run here
        wanted += [f"qemu-{row.arch.user}-static", "arch-test"]
    return [tool for tool in wanted if not _which(tool)]


def require_tools(row: Row) -> None:
    """ImageError names the commands that are missing."""
    missing = " ".join(missing_tools(row))
    if missing:
        raise ImageError(f"missing: {missing}; install them: sudo tools/setup.sh {missing}")


def _own_architecture() -> str:
    return subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=False
    ).stdout.strip()


def _which(tool: str) -> bool:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def image(row: Row) -> Image:
    """Build what is not in the cache yet. ImageError if that fails."""
    parts = [row.packages, row.suite, row.arch.debian, row.wheels, _WHEELS, _FORMAT]
    recipe = f"{parts}{(GUEST / 'init').read_text()}"
    key = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    place = cache() / f"{row.name}-{key}"
    if not (place / "release").is_file():
        if os.geteuid() != 0:
            raise ImageError("its image is not there yet, and making it needs root: try sudo")
        for old in cache().glob(f"{row.name}-*"):
            shutil.rmtree(old)
        place.mkdir(parents=True)
        _build(row, place)
    return Image(place / "vmlinuz", place / "disk.img", (place / "release").read_text().strip())


def _build(row: Row, place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place, prefix="building-") as scratch:
        work = Path(scratch)
        root = work / "root"
        tar = work / "root.tar"
        _mmdebstrap(row, work, tar)
        root.mkdir()
        _run("tar", "-xf", str(tar), "-C", str(root))
        tar.unlink()
        release = _take_kernel(root, place)
        shutil.copy(GUEST / "init", root / "sbin/zombiebpf-init")
        (root / "sbin/zombiebpf-init").chmod(0o755)
        _disk(root, place / "disk.img")
    (place / "release").write_text(release + "\n")


def _mmdebstrap(row: Row, work: Path, tar: Path) -> None:
    fetch = (
        "cd /var/tmp; "
        "d() { apt-cache depends $1 | sed -n 's/^ *Depends: //p' | grep -E $2 || :; }; "
        f"i=$(d {row.kernel_package} '^linux-image-[0-9]'); "
        "apt-get -qq -o APT::Sandbox::User=root download $i $(d $i '^linux-binary-[0-9]')"
    )
    hooks = [f'chroot "$1" sh -ec {shlex.quote(fetch)}']
    if row.wheels:
        wheels = work / "wheels"
        _wheels(row.wheels, wheels)
        hooks.append(f'cp -r {shlex.quote(str(wheels))} "$1/var/tmp/wheels"')
        hooks.append(
            'chroot "$1" env -u PIP_FIND_LINKS python3 -m pip install -q --no-index '
            "--find-links /var/tmp/wheels " + shlex.join(_WHEELS)
        )
    _run(
        "mmdebstrap", "--mode=root", "--variant=apt", "--quiet",
        f"--architectures={row.arch.debian}", f"--include={row.packages}",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Check-Valid-Until "false"',
        *(f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("doc", "man", "locale")),
        *(f"--customize-hook={hook}" for hook in hooks),
        row.suite, str(tar), f"deb [signed-by={KEYRING}] {mirror()} {row.suite} main",
    )  # fmt: skip


def _wheels(version: str, directory: Path) -> None:
    _run(
        "python3", "-m", "pip", "download", "-q", "--only-binary=:all:", "-d", str(directory),
        "--python-version", version, "--platform", "manylinux2014_x86_64",
        "--platform", "manylinux_2_17_x86_64", *_WHEELS,
    )  # fmt: skip


def _take_kernel(root: Path, place: Path) -> str:
    """Out of the packages that were fetched; its release. There is no initrd: what the disk and
    its file system need is built in."""
    packages = sorted((root / "var/tmp").glob("linux-*.deb"))
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        for package in packages:
            _run("dpkg-deb", "-x", str(package), scratch)
            package.unlink()
        found = sorted(Path(scratch).rglob("vmlinuz*"))
        if not found:
            raise ImageError(f"no kernel in {', '.join(p.name for p in packages)}")
        shutil.copyfile(found[0], place / "vmlinuz")
        config = [path.name for path in Path(scratch).rglob("config-*")]
        modules = [path.name for path in Path(scratch).glob("*/lib/modules/*")]
        modules += [path.name for path in Path(scratch).glob("lib/modules/*")]
        return (modules or [name[len("config-") :] for name in config] or ["unknown"])[0]


def _disk(root: Path, disk: Path) -> None:
    """An ext4 partition behind an MBR, without loop devices."""
    used = int(_run("du", "-sm", str(root)).split()[0])
    size = used * 12 // 10 + 1200  # MiB
    with open(disk, "wb") as file:
        file.truncate((size + 1) << 20)
    _run(
        "mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={_SECTORS * 512}", "-O", "^has_journal",
        "-m", "0", "-d", str(root), str(disk), f"{size}M",
    )  # fmt: skip
    mbr = bytearray(512)
    mbr[440:444] = struct.pack("<I", DISK_ID)
    entry = (0, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", _SECTORS, size * 2048)
    mbr[446:462] = struct.pack("<B3sB3sII", *entry)
    mbr[510:] = b"\x55\xaa"
    with open(disk, "r+b") as file:
        file.write(mbr)


def _run(*command: str) -> str:
    env = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, check=False
    )
    if done.returncode:
        raise ImageError(f"{shlex.join(command[:2])} failed:\n{_tail(done.stderr + done.stdout)}")
    return done.stdout


def _tail(text: str, lines: Sequence[str] = ()) -> str:
    lines = text.strip().splitlines()
    return "\n".join(lines[-12:])
