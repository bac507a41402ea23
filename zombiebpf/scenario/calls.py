# SPDX-License-Identifier: Apache-2.0
"""Wait calls in words."""

from __future__ import annotations

from typing import Optional

from zombiebpf.life import ReapCall

# include/uapi/linux/wait.h
WNOHANG = 1
OPTIONS = {
    "WNOHANG": WNOHANG,
    "WUNTRACED": 2,
    "WEXITED": 4,
    "WCONTINUED": 8,
    "WNOWAIT": 0x01000000,
    "__WALL": 0x40000000,
}


def option_words(options: int) -> str:
    """`WNOHANG|WEXITED`; 0 as `0`."""
    names = [name for name, bit in OPTIONS.items() if options & bit]
    rest = options & ~sum(OPTIONS.values())
    return "|".join([*names, *([hex(rest)] if rest else [])]) or "0"


def call_words(call: Optional[ReapCall]) -> str:
    """`wait4(WNOHANG)`, `blocking wait4`; empty if the call was not seen."""
    if call is None or call.syscall is None:
        return ""
    if call.options is None:
        return call.syscall
    if not call.options & WNOHANG:
        rest = option_words(call.options)
        return f"blocking {call.syscall}" + ("" if rest in ("0", "WEXITED") else f"({rest})")
    return f"{call.syscall}({option_words(call.options)})"
