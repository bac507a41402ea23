# SPDX-License-Identifier: Apache-2.0
"""BPF objects that a process holds, and whether the kernel still has them."""

from __future__ import annotations

import ctypes
import platform
import re
from pathlib import Path
from typing import NamedTuple

SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
NEXT_ID = {"prog": 11, "map": 12, "link": 31}  # BPF_PROG_GET_NEXT_ID, ...
PROG_ARRAY = "3"  # BPF_MAP_TYPE_PROG_ARRAY, include/uapi/linux/bpf.h


class BpfObject(NamedTuple):
    kind: str  # of NEXT_ID
    number: str


def objects_of(fdinfo: Path) -> set[BpfObject]:
    """Return the BPF objects in a directory of descriptors, /proc/PID/fdinfo or a copy of it.

    But for maps of programs, which were seen to stay, empty, when somebody else opened them
    by id (`bpftool map`) while their owner died; no other map was, and never a program.
    """
    found = set()
    for descriptor in fdinfo.iterdir():
        fields = dict(re.findall(r"^(\w+):\s*(\d+)$", descriptor.read_text(), re.M))
        if "link_id" in fields:
            found.add(BpfObject("link", fields["link_id"]))
        if "prog_id" in fields:
            found.add(BpfObject("prog", fields["prog_id"]))
        elif "map_id" in fields and fields["map_type"] != PROG_ARRAY:
            found.add(BpfObject("map", fields["map_id"]))
    return found


def is_in_kernel(what: BpfObject) -> bool:
    """Ask without opening it, for that would hold it."""
    ids = (ctypes.c_uint32 * 3)(int(what.number) - 1, 0, 0)  # start_id, next_id, open_flags
    command = NEXT_ID[what.kind]
    if ctypes.CDLL(None).syscall(SYS_BPF, command, ids, ctypes.sizeof(ids)) != 0:
        return False  # it would have been the last
    return int(ids[1]) == int(what.number)
