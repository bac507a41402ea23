# SPDX-License-Identifier: Apache-2.0
"""Find the Python interpreter in a process."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional, Union

from zombiebpf.python.image import Image, read_image

_DELETED = " (deleted)"
_PYTHON = re.compile(r"(lib)?(python|pypy)[\d.]*[a-z]*(-c)?(\.so[\d.]*)?")


class Interpreter(NamedTuple):
    """An interpreter whose stacks can be read, with its addresses in the process."""

    image: Image
    runtime: int  # of _PyRuntime
    code_type: int  # of PyCode_Type


class Unsupported(NamedTuple):
    """A Python interpreter whose stacks cannot be read."""

    name: str  # `CPython 3.13.0`, `PyPy 3.9`
    reason: str  # `free-threaded`, `musl`


class _Mapping(NamedTuple):
    """A mapping of an executable part of a file."""

    start: int
    end: int
    offset: int
    inode: int
    path: str  # in the process's mount namespace

    @property
    def name(self) -> str:
        path = self.path
        return os.path.basename(path[: -len(_DELETED)] if path.endswith(_DELETED) else path)


def find_interpreter(pid: int, proc: str = "/proc") -> Union[Interpreter, Unsupported, None]:
    """Return the interpreter of a process; None if it is not Python or cannot be read.

    `proc` is a procfs of the PID namespace of `pid`. The mapped files are read even if they
    are deleted or in another mount namespace.
    """
    directory = f"{proc}/{pid}"
    try:
        with open(f"{directory}/maps", encoding="utf-8", errors="surrogateescape") as file:
            mappings = list(_mappings(file))
        program = os.readlink(f"{directory}/exe")
    except OSError:
        return None  # exited, a kernel thread, or without permission
    unsupported = None
    for mapping in sorted(mappings, key=lambda each: _likely(each, program)):
        image = _image(directory, mapping, program)
        if image is None:
            continue
        reason = image.problem
        if reason is None and any(each.name.startswith("ld-musl-") for each in mappings):
            reason = "musl"
        if reason is not None:
            unsupported = unsupported or Unsupported(image.name, reason)
            continue
        bias = image.bias(mapping.start, mapping.offset)
        return Interpreter(image, image.runtime + bias, image.code_type + bias)
    return unsupported


def _mappings(lines: Iterable[str]) -> Iterator[_Mapping]:
    """Yield the first executable mapping of each file."""
    seen = set()
    for line in lines:
        part = line.rstrip("\n").split(None, 5)
        if len(part) < 6 or "x" not in part[1] or not part[5].startswith("/"):
            continue
        key = (part[3], part[4])
        if key in seen:
            continue
        seen.add(key)
        start, _, end = part[0].partition("-")
        # The kernel escapes newlines in names, and nothing else.
        path = part[5].replace("\\012", "\n")
        yield _Mapping(int(start, 16), int(end, 16), int(part[2], 16), int(part[4]), path)


def _likely(mapping: _Mapping, program: str) -> int:
    """Return a sort key, the smallest for the file that probably has the interpreter."""
    if _PYTHON.fullmatch(mapping.name):
        return 0
    return 1 if mapping.path == program else 2


def _image(directory: str, mapping: _Mapping, program: str) -> Optional[Image]:
    """Return the interpreter in a mapped file; None if there is none or it cannot be read."""
    for path in (
        # Exactly the mapped file, even if its name was reused; needs CAP_SYS_ADMIN or
        # CAP_CHECKPOINT_RESTORE in the initial user namespace.
        f"{directory}/map_files/{mapping.start:x}-{mapping.end:x}",
        *([f"{directory}/exe"] if mapping.path == program else []),
        f"{directory}/root{mapping.path}",
    ):
        try:
            # The device is not compared: stat(2) has another one on btrfs and overlayfs.
            if os.stat(path).st_ino == mapping.inode:
                return read_image(path, mapping.path)
        except OSError:
            continue
    return None
