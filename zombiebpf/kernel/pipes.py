# SPDX-License-Identifier: Apache-2.0
"""Which process holds a pipe's writing end: whose death a poll of the other end waits for.

A fork server's children are forked by it and joined by another process, which
only polls a pipe that the child holds until it ends. Both ends have one inode.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Optional

from zombiebpf.analysis import Child

_PIPE = re.compile(r"pipe:\[(\d+)\]")
_FLAGS = re.compile(r"^flags:\s*([0-7]+)$", re.MULTILINE)
_MOST_PIPES = 16384
_MOST_DESCRIPTORS = 64  # of a process: those of a fresh child of a fork server are few


class PipeHolders:
    """Remembers the pipes that a process holds when it is looked at."""

    def __init__(self) -> None:
        self._holders: OrderedDict[int, Child] = OrderedDict()

    def look_at(self, pid: int, start_ns: int) -> None:
        """A process that was forked a moment ago. Nothing if it is gone already."""
        for inode in _written(pid):
            self._holders[inode] = Child(pid, start_ns)
            self._holders.move_to_end(inode)
        while len(self._holders) > _MOST_PIPES:
            self._holders.popitem(last=False)

    def holder(self, inode: int) -> Optional[Child]:
        return self._holders.get(inode)


def _written(pid: int) -> Iterator[int]:
    """Inodes of the pipes that the process has open for writing."""
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")[:_MOST_DESCRIPTORS]
    except OSError:
        return
    for descriptor in descriptors:
        try:
            found = _PIPE.fullmatch(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
            if found is None:
                continue
            with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii") as file:
                flags = _FLAGS.search(file.read())
        except OSError:
            continue
        if flags is not None and int(flags[1], 8) & os.O_ACCMODE == os.O_WRONLY:
            yield int(found[1])
