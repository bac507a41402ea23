# SPDX-License-Identifier: Apache-2.0
"""The observer: probes in the kernel, their records out of it, their losses counted."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Optional

from zombiebpf.errors import ZombiebpfError
from zombiebpf.events import ARGV_BYTES, Event
from zombiebpf.kernel import functions, hooks, layout, machine, program, takeover
from zombiebpf.kernel.activity import Doing, look_at
from zombiebpf.kernel.loaded import Probes
from zombiebpf.kernel.pythons import Newcomers, Pythons
from zombiebpf.kernel.remote import stack_of_main_thread
from zombiebpf.kernel.ring import Ring, TextRing
from zombiebpf.kernel.variants import TELLING
from zombiebpf.python.interpreter import Interpreter, find_interpreter
from zombiebpf.python.programs import image_of_program, known_pythons
from zombiebpf.python.qualname import Qualnames
from zombiebpf.python.stacks import RecordError, Stacks
from zombiebpf.stack import Stack
from zombiebpf.wire import LOST_CAUSES, NOT_RUN, RECORD_BYTES, TEXT_BYTES, decode

# bcc counts in pages of the machine, which on arm64 may have 16 or 64 KiB
PY_RING_PAGES = (8 << 20) // mmap.PAGESIZE  # some thousand functions, each sent once
RING_PAGES = (16 << 20) // mmap.PAGESIZE  # 170,000 records, some 3 s of the fastest fork storm
MAX_LIVES = 65536  # processes followed at one time
# Without KASAN; arm64's is a page where that is greater. The self-check finds a wrong one out.
_THREAD_SIZE = max(16384, mmap.PAGESIZE)
_HEADER_BYTES = 8


class Observer:
    """A context manager: entered, the probes are attached and have proved themselves.

    It follows what is forked within `following_forks()`, with all descendants; with
    `selecting` what take_over() is told to, too. `forced` is fact -> hook's name.
    `waits` asks for a Wait event of each wait; reaps tell of theirs in any case.
    """

    def __init__(
        self,
        forced: Optional[Mapping[str, str]] = None,
        waits: bool = False,
        selecting: bool = False,
    ) -> None:
        self._selecting = selecting
        self._waits = waits
        self._forced = forced or {}
        self._loaded: Optional[Probes] = None
        self._functions: list[int] = []
        self._ring: Optional[Ring] = None
        self._texts: Optional[TextRing] = None
        self._pythons: Optional[Pythons] = None  # while its uprobes are there
        self.stacks = Stacks()
        self.choices: Mapping[str, hooks.Choice] = {}
        self.wait_call_seen = False  # whether reaps tell the system call

    def __enter__(self) -> Observer:
        from zombiebpf.kernel.selfcheck import prove

        try:
            self.attach()
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
        machine.require_no_lockdown()
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
            "PY_RING_PAGES": str(PY_RING_PAGES),
            "MAX_LIVES": str(MAX_LIVES),
            "MAX_FILENAME_CHUNKS": "5",
            "MAX_ARGV_CHUNKS": str(ARGV_BYTES // TEXT_BYTES),
            "THREAD_SIZE_BYTES": str(_THREAD_SIZE),
            "OBSERVER_PIDNS": str(machine.pid_namespace()),
            "SEND_WAITS": str(int(self._waits)),
            "SELECTING": str(int(self._selecting)),
        }
        self._loaded = program.load(
            program.source(structs, macros),
            structs,
            hooks.programs(self.choices),
            takeover.programs(kernel, self.choices) if self._selecting else (),
        )
        self._functions = program.attach_functions(self._probes, hooks.probes(kernel, self.choices))
        self._ring = Ring(self._probes["events"].map_fd, RING_PAGES, RECORD_BYTES)
        self._texts = TextRing(self._probes["pyrecords"].map_fd, PY_RING_PAGES)
        self._pythons = self.pythons = Pythons(self._probes)
        self.stacks = Stacks(qualified=Qualnames(self.pythons.read_source).of)
        self._newcomers = Newcomers(self.pythons, image_of_program)

    @property
    def _probes(self) -> Probes:
        assert self._loaded is not None
        return self._loaded

    def take_over(self, selection: takeover.Selection) -> None:
        """Follow what exists and is selected; Existing events tell of it. Needs `selecting`.

        ZombiebpfError where the machine's list of processes could not be walked.
        """
        takeover.take_over(self._probes, selection)

    def expect_pythons(self, path: Sequence[str], program: Optional[str] = None) -> None:
        """Know the interpreters of this machine, and `program`'s, before they start.

        `path` are the directories of PATH. Others are known a moment after their first start.
        """
        found = image_of_program(program, path) if program is not None else None
        if found is not None:
            self.pythons.expect([found])
        self.pythons.expect(known_pythons(path))

    @contextmanager
    def following_forks(self) -> Iterator[None]:
        """What this process forks inside is followed, and all that descends from it."""
        seeds = self._probes["seeds"]
        seeds[seeds.Key(0)] = seeds.Leaf(os.getpid())
        try:
            yield
        finally:
            seeds[seeds.Key(0)] = seeds.Leaf(0)

    def read(self) -> list[Event]:
        """What has happened since the last read: at most one batch, [] when there is nothing."""
        assert self._ring is not None
        events = decode(self._ring.read(), self._ring.stride, _HEADER_BYTES)
        if events:
            self._read_texts()
        self._newcomers.look(events)
        return events

    def _read_texts(self) -> None:
        """What an event or a note speaks of was sent before it: look there after it."""
        assert self._texts is not None
        for record in self._texts.read_all():
            # it was read from a program's memory, which may hold anything: `stacks` tells of it
            with suppress(RecordError):
                self.stacks.feed(record)

    def look_at(self, pid: int, tid: int) -> Optional[Doing]:
        """What a thread does just now; None if it is gone."""
        doing = look_at(self._probes, pid, tid, kernel_tids=machine.pid_namespace() == 0)
        if doing is not None and doing.stack_id:
            self._read_texts()
        return doing

    def stack_of_sleeper(self, pid: int) -> Optional[Stack]:
        """A main thread's that sleeps since before its process was followed; None: not Python,
        or it cannot be read."""
        found = find_interpreter(pid)
        if not isinstance(found, Interpreter) or found.image.offsets is None:
            return None
        return stack_of_main_thread(pid, found)

    def lost(self) -> dict[str, int]:
        """Cause -> records that the kernel could not hand over."""
        table = self._probes["lost"]
        lost = {cause: int(sum(table[table.Key(at)])) for at, cause in enumerate(LOST_CAUSES)}
        lost[NOT_RUN] = self._probes.runs_left_out(TELLING)
        return lost

    def choices_names(self) -> dict[str, str]:
        """Fact -> the chosen variant's name, as --hook takes it."""
        return {fact: choice.variant.name for fact, choice in self.choices.items()}

    @property
    def hooks(self) -> dict[str, str]:
        """Fact -> the hook it is taken from, for reports."""
        return {fact: choice.hook for fact, choice in self.choices.items()}

    @property
    def precision(self) -> dict[str, str]:
        return {fact: choice.variant.precision for fact, choice in self.choices.items()}

    def close(self) -> None:
        """Detach; nothing of it stays in the kernel."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._texts is not None:
            self._texts.close()
            self._texts = None
        if self._pythons is not None:
            self._pythons.close()
            self._pythons = None
        functions.close(self._functions)
        self._functions = []
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None


def _headers_or_fail(problem: Optional[str]) -> str:
    directory = machine.header_directory()
    if directory is None:
        raise ZombiebpfError(
            f"the kernel's layout cannot be read: {problem}, and its headers are not installed",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF, or install linux-headers-$(uname -r)",
        )
    return directory
