# SPDX-License-Identifier: Apache-2.0
"""The observer: probes in the kernel, their records out of it, their losses counted."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Optional

from zombiebpf.bpf import functions as function_probes
from zombiebpf.bpf.detach import close_beside
from zombiebpf.bpf.loaded import Probes
from zombiebpf.bpf.ringbuffer import RingBuffer, VariableRingBuffer
from zombiebpf.errors import ZombiebpfError
from zombiebpf.kernel import attach_scan, hooks, image_cache, layout, machine, program
from zombiebpf.kernel.boot_facts import BootFacts
from zombiebpf.kernel.interpreters import InterpreterDiscovery, InterpreterRegistry
from zombiebpf.kernel.thread_activity import ThreadActivity, look_at
from zombiebpf.kernel.variants import TASK_CONTEXT_PROGRAMS
from zombiebpf.model.events import ARGV_BYTES, TEXT_BYTES
from zombiebpf.model.stack import Stack
from zombiebpf.model.wire import LOST_CAUSES, NOT_RUN, RECORD_BYTES, Records
from zombiebpf.python.interpreter import Interpreter, find_interpreter
from zombiebpf.python.programs import image_of_program, known_pythons
from zombiebpf.python.qualname import Qualnames
from zombiebpf.python.remote_stack import stack_of_main_thread
from zombiebpf.python.stacks import RecordError, Stacks

# in pages of the machine, which on arm64 may have 16 or 64 KiB
PY_RING_PAGES = (8 << 20) // mmap.PAGESIZE  # some thousand functions, each sent once
RING_PAGES = (16 << 20) // mmap.PAGESIZE  # 170,000 records, some 3 s of the fastest fork storm
MAX_BATCH = 65536  # records that one read returns
MAX_LIVES = 65536  # processes followed at one time
# Without KASAN; on arm64 at least a page. The self-check detects a wrong size.
_THREAD_SIZE = max(16384, mmap.PAGESIZE)
_HEADER_BYTES = 8


class Observer:
    """Attached probes: their records out of the kernel, their losses counted.

    attach() compiles, loads and attaches them. zombiebpf.observe.selfcheck.start_observer()
    also checks what they report, and is what a session uses. close() detaches; nothing
    stays in the kernel.

    An observer follows what is forked within `following_forks()`, with all descendants,
    and what `attach_to()` selects.
    """

    def __init__(
        self, probes: Probes, functions: Sequence[int], choices: Mapping[str, hooks.Choice]
    ) -> None:
        """Read from probes that are attached; `functions` are the descriptors of function probes.

        All of them are closed by close(). OSError if a ring buffer cannot be mapped.
        """
        self._probes = probes
        self.choices = choices
        image_cache.load()
        self._ring = RingBuffer(probes["events"].map_fd, RING_PAGES, RECORD_BYTES)
        self._texts = VariableRingBuffer(probes["pyrecords"].map_fd, PY_RING_PAGES)
        self.interpreters = InterpreterRegistry(probes)
        self.stacks = Stacks(qualified=Qualnames(self.interpreters.read_source).of)
        # whether an interpreter that is not known yet may start now
        self.expects_interpreters = False
        self._discovery = InterpreterDiscovery(self.interpreters, image_of_program)
        self._closing = ExitStack()
        self._closing.callback(probes.close)
        self._closing.callback(image_cache.keep)
        self._closing.callback(close_beside, functions)
        for each in (self._texts, self._ring, self.interpreters):  # in reverse order
            self._closing.callback(each.close)

    @classmethod
    def attach(
        cls,
        forced: Optional[Mapping[str, str]] = None,
        waits: bool = False,
        selecting: bool = False,
        facts: Optional[BootFacts] = None,
    ) -> Observer:
        """Compile, load and attach the probes.

        `forced` maps a fact to the hook it is to be taken from (see `zombiebpf doctor`).
        `waits` asks for a Wait event of each wait. `selecting` is needed for attach_to().
        `facts` are what is known of this kernel already; None: nothing is.
        Raise PrivilegeError without the privilege to do so, UsageError for an unknown hook,
        ZombiebpfError with the fix if this kernel or machine lacks something, and
        NotCompiledError if `facts` were kept and no probes have been compiled from the same:
        one of them may be wrong.
        """
        machine.require_privilege()
        machine.require_kernel()
        machine.require_no_lockdown()
        facts = facts or BootFacts()
        state = machine.read_btf(facts)
        kernel = machine.ask_kernel(state.btf, facts)
        choices = hooks.choose(kernel, forced or {})
        if state.btf is not None:
            structs = layout.from_btf(state.btf)
        else:
            structs = layout.from_headers(_headers_or_fail(state.problem))
        macros = {
            **hooks.macros(kernel, choices),
            "RING_PAGES": str(RING_PAGES),
            "PY_RING_PAGES": str(PY_RING_PAGES),
            "MAX_LIVES": str(MAX_LIVES),
            "MAX_FILENAME_CHUNKS": "5",
            "MAX_ARGV_CHUNKS": str(ARGV_BYTES // TEXT_BYTES),
            "THREAD_SIZE_BYTES": str(_THREAD_SIZE),
            "OBSERVER_PIDNS": str(machine.pid_namespace()),
            "SEND_WAITS": str(int(waits)),
            "SELECTING": str(int(selecting)),
        }
        functions = hooks.probes(kernel, choices)
        before = attach_scan.programs(kernel, choices) if selecting else ()
        with ExitStack() as undo:
            probes = program.load(
                program.source(structs, macros),
                structs,
                hooks.programs(choices),
                before,
                facts.used(),
                may_compile=not facts.were_kept,
            )
            undo.callback(probes.close)
            opened = program.attach_functions(probes, functions)
            undo.callback(function_probes.close, opened)
            observer = cls(probes, opened, choices)
            undo.pop_all()
        return observer

    def __enter__(self) -> Observer:
        """Return the observer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Detach."""
        self.close()

    def attach_to(self, selection: attach_scan.Selection) -> None:
        """Follow the running processes that are selected; Snapshot events report them.

        Raise ZombiebpfError if the kernel's list of processes could not be walked.
        """
        attach_scan.scan(self._probes, selection)

    def expect_interpreters(self, path: Sequence[str], program: Optional[str] = None) -> None:
        """Register the interpreters of this machine, and that of `program`, before they start.

        `path` are the directories of PATH. Other interpreters are discovered when their first
        exec is read: 20 to 100 ms after it.
        """
        found = image_of_program(program, path) if program is not None else None
        if found is not None:
            self.interpreters.expect([found])
        self.interpreters.expect(known_pythons(path))

    @contextmanager
    def following_forks(self) -> Iterator[None]:
        """Follow what this process forks inside the context, and all descendants."""
        seeds = self._probes["seeds"]
        seeds[seeds.Key(0)] = seeds.Leaf(os.getpid())
        try:
            yield
        finally:
            seeds[seeds.Key(0)] = seeds.Leaf(0)

    def read(self) -> Records:
        """Return the records since the last read, at most MAX_BATCH."""
        records = Records(self._ring.read(MAX_BATCH), self._ring.stride, _HEADER_BYTES)
        if records:
            self._read_texts()
        self.expects_interpreters = self._discovery.look(records)
        return records

    def _read_texts(self) -> None:
        """Read functions and stacks; call it after the events, which the probes send later."""
        for record in self._texts.read_all():
            # records contain a program's memory, which may hold anything; the stack says so
            with suppress(RecordError):
                self.stacks.feed(record)

    def activity_of(self, pid: int, tid: int) -> Optional[ThreadActivity]:
        """Return what a thread is doing now; None if it is gone."""
        doing = look_at(self._probes, pid, tid, kernel_tids=machine.pid_namespace() == 0)
        if doing is not None and doing.stack_id:
            self._read_texts()
        return doing

    def stack_of_sleeper(self, pid: int) -> Optional[Stack]:
        """Return the stack of a main thread that went to sleep before its process was followed.

        None if it is not Python, or cannot be read.
        """
        found = find_interpreter(pid)
        if not isinstance(found, Interpreter) or found.image.offsets is None:
            return None
        return stack_of_main_thread(pid, found)

    def lost(self) -> dict[str, int]:
        """Return the number of records that were lost, by cause (all causes, also those with 0)."""
        table = self._probes["lost"]
        lost = {cause: int(sum(table[table.Key(at)])) for at, cause in enumerate(LOST_CAUSES)}
        lost[NOT_RUN] = self._probes.missed_runs(TASK_CONTEXT_PROGRAMS)
        return lost

    def hook_names(self) -> dict[str, str]:
        """Return fact -> name of the chosen hook, as --hook takes it."""
        return {fact: choice.variant.name for fact, choice in self.choices.items()}

    @property
    def hooks(self) -> dict[str, str]:
        """Fact -> the hook it is taken from, as reports show it."""
        return {fact: choice.hook for fact, choice in self.choices.items()}

    @property
    def precision(self) -> dict[str, str]:
        """Fact -> how exact its time is."""
        return {fact: choice.variant.precision for fact, choice in self.choices.items()}

    def close(self) -> None:
        """Detach; nothing stays in the kernel. Closing twice does no harm.

        Functions of the kernel and uprobes are detached in threads (see close_beside()).
        """
        self._closing.close()


def _headers_or_fail(problem: Optional[str]) -> str:
    directory = machine.header_directory()
    if directory is None:
        raise ZombiebpfError(
            f"the kernel's layout cannot be read: {problem}, and its headers are not installed",
            program.NO_HEADERS,
        )
    return directory
