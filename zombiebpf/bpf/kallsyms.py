# SPDX-License-Identifier: Apache-2.0
"""Find the addresses of kernel functions in /proc/kallsyms."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

KALLSYMS = Path("/proc/kallsyms")


class Range(NamedTuple):
    """The addresses [start, end) of a function, or of a part that the compiler split off."""

    name: str
    start: int
    end: int


def find_functions(names: Iterable[str], kallsyms: Path = KALLSYMS) -> list[Range]:
    """Return address ranges of functions and of their .part, .isra, .cold pieces.

    [] if the addresses are hidden (kernel.kptr_restrict, no CAP_SYSLOG) or all the
    functions are inlined. The end is the next symbol's start.
    """
    try:
        text = kallsyms.read_bytes()
    except OSError:
        return []
    wanted = b"|".join(re.escape(name.encode()) for name in names)
    pattern = re.compile(rb"^([0-9a-f]+) [tT] ((?:%s)(?:\.[.\w]+)?)$" % wanted, re.MULTILINE)
    found = []
    for match in pattern.finditer(text):
        start = int(match[1], 16)
        if not start:
            return []
        found.append(Range(match[2].decode(), start, _next_address(text, match.end(), start)))
    return found


def has_symbol(name: str, kallsyms: Path = KALLSYMS) -> bool:
    """Return whether the kernel has a symbol; False if the file cannot be read.

    Names are shown even if addresses are hidden.
    """
    try:
        text = kallsyms.read_bytes()
    except OSError:
        return False
    pattern = rb"^[0-9a-f]+ \w %s$" % re.escape(name.encode())
    return re.search(pattern, text, re.MULTILINE) is not None


def _next_address(text: bytes, at: int, start: int) -> int:
    """Return the next greater address: symbols are listed in the order of their addresses."""
    for match in re.compile(rb"^([0-9a-f]+) ", re.MULTILINE).finditer(text, at):
        address = int(match[1], 16)
        if address > start:
            return address
    return start + 0x1000
