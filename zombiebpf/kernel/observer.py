# SPDX-License-Identifier: Apache-2.0
"""The observer: probes in the kernel, their records out of it, their losses counted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Optional

from zombiebpf.errors import ZombiebpfError
from zombiebpf.events import ARGV_BYTES, Event
from zombiebpf.kernel import hooks, layout, machine, program
from zombiebpf.kernel.ring import Ring
from zombiebpf.wire import LOST_CAUSES, RECORD_BYTES, TEXT_BYTES, decode

RING_PAGES = 4096  # 16 MiB: 170,000 records, some 3 s of the fastest fork storm
MAX_LIVES = 65536  # processes followed at one time
_THREAD_SIZE = 16384  # x86_64 without KASAN; the self-check finds a wrong one out
_HEADER_BYTES = 8


class Observer:
    """A context manager: entered, the probes are attached and have proved themselves.

    `forced` is fact -> hook's name; `follow_all` follows every process born on
    the machine, else those forked within `following_forks()` and their descendants.
    `waits` asks for a Wait event of each wait; reaps tell of theirs in any case.
    """

    def __init__(
        self,
        forced: Optional[Mapping[str, str]] = None,
        follow_all: bool = False,
        waits: bool = False,
    ) -> None:
        self._waits = waits
        self._forced = forced or {}
        self._follow_all = follow_all
        self._bpf: Any = None
        self._ring: Optional[Ring] = None
        self.choices: Mapping[str, hooks.Choice] = {}
        self.wait_call_seen = False  # whether reaps tell the system call
        self.attached_ns: Optional[int] = None

    def __enter__(self) -> Observer:
        from zombiebpf.kernel.selfcheck import prove

        self.attach()
        try:
            self.wait_call_seen = prove(self)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def attach(self) -> None:
        """Compile, load and attach, without the proof.

        PrivilegeError, or ZombiebpfError with the cure.
        """
        machine.require_privilege()
        machine.require_kernel()
        state = machine.read_btf()
        kernel = machine.ask_kernel(state.btf)
        self.choices = hooks.choose(kernel, self._forced)
        if state.btf is not None:
            structs = layout.from_btf(state.btf)
        else:
            structs = layout.from_headers(_headers_or_fail(state.problem))
        macros = {
            **hooks.macros(kernel, self.choices),
            "RING_PAGES": str(RING_PAGES),
            "MAX_LIVES": str(MAX_LIVES),
            "MAX_FILENAME_CHUNKS": "5",
            "MAX_ARGV_CHUNKS": str(ARGV_BYTES // TEXT_BYTES),
            "THREAD_SIZE_BYTES": str(_THREAD_SIZE),
            "OBSERVER_PIDNS": str(machine.pid_namespace()),
            "SEND_WAITS": str(int(self._waits)),
            "FOLLOW_ALL": str(int(self._follow_all)),
        }
        self._bpf = program.load(
            program.source(structs, macros), structs, hooks.programs(self.choices)
        )
        self._ring = Ring(self._bpf["events"].map_fd, RING_PAGES, RECORD_BYTES)

    @contextmanager
    def following_forks(self) -> Iterator[None]:
        """What this process forks inside is followed, and all that descends from it."""
        seeds = self._bpf["seeds"]
        seeds[seeds.Key(0)] = seeds.Leaf(os.getpid())
        try:
            yield
        finally:
            seeds[seeds.Key(0)] = seeds.Leaf(0)

    def read(self) -> list[Event]:
        """What has happened since the last read: at most one batch, [] when there is nothing."""
        assert self._ring is not None
        return decode(self._ring.read(), self._ring.stride, _HEADER_BYTES)

    def lost(self) -> dict[str, int]:
        """Cause -> records that the kernel could not hand over."""
        table = self._bpf["lost"]
        return {cause: int(sum(table[table.Key(index)])) for index, cause in enumerate(LOST_CAUSES)}

    def choices_names(self) -> dict[str, str]:
        """Fact -> the chosen variant's name, as --hook takes it."""
        return {fact: choice.variant.name for fact, choice in self.choices.items()}

    @property
    def hooks(self) -> dict[str, str]:
        """Fact -> the hook it is taken from, for reports."""
        return {fact: choice.variant.hook for fact, choice in self.choices.items()}

    @property
    def precision(self) -> dict[str, str]:
        return {fact: choice.variant.precision for fact, choice in self.choices.items()}

    def close(self) -> None:
        """Detach; nothing of it stays in the kernel."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._bpf is not None:
            self._bpf.cleanup()
            self._bpf = None


def _headers_or_fail(problem: Optional[str]) -> str:
    directory = machine.header_directory()
    if directory is None:
        raise ZombiebpfError(
            f"the kernel's layout cannot be read: {problem}, and its headers are not installed",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF, or install linux-headers-$(uname -r)",
        )
    return directory
