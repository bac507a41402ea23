# SPDX-License-Identifier: Apache-2.0
"""Find the interpreters that are likely to be started, for probes that must be placed before.

Files are read, nothing is executed.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Optional

from zombiebpf.python.image import Image, read_binary, read_image
from zombiebpf.python.source import open_nonblocking

_NAMES = re.compile(r"(python|pypy)(3(\.\d+)?[a-z]*)?")
_USUAL = ("/usr/bin", "/usr/local/bin", "/opt/*/bin", "/opt/python/*/bin")
_LIBRARIES = (
    f"/lib/{platform.machine()}-linux-gnu", f"/usr/lib/{platform.machine()}-linux-gnu",
    "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib", "/usr/local/lib64",
)  # fmt: skip
_LD_SO_CONF = "/etc/ld.so.conf"
_SHEBANG_BYTES = 256  # BINPRM_BUF_SIZE, what the kernel reads
_MAX_SHEBANGS = 4  # scripts that interpret scripts, as in the kernel


def known_pythons(environ_path: Sequence[str]) -> Iterator[Image]:
    """Yield the interpreters found by name, each file once.

    They are searched in `environ_path` (the directories of PATH), the usual directories, and
    the chosen version of a pyenv whose shims are in PATH. Any libpython in the libraries'
    directories is included: another program may load it.
    """
    seen = set()
    for program in _candidates(environ_path):
        for image in _images_of(program):
            with suppress(OSError):
                status = os.stat(image.path)
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    yield image


def image_of_program(path: str, environ_path: Sequence[str] = ()) -> Optional[Image]:
    """Return the interpreter that a program is, links to, or names in its first line (#!).

    None if there is none or the file cannot be read. `environ_path` are the directories
    where `#!/usr/bin/env NAME` finds NAME.
    """
    for _ in range(_MAX_SHEBANGS + 1):
        image = next(_images_of(path), None)
        if image is not None:
            return image
        following = _shebang(path, environ_path)
        if following is None:
            return None
        path = following
    return None


def _candidates(environ_path: Sequence[str]) -> Iterator[str]:
    directories = [each for each in environ_path if each]
    for directory in environ_path:
        if os.path.basename(directory.rstrip("/")) == "shims":
            pyenv = os.path.dirname(directory.rstrip("/"))
            directories += [f"{pyenv}/versions/{each}/bin" for each in _chosen(pyenv)]
    for pattern in _USUAL:
        directories += sorted(glob.glob(pattern))
    for directory in dict.fromkeys(directories):
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        yield from (f"{directory}/{name}" for name in names if _NAMES.fullmatch(name))
    for directory in _library_directories():
        yield from sorted(glob.glob(f"{glob.escape(directory)}/libpython3*.so.*"))


def _chosen(pyenv: str) -> list[str]:
    """Return the versions that `pyenv global` set.

    Others are found when they start: before Linux 6.6 it takes 0.1 s to detach each uprobe.
    """
    try:
        with open(f"{pyenv}/version", encoding="utf-8", errors="replace") as file:
            return [word for word in file.read(4096).split() if "/" not in word]
    except OSError:
        return []


def _images_of(path: str) -> Iterator[Image]:
    """Yield the interpreter in a file, else the one in a libpython that the file links to."""
    try:
        image, dynamic, _ = read_binary(path, os.path.realpath(path))
    except OSError:
        return
    if image is not None:
        yield image
        return
    for name in dynamic.get("needed", []):
        if not name.startswith(("libpython", "libpypy")):
            continue
        library = _library(name, path, dynamic)
        if library is None:
            continue
        try:
            image = read_image(library, os.path.realpath(library))
        except OSError:
            continue
        if image is not None:
            yield image


def _library(name: str, path: str, dynamic: Mapping[str, Sequence[str]]) -> Optional[str]:
    """Return where ld.so finds a library (man 8 ld.so), without LD_LIBRARY_PATH."""
    origin = os.path.dirname(os.path.realpath(path))
    runpath = dynamic.get("runpath") or dynamic.get("rpath") or []
    directories = [
        each.replace("$ORIGIN", origin).replace("${ORIGIN}", origin)
        for path_list in runpath
        for each in path_list.split(":")
    ]
    for directory in [*directories, *_library_directories()]:
        found = os.path.join(directory, name)
        if directory and os.path.isfile(found) and os.access(found, os.R_OK):
            return found
    return None


def _library_directories() -> list[str]:
    return list(dict.fromkeys([*_ld_so_conf(_LD_SO_CONF, depth=3), *_LIBRARIES]))


def _ld_so_conf(path: str, depth: int) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        word = line.partition("#")[0].split()
        if not word:
            continue
        if word[0] == "include" and depth:
            for pattern in word[1:]:
                found = os.path.join(os.path.dirname(path), pattern)
                for included in sorted(glob.glob(found)):
                    yield from _ld_so_conf(included, depth - 1)
        elif word[0].startswith("/"):
            yield word[0]


def _shebang(path: str, environ_path: Sequence[str]) -> Optional[str]:
    """Return the program that runs a script; None: not a script, or no such program."""
    try:
        with open(path, "rb", opener=open_nonblocking) as file:
            head = file.read(_SHEBANG_BYTES)
    except OSError:
        return None
    if not head.startswith(b"#!"):
        return None
    words = os.fsdecode(head[2:].partition(b"\n")[0]).split()
    if not words:
        return None
    if os.path.basename(words[0]) != "env":
        return words[0]
    name = _of_env(words[1:])
    if name is None or "/" in name:
        return name
    for directory in environ_path:
        found = os.path.join(directory, name)
        if os.path.isfile(found) and os.access(found, os.X_OK):
            return found
    return None


def _of_env(words: Sequence[str]) -> Optional[str]:
    """Return the program's name among the arguments of env(1)."""
    if words and words[0] in ("-S", "--split-string"):
        try:
            words = shlex.split(" ".join(words[1:]))
        except ValueError:
            return None
    return next((each for each in words if "=" not in each and not each.startswith("-")), None)
