# SPDX-License-Identifier: Apache-2.0
"""BPF maps and programs in the kernel, and what the programs are attached to."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Callable, Optional

from zombiebpf.bpf import subprograms, syscall
from zombiebpf.bpf.compiled import Compiled, with_maps
from zombiebpf.bpf.tables import Table

_NONE: Mapping[int, int] = {}


class MapError(OSError):
    """The kernel refused to create the map `name`; `errno` is None if it is not known."""

    def __init__(self, name: str, errno: Optional[int], reason: Optional[str]) -> None:
        """Wrap the error of one map."""
        super().__init__(errno, reason)
        self.name = name


class Probes:
    """Loaded maps, by their names in the source, and programs.

    close() or the end of this process removes them from the kernel.
    """

    def __init__(
        self,
        compiled: Compiled,
        kernel_name: Callable[[str], str] = str,
        called: Sequence[str] = (),
    ) -> None:
        """Create the maps. Raise MapError if the kernel refuses one.

        `kernel_name` turns a program's name into the one that the kernel shows. `called` are
        functions that programs call, by their numbers (zombiebpf.bpf.subprograms).
        """
        self._kernel_name = kernel_name
        self._called = called
        self._compiled = compiled
        self._tables: dict[str, Table] = {}
        self._numbers: dict[int, int] = {}  # index in `compiled` -> descriptor
        self._programs: dict[tuple[str, int], int] = {}
        self._attached: dict[str, int] = {}
        try:
            for index, (name, made) in enumerate(compiled.maps.items()):
                try:
                    descriptor = syscall.create_map(name, made.shape)
                except OSError as error:
                    raise MapError(name, error.errno, error.strerror) from None
                self._tables[name] = Table(descriptor, made.shape, made.key, made.leaf)
                self._numbers[index] = descriptor
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Table:
        """Return the map `name`."""
        return self._tables[name]

    def load(self, name: str, kind: int) -> int:
        """Load a program once; return its descriptor. Raise syscall.ProgramError."""
        key = name, kind
        if key not in self._programs:
            self._programs[key] = self.load_again(name, kind)
        return self._programs[key]

    def load_again(
        self,
        name: str,
        kind: int,
        others: Mapping[int, int] = _NONE,
        attach_type: int = 0,
        attach_btf_id: int = 0,
    ) -> int:
        """Load a program; return a descriptor that the caller must close or adopt().

        `others` replaces descriptors of maps. Raise syscall.ProgramError.
        """
        numbers = {index: others.get(number, number) for index, number in self._numbers.items()}
        linked = subprograms.link(name, self._compiled.programs, self._called)
        code = with_maps(linked.code, numbers)
        shown = self._kernel_name(name)
        if not linked.starts:
            return syscall.load_program(shown, kind, code, attach_type, attach_btf_id)
        types = syscall.load_btf(subprograms.btf(linked.starts))
        try:
            infos = subprograms.function_info(linked.starts)
            return syscall.load_program(shown, kind, code, attach_type, attach_btf_id, types, infos)
        finally:
            os.close(types)

    def attach(self, name: str, tracepoint: str) -> None:
        """Attach a program to a raw tracepoint; the first attached runs first. Raise OSError."""
        program = self.load(name, syscall.RAW_TRACEPOINT)
        self._attached[name] = syscall.open_raw_tracepoint(program, tracepoint)

    def adopt(self, name: str, program: int) -> None:
        """Close and count the descriptor `program`, loaded elsewhere, with the other programs."""
        self._programs[name, syscall.TRACING] = program

    def missed_runs(self, names: Collection[str]) -> int:
        """Return how often the kernel skipped those of `names` that are loaded."""
        return sum(
            syscall.missed_runs(program)
            for (name, _), program in self._programs.items()
            if name in names
        )

    def detach(self, name: str) -> None:
        """Detach a program from its tracepoint, if it is attached."""
        descriptor = self._attached.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Detach and unload everything."""
        descriptors = [*self._attached.values(), *self._programs.values()]
        descriptors += (table.map_fd for table in self._tables.values())
        for kept in (self._attached, self._programs, self._tables):
            kept.clear()
        for each in descriptors:
            with suppress(OSError):
                os.close(each)
