# SPDX-License-Identifier: Apache-2.0
"""Which interpreters are likely to be started on this machine, and by which programs?

For probes that must be in place before the interpreter starts. Files are read,
nothing is executed.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Optional

from zombiebpf.python import elf
from zombiebpf.python.image import Image, read_image

_NAMES = re.compile(r"(python|pypy)(3(\.\d+)?[a-z]*)?")
_USUAL = ("/usr/bin", "/usr/local/bin", "/opt/*/bin", "/opt/python/*/bin")
_LIBRARIES = (
    f"/lib/{platform.machine()}-linux-gnu",
    f"/usr/lib/{platform.machine()}-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/lib64",
)
_LD_SO_CONF = "/etc/ld.so.conf"
_SHEBANG_BYTES = 256  # BINPRM_BUF_SIZE: the kernel looks at no more
_SHEBANGS = 4  # of scripts that are the interpreter of another, as in the kernel


def known_pythons(environ_path: Sequence[str]) -> Iterator[Image]:
    """Images of the interpreters found by name, each file once.

    `environ_path` are the directories of PATH. Looked at as well: the usual
    directories, the chosen version of a pyenv whose shims are on PATH, and every
    libpython in the libraries' directories, which another program may load.
    """
    seen = set()
    for program in _candidates(environ_path):
        for image in _images_of(program):
            where = _identity(image.path)
            if where is not None and where not in seen:
                seen.add(where)
                yield image


def image_of_program(path: str, environ_path: Sequence[str] = ()) -> Optional[Image]:
    """The interpreter that a program is, links to, or names in its first line (#!).

    None: none of these, or the file cannot be read. `environ_path`: where the program
    that `#!/usr/bin/env NAME` names is looked for.
    """
    for _ in range(_SHEBANGS + 1):
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
    """The versions that `pyenv global` has set; the others are known once they have started,
    for each uprobe costs a tenth of a second when it is taken away."""
    try:
        with open(f"{pyenv}/version", encoding="utf-8", errors="replace") as file:
            return [word for word in file.read(4096).split() if "/" not in word]
    except OSError:
        return []


def _images_of(path: str) -> Iterator[Image]:
    """The interpreter in a file, else the one in a libpython that the file links to."""
    try:
        image = read_image(path, os.path.realpath(path))
        if image is not None:
            yield image
            return
        with open(path, "rb", opener=_no_wait) as file:
            if file.read(4) != b"\x7fELF":
                return
            file.seek(0)
            dynamic = elf.Elf(file).dynamic()
    except (OSError, *elf.ERRORS):
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


def _library(name: str, path: str, dynamic: dict[str, list[str]]) -> Optional[str]:
    """Where ld.so finds a library (man 8 ld.so); LD_LIBRARY_PATH is the program's own."""
    origin = os.path.dirname(os.path.realpath(path))
    said = dynamic.get("runpath") or dynamic.get("rpath") or []
    directories = [
        each.replace("$ORIGIN", origin).replace("${ORIGIN}", origin)
        for run in said
        for each in run.split(":")
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
    """The program that runs a script; None: it is no script, or names none that is there."""
    try:
        with open(path, "rb", opener=_no_wait) as file:
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
    """The program's name among the arguments of env(1)."""
    if words and words[0] in ("-S", "--split-string"):
        try:
            words = shlex.split(" ".join(words[1:]))
        except ValueError:
            return None
    return next((each for each in words if "=" not in each and not each.startswith("-")), None)


def _no_wait(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _identity(path: str) -> Optional[tuple[int, int]]:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
