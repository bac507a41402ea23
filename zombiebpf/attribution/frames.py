# SPDX-License-Identifier: Apache-2.0
"""Whose code is a frame: the standard library's, an installed package's, or the user's own?

Told by the file name alone, as the interpreter has it (`co_filename`), so that a
recorded trace says the same on every machine.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from zombiebpf.stack import Frame, Stack

# The directory of this package: what zombiebpf itself puts into a workload is not the user's.
OWN = __file__.rsplit("/", 2)[0] + "/"

# Lib/site.py: <prefix>/lib/python3.11/site-packages, Debian's dist-packages; the last one counts.
_PACKAGES = re.compile(r".*/(?:site|dist)-packages/(.+)", re.DOTALL)
# <prefix>/lib/python3.11/, lib64 too, PyPy's lib/pypy3.9/, a zipped library python311.zip/
_LIBRARY = re.compile(
    r".*/(?:lib(?:32|64)?/(?:python|pypy)\d[^/]*|python\d+[^/]*\.zip)/(.+)", re.DOTALL
)
_FROZEN = re.compile(r"<frozen ([\w.]+)>")

# `python -c` of the library itself: multiprocessing/{spawn,forkserver,resource_tracker}.py run
# their children as `python -c 'from multiprocessing.spawn import spawn_main; ...'`.
_LAUNCHED = re.compile(
    r"(?:multiprocessing|billiard|loky\.backend|joblib\.externals\.loky\.backend)"
    r"\.(?:spawn|forkserver|\w*resource_tracker|semaphore_tracker|popen_loky_posix)"
)


class Origin(NamedTuple):
    """Where a frame's code comes from."""

    module: str  # `multiprocessing.process`; a user's file is `/home.me.app`
    user: bool


def origin(file: str) -> Origin:
    """The origin of a file name."""
    frozen = _FROZEN.fullmatch(file)
    if frozen:
        return Origin(frozen[1], False)
    packages = _PACKAGES.fullmatch(file)
    if packages:
        return Origin(_dotted(packages[1]), False)
    library = _LIBRARY.fullmatch(file)
    if library:
        return Origin(_dotted(library[1]), False)
    if file.startswith(OWN):
        return Origin("zombiebpf." + _dotted(file[len(OWN) :]), False)
    return Origin("/" + _dotted(file.lstrip("/")), True)


def _dotted(path: str) -> str:
    for end in ("/__init__.py", ".pyc", ".py"):
        if path.endswith(end):
            path = path[: -len(end)]
            break
    return path.replace("/", ".")


def origins(stack: Stack) -> tuple[Origin, ...]:
    """Of each frame, innermost first."""
    found = [origin(frame.file) for frame in stack.frames]
    for index, frame in enumerate(stack.frames):
        if (
            index
            and frame.file == "<string>"
            and frame.function == "<module>"
            and _LAUNCHED.fullmatch(found[index - 1].module)
        ):
            found[index] = Origin("<string>", False)
    return tuple(found)


def users_frame(stack: Stack) -> Optional[Frame]:
    """The innermost frame of the user's own code; None if there is none."""
    index = users_index(origins(stack))
    return stack.frames[index] if index < len(stack.frames) else None


def users_index(found: tuple[Origin, ...]) -> int:
    """Index of the innermost frame of the user's own code, else the number of frames."""
    for index, each in enumerate(found):
        if each.user:
            return index
    return len(found)


# multiprocessing/popen_fork.py _launch(): in the forked child it calls this; what is outside of
# it was called by the parent, before the fork.
_BOOTSTRAPS = frozenset({"multiprocessing.process", "billiard.process"})


def library_end(stack: Stack, found: tuple[Origin, ...]) -> int:
    """How many of the innermost frames are library code that nobody else's is among, and that
    this process itself has called."""
    for index, each in enumerate(found):
        if each.user:
            return index
        if each.module in _BOOTSTRAPS and stack.frames[index].function.endswith("_bootstrap"):
            return index + 1
    return len(found)
