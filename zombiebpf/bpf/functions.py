# SPDX-License-Identifier: Apache-2.0
"""BPF programs at the entry of the kernel's own functions, attached by fentry or by a kprobe."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Optional

from zombiebpf.bpf import perf_events, syscall
from zombiebpf.bpf.btf import Types
from zombiebpf.bpf.loaded import Probes

FENTRY, KPROBE = "fentry", "kprobe"
ATTACH_KINDS = (FENTRY, KPROBE)  # the cheaper first

_ENOTSUPP = 524  # include/linux/errno.h
_NOTHING = bytes.fromhex("b7000000 00000000 95000000 00000000")  # r0 = 0; exit


class Probe(NamedTuple):
    """A function to hook; the program on_FUNCTION runs there."""

    function: str
    attach_kind: str  # of ATTACH_KINDS
    btf_id: int  # for fentry


class HookError(Exception):
    """`function` could not be hooked, because of `error`."""

    def __init__(self, function: str, error: OSError) -> None:
        """Wrap the error of one function."""
        super().__init__(f"{function}: {error}")
        self.function, self.error = function, error


class Trial:
    """Test which functions this kernel lets be hooked, with a program that does nothing.

    fentry is attached once: the kernel takes some 0.1 s to detach it, and where one function
    can be hooked, so can every other for which a program is accepted.
    """

    def __init__(self, btf: Optional[Types]) -> None:
        """Look the functions up in `btf`; None: the kernel has none."""
        self._btf = btf
        self._has_fentry = False
        self._known: dict[tuple[str, str], Optional[str]] = {}

    def refusal(self, attach_kind: str, function: str) -> Optional[str]:
        """Return why `function` cannot be hooked by `attach_kind`; None if it can."""
        key = attach_kind, function
        if key not in self._known:
            try:
                self._known[key] = self._try(attach_kind, function)
            except OSError as error:
                # the C library has no words for an errno that is the kernel's own
                is_unsupported = error.errno == _ENOTSUPP
                self._known[key] = "not supported" if is_unsupported else reason(error)
        return self._known[key]

    def number(self, function: str) -> Optional[int]:
        """Return the number of `function` in the kernel's BTF; None if there is none."""
        return None if self._btf is None else self._btf.function(function)

    def _try(self, attach_kind: str, function: str) -> Optional[str]:
        if attach_kind == KPROBE:
            try:
                os.close(perf_events.open_event("kprobe", function, 0))
            except FileNotFoundError as error:
                # the missing file is the PMU's type, else the function is missing
                return "this kernel has none" if error.filename != function else "no such function"
            return None
        if self._btf is None:
            return "this kernel has no BTF"
        number = self.number(function)
        if number is None:
            return "the function is not in this kernel's BTF"
        program = syscall.load_program(
            function, syscall.TRACING, _NOTHING, syscall.TRACE_FENTRY, number, with_log=False
        )
        try:
            if not self._has_fentry:
                os.close(syscall.open_fentry(program))
                self._has_fentry = True
        finally:
            os.close(program)
        return None


def reason(error: OSError) -> str:
    """Return the words of an error without its number."""
    return error.strerror or str(error)


def attach(
    probes: Probes, wanted: Sequence[Probe], stages: Sequence[str], callers: Collection[str]
) -> Iterator[int]:
    """Load and attach each program; yield descriptors, which detach when they are closed.

    The programs at the functions in `callers` call the programs `stages` by the map `stages`.
    Each attach kind has stages of its own, in KIND_stages: a program can only call programs of
    its own type and, for fentry, of its own function (kernel/bpf/core.c,
    bpf_prog_map_compatible()). Raise HookError.
    """
    maps: dict[str, dict[int, int]] = {}  # by attach kind, what replaces the map `stages`
    for probe in wanted:
        kind = probe.attach_kind
        try:
            if probe.function in callers and kind not in maps:
                table = probes[f"{kind}_stages"]
                maps[kind] = {probes["stages"].map_fd: table.map_fd}
                for number, name in enumerate(stages):
                    stage = _load(probes, name, probe, maps[kind])
                    yield stage
                    table[table.Key(number)] = table.Leaf(stage)
            name = f"on_{probe.function}"
            program = _load(probes, name, probe, maps.get(kind, {}))
            probes.adopt(name, program)
            if kind == FENTRY:
                yield syscall.open_fentry(program)
            else:
                yield perf_events.attach_kprobe(program, probe.function)
        except OSError as error:
            raise HookError(probe.function, error) from None


def close(descriptors: Sequence[int]) -> None:
    """Close what attach() yielded, which detaches the programs."""
    for each in descriptors:
        with suppress(OSError):
            os.close(each)


def _load(probes: Probes, name: str, probe: Probe, maps: Mapping[int, int]) -> int:
    if probe.attach_kind == FENTRY:
        return probes.load_again(name, syscall.TRACING, maps, syscall.TRACE_FENTRY, probe.btf_id)
    return probes.load_again(name, syscall.KPROBE, maps)
