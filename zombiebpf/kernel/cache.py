# SPDX-License-Identifier: Apache-2.0
"""Compiled probes are kept, so that only the first start on a machine takes clang's second.

What is kept is named by a hash of all that it was made from, and is loaded only if
nobody else can have written it: the directory and the file are ours and no one
else's to write to, and no link is followed. Whatever goes wrong here only means
that they are compiled again.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Callable, Optional

from zombiebpf.kernel import headers
from zombiebpf.kernel.compiled import Compiled
from zombiebpf.kernel.compiler import CFLAGS
from zombiebpf.kernel.locate import find_bcc

CACHE = "ZOMBIEBPF_CACHE"  # environment: another directory; empty: keep nothing
_ROOTS = "/var/cache/zombiebpf"
_MOST = 64  # files; each kernel, bcc and choice of hooks has its own, of some 100 KB
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO keeps nobody waiting
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def place() -> Optional[str]:
    """The directory; None: nothing is kept."""
    chosen = os.environ.get(CACHE)
    if chosen is not None:
        return chosen or None
    if os.geteuid() == 0:
        return _ROOTS
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "zombiebpf") if os.path.isabs(base) else None


def name_of(text: str) -> str:
    """The file's name for these sources and this machine's compiler. ZombiebpfError: no bcc."""
    package = find_bcc()
    whole = hashlib.sha256()
    for part in (text, *CFLAGS, headers.kconfig(), platform.machine(), str(package)):
        whole.update(part.encode() + b"\0")
    for file in ("version.py", "libbcc.py", "__init__.py"):
        with suppress(OSError):
            whole.update((package / file).read_bytes())
    return f"{whole.hexdigest()}.probes"


def find(name: str) -> Optional[Compiled]:
    """None: not there, or not to be trusted."""
    try:
        with _directory() as directory:
            descriptor = os.open(name, _READ, dir_fd=directory)
            with open(descriptor, "rb") as file:
                if not _is_ours(os.fstat(descriptor), stat.S_ISREG):
                    return None
                return Compiled.from_bytes(file.read())
    except (OSError, ValueError):
        return None


def keep(name: str, compiled: Compiled) -> None:
    """Whole or not at all."""
    directory = place()
    if directory is None:
        return
    with suppress(OSError):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with _directory() as opened:
            _write(opened, name, compiled.to_bytes())
            _prune(opened)


def _write(directory: int, name: str, data: bytes) -> None:
    part = f".{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with open(os.open(part, flags, 0o600, dir_fd=directory), "wb") as file:
            file.write(data)
        os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(part, dir_fd=directory)
        raise


def _prune(directory: int) -> None:
    """The oldest go."""
    with os.scandir(directory) as entries:
        found = [entry for entry in entries if entry.name.endswith(".probes")]
    found.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime_ns)
    for entry in found[:-_MOST]:
        os.unlink(entry.name, dir_fd=directory)


@contextmanager
def _directory() -> Iterator[int]:
    """A descriptor of the directory. OSError: it is not there, or not to be trusted."""
    path = place()
    if path is None:
        raise FileNotFoundError
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if not _is_ours(os.fstat(descriptor), stat.S_ISDIR):
            raise PermissionError
        yield descriptor
    finally:
        os.close(descriptor)


def _is_ours(about: os.stat_result, kind: Callable[[int], bool]) -> bool:
    return (
        kind(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & _OTHERS_WRITE
    )
