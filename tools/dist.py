# SPDX-License-Identifier: Apache-2.0
"""The release: source distribution, wheel and Debian package, the same bytes from the same source.

    python tools/dist.py DIRECTORY      # build twice, compare, write to DIRECTORY
    python tools/dist.py --deb DIRECTORY    # the wheel and the Debian package, once

Instants in the files are SOURCE_DATE_EPOCH, or the time of the last commit. Owners are root,
modes 0644 and 0755. No network is used: setuptools of this environment builds.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import deb

ROOT = Path(__file__).resolve().parent.parent
# What a build or a test leaves in a clone.
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".vagrant", "build", "dist", "node_modules", "*.egg-info", "__pycache__",
    ".*_cache",
)  # fmt: skip
HOOK = "import sys; from setuptools import build_meta; build_meta.{}(sys.argv[1])"


def source_date_epoch() -> int:
    """Return $SOURCE_DATE_EPOCH, else the time of the last commit, else now; in seconds."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):  # no git, or no clone of it
        return int(time.time())


def build_sdist(source: Path, target: Path, epoch: int) -> Path:
    """Build the source distribution from a copy of `source`; return its path."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "zombiebpf"
        shutil.copytree(source, copy, symlinks=True, ignore=LEFT_OUT)
        built = _call("build_sdist", copy, Path(scratch) / "built", epoch)
        return _normalise(built, target / built.name, epoch)


def build_wheel(sdist: Path, target: Path, epoch: int) -> Path:
    """Build the wheel from the source distribution; return its path."""
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(sdist) as archive:
            # Later Pythons ask for a filter, 3.9.16 and 3.11.3 have none.
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            archive.extractall(scratch)
        (source,) = Path(scratch).iterdir()
        return _call("build_wheel", source, target, epoch)


def _call(hook: str, source: Path, target: Path, epoch: int) -> Path:
    target.mkdir(exist_ok=True)
    before = set(target.iterdir())
    done = subprocess.run(
        [sys.executable, "-I", "-c", HOOK.format(hook), str(target.resolve())],
        cwd=source,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{hook} failed; see above")
    (built,) = set(target.iterdir()) - before
    return built


def _normalise(built: Path, target: Path, epoch: int) -> Path:
    """Write the archive anew with its files in order, and nothing of this machine in it."""
    packed = io.BytesIO()
    with (
        tarfile.open(built) as old,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            entry = tarfile.TarInfo(member.name)
            entry.type, entry.linkname, entry.size = member.type, member.linkname, member.size
            entry.mtime, entry.uname, entry.gname = epoch, "root", "root"
            entry.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(entry, old.extractfile(member) if member.isreg() else None)
    target.write_bytes(gzip.compress(packed.getvalue(), 9, mtime=epoch))
    return target


def build(source: Path, target: Path, epoch: int) -> list[Path]:
    """Build all three into the directory `target`, which has none yet; return their paths."""
    target.mkdir(parents=True, exist_ok=True)
    sdist = build_sdist(source, target, epoch)
    wheel = build_wheel(sdist, target, epoch)
    return [sdist, wheel, deb.build(wheel, target, epoch)]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Build, compare with a second build unless --deb is given, print what was made."""
    if shutil.which("dpkg-deb") is None:
        sys.exit("dist: dpkg-deb is not installed; install the package dpkg")
    os.umask(0o022)
    *options, directory = sys.argv[1:]
    target, epoch = Path(directory), source_date_epoch()
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"  # the clone may change meanwhile
        shutil.copytree(ROOT, source, symlinks=True, ignore=LEFT_OUT)
        made = build(source, Path(scratch) / "first", epoch)
        if "--deb" not in options:
            again = build(source, Path(scratch) / "second", epoch)
            differing = [a.name for a, b in zip(made, again) if _digest(a) != _digest(b)]
            if differing:
                sys.exit(f"{', '.join(differing)}: a second build has other bytes")
        target.mkdir(parents=True, exist_ok=True)
        for pattern in ("zombiebpf-*.tar.gz", "zombiebpf-*.whl", "zombiebpf_*.deb"):
            for old in target.glob(pattern):
                old.unlink()
        for path in made[1:] if "--deb" in options else made:
            print(_digest(path), shutil.copy(path, target))


if __name__ == "__main__":
    main()
