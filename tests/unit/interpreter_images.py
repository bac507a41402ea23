# SPDX-License-Identifier: Apache-2.0
"""Build images of interpreters whose files do not exist."""

from __future__ import annotations

from typing import Any

from zombiebpf.python.image import Image
from zombiebpf.python.offsets import Offsets, offsets_of

CODE = bytes(byte * 7 + 3 & 0xFF for byte in range(64))  # of the start function


def offsets(minor: int) -> Offsets:
    found = offsets_of((3, minor, -1))
    assert found is not None
    return found


def image(path: str, minor: int = 11, **over: Any) -> Image:
    given: dict[str, Any] = {
        "path": path,
        "version": (3, minor, 0),
        "runtime": 0x900000,
        "code_type": 0x8F0000,
        "str_type": 0x8E0000,
        "bytes_type": 0x8D0000,
        "init": 0x12345678ABC,
        "init_offset": 0x78ABC,
        "init_bytes": CODE,
        "offsets": offsets(minor),
        "text_delta": 0,
        "problem": None,
    }
    return Image(**{**given, **over})
