# SPDX-License-Identifier: Apache-2.0
"""Cache what takes long to make: compiled probes, what the kernel and interpreters are.

A file is named by a hash of everything that it was made from, and begins with a checksum. It
is loaded only if no other user can have written it: this user owns it and its directory,
nobody else may write to them, and no link is followed. After any error it is made again.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Callable, Optional

CACHE = "ZOMBIEBPF_CACHE"  # environment: another directory; empty: no cache
_ROOT_DIRECTORY = "/var/cache/zombiebpf"
PROBES, BOOT, IMAGES = KINDS = ("probes", "boot", "images")
_MAX_FILES = 64  # of a kind; compiled probes have some 100 KB
_DIGEST_BYTES = hashlib.sha256().digest_size
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


def name_of(kind: str, parts: Iterable[bytes]) -> str:
    """Return the name of a file that is made from `parts`; `kind` is one of KINDS."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(b"%d:" % len(part) + part)
    return f"{whole.hexdigest()}.{kind}"


def find(name: str) -> Optional[bytes]:
    """Return what was kept. None if it is not cached, damaged or not to be trusted."""
    try:
        with _directory() as directory:
            descriptor = os.open(name, _READ, dir_fd=directory)
            with open(descriptor, "rb") as file:
                if not _is_ours(os.fstat(descriptor), stat.S_ISREG):
                    return None
                digest, data = file.read(_DIGEST_BYTES), file.read()
    except OSError:
        return None
    return data if digest == hashlib.sha256(data).digest() else None


def keep(name: str, data: bytes) -> None:
    """Store a file, completely or not at all."""
    directory = directory_path()
    if directory is None:
        return
    with suppress(OSError):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with _directory() as opened:
            _write(opened, name, hashlib.sha256(data).digest() + data)
            _prune(opened)


def forget(name: str) -> None:
    """Remove a file, if it is there."""
    with suppress(OSError), _directory() as opened:
        os.unlink(name, dir_fd=opened)


def _write(directory: int, name: str, data: bytes) -> None:
    part = f".{os.urandom(8).hex()}"
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
    """Remove the oldest files of each kind."""
    with os.scandir(directory) as entries:
        every = sorted(entries, key=lambda each: each.stat(follow_symlinks=False).st_mtime_ns)
    for kind in KINDS:
        for entry in [each for each in every if each.name.endswith(f".{kind}")][:-_MAX_FILES]:
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
