# SPDX-License-Identifier: Apache-2.0
"""Cache compiled probes: clang takes a second, but only at the first start on a machine.

A file is named by a hash of everything that it was compiled from. It is loaded only if no
other user can have written it: this user owns it and its directory, nobody else may write
to them, and no link is followed. After any error the probes are compiled again.
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

from zombiebpf.bpf import headers
from zombiebpf.bpf.compiled import Compiled
from zombiebpf.bpf.locate_bcc import find_bcc
from zombiebpf.kernel.compiler import CFLAGS

CACHE = "ZOMBIEBPF_CACHE"  # environment: another directory; empty: no cache
_ROOT_DIRECTORY = "/var/cache/zombiebpf"
_MAX_FILES = 64  # one of some 100 KB for each kernel, bcc and choice of hooks
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # opening a FIFO must not block
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def directory_path() -> Optional[str]:
    """Return the directory of the cache; None if there is no cache."""
    chosen = os.environ.get(CACHE)
    if chosen is not None:
        return chosen or None
    if os.geteuid() == 0:
        return _ROOT_DIRECTORY
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "zombiebpf") if os.path.isabs(base) else None


def name_of(text: str) -> str:
    """Return the file's name for this source and compiler. Raise ZombiebpfError without bcc."""
    package = find_bcc()
    whole = hashlib.sha256()
    for part in (text, *CFLAGS, headers.kconfig(), platform.machine(), str(package)):
        whole.update(part.encode() + b"\0")
    for file in ("version.py", "libbcc.py", "__init__.py"):
        with suppress(OSError):
            whole.update((package / file).read_bytes())
    return f"{whole.hexdigest()}.probes"


def find(name: str) -> Optional[Compiled]:
    """Load compiled probes. Return None if they are not cached or not to be trusted."""
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
    """Store compiled probes, completely or not at all."""
    directory = directory_path()
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
    """Remove the oldest files."""
    with os.scandir(directory) as entries:
        found = [entry for entry in entries if entry.name.endswith(".probes")]
    found.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime_ns)
    for entry in found[:-_MAX_FILES]:
        os.unlink(entry.name, dir_fd=directory)


@contextmanager
def _directory() -> Iterator[int]:
    """Open the directory. Raise OSError if there is none or it is not to be trusted."""
    path = directory_path()
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
