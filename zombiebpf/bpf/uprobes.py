# SPDX-License-Identifier: Apache-2.0
"""Run one BPF program at instructions of several files, by uprobes that are cheap to detach.

A link of type uprobe_multi (Linux 6.6, commit 89ae89f53d20) waits for one grace period when it
is closed, and several links can be closed at once: 40 ms for three. The kernel takes 120 ms for
each perf event, one after the other (kernel/trace/trace_event_perf.c, event_mutex).
"""

from __future__ import annotations

import os
from typing import Optional

from zombiebpf.bpf import perf_events, syscall
from zombiebpf.bpf.detach import close_beside
from zombiebpf.bpf.loaded import Probes


class Uprobes:
    """Uprobes that run the program `name`, and the descriptors that keep them."""

    def __init__(self, probes: Probes, name: str) -> None:
        """Take the program's code from `probes`. It is loaded with the first uprobe."""
        self._probes, self._name = probes, name
        self._program: Optional[int] = None
        self._by_link = True
        self._attached: list[int] = []

    def attach(self, path: str, offset: int) -> None:
        """Run the program when a process executes the instruction `offset` bytes into a file.

        Raise OSError, with EACCES for a perf event without CAP_SYS_ADMIN.
        """
        if self._by_link:
            try:
                self._attached.append(self._link(path, offset))
                return
            except OSError:
                if self._attached:
                    raise
                self._unload()
                self._by_link = False  # the kernel is older
        self._attached.append(perf_events.attach_uprobe(self._loaded(0), path, offset))

    def _link(self, path: str, offset: int) -> int:
        return syscall.link_uprobe(self._loaded(syscall.TRACE_UPROBE_MULTI), path, offset)

    def _loaded(self, attach_type: int) -> int:
        if self._program is None:
            self._program = self._probes.load_again(
                self._name, syscall.KPROBE, attach_type=attach_type
            )
        return self._program

    def _unload(self) -> None:
        if self._program is not None:
            os.close(self._program)
            self._program = None

    def close(self) -> None:
        """Detach beside what comes next (see close_beside()). Closing twice does no harm."""
        attached, self._attached = self._attached, []
        self._unload()  # an attached program stays until it is detached
        close_beside(attached)
