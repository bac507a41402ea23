# SPDX-License-Identifier: Apache-2.0
"""Distinguish frames of the standard library, of installed packages and of the user's own code.

The file name alone decides, as the interpreter has it (`co_filename`), so that a
recorded trace is attributed alike on every machine.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from zombiebpf.model.stack import Stack

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
    """The module of a frame, and whether it is the user's own."""

    module: str  # `multiprocessing.process`; a user's file is `/home.me.app`
    user: bool


@lru_cache(4096)
def origin(file: str) -> Origin:
    """Return the origin of a file name (`co_filename`)."""
    frozen = _FROZEN.fullmatch(file)
    if frozen:
        return Origin(frozen[1], False)
    installed = _PACKAGES.fullmatch(file) or _LIBRARY.fullmatch(file)
    if installed:
        return Origin(_dotted(installed[1]), False)
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
    """Return the origin of each frame, innermost first."""
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


def user_index(found: tuple[Origin, ...]) -> int:
    """Return the index of the innermost frame of the user's code, else the number of frames."""
    return next((index for index, each in enumerate(found) if each.user), len(found))


# multiprocessing/popen_fork.py _launch(): the forked child calls its _bootstrap(). Frames outside
# of that were called by the parent, before the fork.
_BOOTSTRAPS = frozenset({"multiprocessing.process", "billiard.process"})


def library_end(stack: Stack, found: tuple[Origin, ...]) -> int:
    """Return how many of the innermost frames are library code that this process itself called.

    They end at the first frame of the user's code, or with the bootstrap of a forked child.
    """
    for index, each in enumerate(found):
        if each.user:
            return index
        if each.module in _BOOTSTRAPS and stack.frames[index].function.endswith("_bootstrap"):
            return index + 1
    return len(found)
