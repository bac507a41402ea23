# SPDX-License-Identifier: Apache-2.0
"""The Debian package: the wheel's files where Debian wants them, man pages, completions.

tools/dist.py calls it. The package is made from the wheel with dpkg-deb alone, on any Debian:
bookworm's setuptools cannot read pyproject.toml's licence. The dependencies and their bounds
are those of the wheel.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import tempfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

from tools import manual

ROOT = Path(__file__).resolve().parents[1]
SITE = "usr/lib/python3/dist-packages"
# The names in Debian of what pyproject.toml asks for.
DEBIAN = {
    "click": "python3-click",
    "jinja2": "python3-jinja2",
    "pyelftools": "python3-pyelftools",
    "pyyaml": "python3-yaml",
    "rich": "python3-rich",
}
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions",
    "zsh": "usr/share/zsh/vendor-completions",
    "fish": "usr/share/fish/vendor_completions.d",
}
LAUNCHER = """#!/usr/bin/python3 -s
from zombiebpf.__main__ import main

main()
"""  # -s: nothing of the caller's ~/.local
POSTINST = """#!/bin/sh
set -e
if [ "$1" = configure ] && command -v py3compile >/dev/null; then
	py3compile -p zombiebpf
fi
"""
PRERM = """#!/bin/sh
set -e
if command -v py3clean >/dev/null; then
	py3clean -p zombiebpf
fi
"""


def depends(metadata: Message) -> str:
    """Return Debian's Depends of a wheel's Requires-Dist.

    Raise KeyError for a requirement that DEBIAN does not name.
    """
    found = ["python3 (>= 3.9)", "python3-bpfcc"]
    for requirement in metadata.get_all("Requires-Dist", []):
        wanted, _, marker = requirement.partition(";")
        if "extra" in marker:
            continue
        parsed = re.fullmatch(r"\s*([\w.-]+)\s*(?:\[[^]]*\])?\s*(.*?)\s*", wanted)
        assert parsed is not None, requirement
        package = DEBIAN[parsed[1].lower().replace("_", "-")]
        bounds = [each.strip() for each in parsed[2].strip("()").split(",") if each.strip()]
        found += [f"{package} ({_bound(bound)})" for bound in sorted(bounds)] or [package]
    return ", ".join(found)


def _bound(bound: str) -> str:
    """`>=8.0` is `>= 8.0`, `<9` is `<< 9~`: what precedes 9 is 9 already."""
    parsed = re.fullmatch(r"(>=|<)\s*([\d.]+)", bound)
    assert parsed is not None, bound
    return f">= {parsed[2]}" if parsed[1] == ">=" else f"<< {parsed[2]}~"


def build(wheel: Path, target: Path, epoch: int) -> Path:
    """Make the package of this wheel in the directory `target`; return its path.

    `epoch`: the time of its files, in seconds since 1970.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        root.chmod(0o755)
        metadata = _unpack(wheel, root / SITE)
        version = str(metadata["Version"])
        _write(root / "usr/bin/zombiebpf", LAUNCHER, 0o755)
        _documents(root)
        _write(root / "DEBIAN/control", _control(metadata, root))
        _write(root / "DEBIAN/postinst", POSTINST, 0o755)
        _write(root / "DEBIAN/prerm", PRERM, 0o755)
        package = target / f"zombiebpf_{version}_all.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(package)],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return package


def _unpack(wheel: Path, site: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        info = next(
            name for name in archive.namelist() if name.endswith(".dist-info/METADATA")
        ).rpartition("/")[0]
        for name in archive.namelist():
            # RECORD is pip's, which is not to remove files of dpkg's
            if not name.endswith("/") and not name.endswith(".dist-info/RECORD"):
                _write(site / name, archive.read(name))
        _write(site / info / "INSTALLER", "dpkg\n")
        return Parser().parsestr(archive.read(f"{info}/METADATA").decode("utf-8"))


def _documents(root: Path) -> None:
    for name, roff in manual.pages():
        _write(root / f"usr/share/man/man1/{name}.1.gz", _gzip(roff))
    for shell, place in COMPLETIONS.items():
        _write(root / place / manual.FILES[shell], manual.completion(shell))
    documents = root / "usr/share/doc/zombiebpf"
    _write(documents / "copyright", (ROOT / "LICENSE").read_bytes())
    _write(documents / "changelog.gz", _gzip((ROOT / "CHANGELOG.md").read_text("utf-8")))


def _control(metadata: Message, root: Path) -> str:
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    return (
        "Package: zombiebpf\n"
        f"Version: {metadata['Version']}\n"
        "Architecture: all\n"
        "Maintainer: zombiebpf authors <zombiebpf@localhost>\n"
        f"Installed-Size: {size // 1024 + 1}\n"
        f"Depends: {depends(metadata)}\n"
        "Section: utils\n"
        "Priority: optional\n"
        f"Description: {metadata['Summary']}\n"
        " zombiebpf observes an application's processes from within the kernel (eBPF) and\n"
        " tells of each when it was forked, died, became a zombie, was reparented and reaped,\n"
        " by whom and by which call. It changes nothing in what it observes.\n"
    )


def _gzip(text: str) -> bytes:
    return gzip.compress(text.encode("utf-8"), 9, mtime=0)


def _write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    path.chmod(mode)
