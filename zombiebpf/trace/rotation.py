# SPDX-License-Identifier: Apache-2.0
"""When a trace goes on in the next file, and what the files before are called."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Optional


class Rotation(NamedTuple):
    """Whichever is not None."""

    size_bytes: Optional[int]  # of the file, roughly: looked at as batches are written
    age_ns: Optional[int]


def part_name(path: str, part: int) -> str:
    """`night.db`, 3 -> `night.0003.db`."""
    stem, extension = os.path.splitext(path)
    return f"{stem}.{part:04}{extension}"


def parts_beside(path: str) -> list[str]:
    """Earlier parts of a trace that lie in its directory, in their order."""
    stem, extension = os.path.splitext(os.path.basename(path))
    directory = os.path.dirname(path)
    wanted = re.compile(re.escape(stem) + r"\.(\d{4,})" + re.escape(extension), re.ASCII)
    try:
        names = os.listdir(directory or ".")
    except OSError:
        return []
    found = {int(match[1]): name for name in names if (match := wanted.fullmatch(name))}
    return [os.path.join(directory, found[number]) for number in sorted(found)]
