# SPDX-License-Identifier: Apache-2.0
"""Find the CPythons that the unit tests compare with: this one, pyenv's, the distribution's."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from functools import cache
from typing import NamedTuple, Optional

_ASK = """
import sys, sysconfig
from os.path import realpath
assert sys.implementation.name == "cpython" and sys.version_info >= (3, 6)
print(*sys.version_info[:3])
print(realpath(sys.executable))
print(sysconfig.get_path("include"))
print(sysconfig.get_path("stdlib"))
print(int(bool(sysconfig.get_config_var("Py_GIL_DISABLED") or hasattr(sys, "gettotalrefcount"))))
"""


class Installed(NamedTuple):
    version: tuple[int, int, int]
    program: str
    include: str
    stdlib: str
    odd: bool  # free-threaded or a debug build

    @property
    def label(self) -> str:
        place = "pyenv" if "/versions/" in self.program else self.program.split("/")[1]
        return f"{'.'.join(map(str, self.version))}-{place}"

    @property
    def has_internal_headers(self) -> bool:
        return os.path.exists(f"{self.include}/internal")


@cache
def installed() -> tuple[Installed, ...]:
    """Return every CPython from 3.6 on that runs; the one that runs the tests is among them."""
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    programs = [sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"]
    programs += sorted(glob.glob(f"{glob.escape(pyenv)}/versions/3.*/bin/python"))
    found = {}
    for program in dict.fromkeys(map(os.path.realpath, programs)):
        each = _ask(program)
        if each is not None:
            found[each.program] = each
    assert found, "not even the interpreter of the tests"
    return tuple(sorted(found.values()))


def readable() -> list[Installed]:
    """Return the CPythons whose stacks can be read."""
    return [each for each in installed() if each.version >= (3, 7) and not each.odd]


def _ask(program: str) -> Optional[Installed]:
    try:
        done = subprocess.run([program, "-I", "-c", _ASK], capture_output=True, text=True)
    except OSError:
        return None
    if done.returncode:
        return None
    version, program, include, stdlib, odd = done.stdout.splitlines()
    major, minor, micro = map(int, version.split())
    return Installed((major, minor, micro), program, include, stdlib, bool(int(odd)))
