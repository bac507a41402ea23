# SPDX-License-Identifier: Apache-2.0
"""BPF programs at the entry of the kernel's own functions: by fentry, else by a kprobe.

Whether a function can be hooked is asked before anything is compiled.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Optional

from zombiebpf.kernel import bpf, perf
from zombiebpf.kernel.btf import Btf
from zombiebpf.kernel.loaded import Probes

FENTRY, KPROBE = "fentry", "kprobe"
WAYS = (FENTRY, KPROBE)  # the cheaper first
# whose programs ask for Python's stacks
STACKED = frozenset({"wake_up_new_task", "do_wait", "release_task"})

_ENOTSUPP = 524  # include/linux/errno.h
_NOTHING = bytes.fromhex("b7000000 00000000 95000000 00000000")  # r0 = 0; exit


class Probe(NamedTuple):
    """One function to be hooked; on_NAME is its program."""

    function: str
    way: str
    btf_id: int  # for fentry


class HookError(Exception):
    """`function` was not hooked."""

    def __init__(self, function: str, error: OSError) -> None:
        super().__init__(f"{function}: {error}")
        self.function, self.error = function, error


class Trial:
    """Whether this kernel lets a function be hooked: tried with a program that does nothing.

    To detach one from fentry takes the kernel some 0.1 s, so that is done once: where one function
    can be hooked so, all can for which a program is accepted.
    """

    def __init__(self, btf: Optional[Btf]) -> None:
        self._btf = btf
        self._has_fentry = False
        self._known: dict[tuple[str, str], Optional[str]] = {}

    def refusal(self, way: str, function: str) -> Optional[str]:
        """Why `function` cannot be hooked by `way`; None: it can."""
        key = way, function
        if key not in self._known:
            try:
                self._known[key] = self._try(way, function)
            except OSError as error:
                self._known[key] = reason(error)
        return self._known[key]

    def _try(self, way: str, function: str) -> Optional[str]:
        if way == KPROBE:
            try:
                os.close(perf.open_event("kprobe", function, 0))
            except FileNotFoundError as error:
                # without a number: the PMU is not there, else the function is not
                return "this kernel has none" if error.filename != function else "no such function"
            return None
        if self._btf is None:
            return "this kernel has no BTF"
        number = self._btf.function(function)
        if number is None:
            return "the function is not in this kernel's BTF"
        program = bpf.load_program(function, bpf.TRACING, _NOTHING, bpf.TRACE_FENTRY, number)
        try:
            if not self._has_fentry:
                os.close(bpf.open_fentry(program))
                self._has_fentry = True
        finally:
            os.close(program)
        return None


def reason(error: OSError) -> str:
    """In words; the C library has none for an errno that is the kernel's own."""
    if error.errno == _ENOTSUPP:
        return "not supported"
    return error.strerror or str(error)


def attach(probes: Probes, wanted: Sequence[Probe], stages: Sequence[str]) -> Iterator[int]:
    """Load on_NAME of each and have it run there: descriptors; closing them detaches.

    `stages` are the programs that those of STACKED call, for stacks; these are loaded once more for
    each way, as a program can call those of its own type only (kernel/bpf/core.c,
    bpf_prog_map_compatible()): a kprobe's any kprobe's, one for fentry those of its own function.
    HookError.
    """
    others: dict[str, dict[int, int]] = {}
    for probe in wanted:
        stacked = probe.function in STACKED
        try:
            if stacked and probe.way not in others:
                table = probes[f"{probe.way}_stages"]
                others[probe.way] = {probes["stages"].map_fd: table.map_fd}
                for number, name in enumerate(stages):
                    stage = _load(probes, name, probe, others[probe.way])
                    yield stage
                    table[table.Key(number)] = table.Leaf(stage)
            program = _load(probes, f"on_{probe.function}", probe, others.get(probe.way, {}))
            probes.adopt(f"on_{probe.function}", program)
            if probe.way == FENTRY:
                yield bpf.open_fentry(program)
            else:
                yield perf.attach_kprobe(program, probe.function)
        except OSError as error:
            raise HookError(probe.function, error) from None


def close(descriptors: Sequence[int]) -> None:
    """Detach."""
    for each in descriptors:
        with suppress(OSError):
            os.close(each)


def _load(probes: Probes, name: str, probe: Probe, other: Mapping[int, int]) -> int:
    code = probes.code(name, other)
    if probe.way == FENTRY:
        return bpf.load_program(name, bpf.TRACING, code, bpf.TRACE_FENTRY, probe.btf_id)
    return bpf.load_program(name, bpf.KPROBE, code)
