# SPDX-License-Identifier: Apache-2.0
"""How the sentences of a scenario write numbers, durations and wait calls.

They are ASCII in every report, because one run can be printed and saved as JSON.
"""

from __future__ import annotations

import os
from typing import Optional

from zombiebpf.model.life import ReapCall
from zombiebpf.wording.wording import Wording

WORDS = Wording(unicode=False)

OPTIONS = {  # include/uapi/linux/wait.h
    "WNOHANG": os.WNOHANG,
    "WUNTRACED": 2,
    "WEXITED": 4,
    "WCONTINUED": 8,
    "WNOWAIT": 0x01000000,
    "__WALL": 0x40000000,
}


def seconds(value: float) -> str:
    """Return `598 ms` for 0.598."""
    return WORDS.duration(round(value * 1e9))


def plain(value: float) -> str:
    """Return `0.8` or `3`."""
    return f"{value:g}"


def option_words(options: int) -> str:
    """Return `WNOHANG|WEXITED`; `0` without options."""
    names = [name for name, bit in OPTIONS.items() if options & bit]
    rest = options & ~sum(OPTIONS.values())
    return "|".join([*names, *([hex(rest)] if rest else [])]) or "0"


def call_words(call: Optional[ReapCall]) -> str:
    """Return `wait4(WNOHANG)` or `blocking wait4`; empty if the call was not observed."""
    if call is None or call.syscall is None:
        return ""
    if call.options is None:
        return call.syscall
    options = option_words(call.options)
    if call.options & os.WNOHANG:
        return f"{call.syscall}({options})"
    return f"blocking {call.syscall}" + ("" if options in ("0", "WEXITED") else f"({options})")
