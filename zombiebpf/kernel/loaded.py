# SPDX-License-Identifier: Apache-2.0
"""The probes in the kernel: their maps, their programs, what these are attached to."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress

from zombiebpf.kernel import bpf
from zombiebpf.kernel.compiled import Compiled, with_maps
from zombiebpf.kernel.tables import Table

_NONE: Mapping[int, int] = {}


class MapError(OSError):
    """The kernel refuses to create a map, `name`."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self.name = name


class Probes:
    """Maps by their names, as in the probes' sources. All is gone with close(), or with us."""

    def __init__(self, compiled: Compiled) -> None:
        """MapError where a map is refused."""
        self._compiled = compiled
        self._tables: dict[str, Table] = {}
        self._numbers: dict[int, int] = {}  # index in `compiled` -> descriptor
        self._programs: dict[tuple[str, int], int] = {}
        self._attached: dict[str, int] = {}
        try:
            for index, (name, made) in enumerate(compiled.maps.items()):
                descriptor = self._create(name, made.shape)
                self._tables[name] = Table(descriptor, made.shape, made.key, made.leaf)
                self._numbers[index] = descriptor
        except BaseException:
            self.close()
            raise

    def _create(self, name: str, shape: bpf.MapShape) -> int:
        try:
            return bpf.create_map(name, shape)
        except OSError as error:
            raise MapError(name, error) from None

    def __getitem__(self, name: str) -> Table:
        return self._tables[name]

    def code(self, name: str, others: Mapping[int, int] = _NONE) -> bytes:
        """A program, with the maps' descriptors; `others` replaces some of these."""
        numbers = {index: others.get(number, number) for index, number in self._numbers.items()}
        return with_maps(self._compiled.programs[name], numbers)

    def load(self, name: str, kind: int) -> int:
        """The program's descriptor. bpf.ProgramError."""
        key = name, kind
        if key not in self._programs:
            self._programs[key] = bpf.load_program(name, kind, self.code(name))
        return self._programs[key]

    def attach(self, name: str, tracepoint: str) -> None:
        """At a raw tracepoint; those of one run in the order they were attached in. OSError."""
        program = self.load(name, bpf.RAW_TRACEPOINT)
        self._attached[name] = bpf.open_raw_tracepoint(program, tracepoint)

    def adopt(self, name: str, program: int) -> None:
        """One that was loaded elsewhere: it is closed and counted with the others."""
        self._programs[name, bpf.TRACING] = program

    def runs_left_out(self, names: Collection[str]) -> int:
        """Of these programs, those that are loaded."""
        return sum(
            bpf.runs_left_out(program)
            for (name, _), program in self._programs.items()
            if name in names
        )

    def detach(self, name: str) -> None:
        """Nothing if it is not attached."""
        descriptor = self._attached.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        descriptors = [*self._attached.values(), *self._programs.values()]
        descriptors += (table.map_fd for table in self._tables.values())
        for kept in (self._attached, self._programs, self._tables):
            kept.clear()
        for each in descriptors:
            with suppress(OSError):
                os.close(each)
