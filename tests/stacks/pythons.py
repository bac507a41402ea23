# SPDX-License-Identifier: Apache-2.0
"""Which Pythons are on this machine?"""

from __future__ import annotations

import glob
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

OLDEST, NEWEST = (3, 7), (3, 15)
DEADLINE_S = 30.0 * float(os.environ.get("ZOMBIEBPF_PATIENCE", "1"))

_ASK = """
import json, os, sys, sysconfig
print(json.dumps({
    "program": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
    "version": list(sys.version_info[:3]),
    "implementation": sys.implementation.name,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
}))
"""


class Python(NamedTuple):
    """An interpreter, by its own word."""

    program: str
    version: tuple[int, ...]
    unfit: Optional[str]  # why its stacks are not captured

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.version))} {self.program}"


def ask(program: str) -> Optional[Python]:
    """None if it is no Python 3 that runs."""
    try:
        done = subprocess.run(
            [program, "-I", "-c", _ASK],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=DEADLINE_S,
            check=True,
        )
        answer = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    version = tuple(answer["version"])
    unfit = None
    if answer["implementation"] != "cpython":
        unfit = f"it is {answer['implementation']}"
    elif answer["free_threaded"]:
        unfit = "it is free-threaded"
    elif not OLDEST <= version[:2] <= NEWEST:
        unfit = "its version is not covered"
    return Python(answer["program"], version, unfit)


def installed() -> list[Python]:
    """Each interpreter once, by version: pyenv's, those on PATH, the distribution's."""
    found = {}
    for candidate in dict.fromkeys(map(os.path.realpath, _candidates())):
        python = ask(candidate)
        if python is not None:
            found[python.program] = python
    return sorted(found.values(), key=lambda each: (each.version, each.program))


def _candidates() -> Iterator[str]:
    for root in _pyenv_roots():
        yield from glob.glob(os.path.join(glob.escape(root), "versions", "*", "bin", "python"))
    directories = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin", "/usr/local/bin"]
    for directory in filter(os.path.isabs, directories):
        if os.path.basename(directory) == "shims":
            continue  # pyenv's programs that choose a program
        yield from glob.glob(os.path.join(glob.escape(directory), "python3"))
        yield from glob.glob(os.path.join(glob.escape(directory), "python3.[0-9]*[0-9]"))


def _pyenv_roots() -> Sequence[str]:
    roots = [os.environ.get("PYENV_ROOT", "")]
    roots += [
        os.path.expanduser(f"~{user}/.pyenv")
        for user in ("", os.environ.get("SUDO_USER"))
        if user is not None
    ]
    return [root for root in dict.fromkeys(roots) if os.path.isdir(root)]
