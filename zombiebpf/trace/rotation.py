# SPDX-License-Identifier: Apache-2.0
"""Decide when a trace goes on in a new file, and name the earlier parts."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Optional


class Rotation(NamedTuple):
    """The limit of one file: exactly one of the two is not None."""

    size_bytes: Optional[int]  # approximate: it is checked after each batch
    age_ns: Optional[int]


def part_name(path: str, part: int) -> str:
    """Return the name of an earlier part: `night.0003.db` for `night.db` and 3."""
    stem, extension = os.path.splitext(path)
    return f"{stem}.{part:04}{extension}"


def parts_beside(path: str) -> list[str]:
    """Return the paths of the earlier parts of a trace in its directory, in their order."""
    stem, extension = os.path.splitext(os.path.basename(path))
    directory = os.path.dirname(path)
    wanted = re.compile(re.escape(stem) + r"\.(\d{4,})" + re.escape(extension), re.ASCII)
    try:
        names = os.listdir(directory or ".")
    except OSError:
        return []
    found = {int(match[1]): name for name in names if (match := wanted.fullmatch(name))}
    return [os.path.join(directory, found[number]) for number in sorted(found)]
