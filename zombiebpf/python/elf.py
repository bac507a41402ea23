# SPDX-License-Identifier: Apache-2.0
"""Read symbols, segments and sections of ELF files, without reading the whole file."""

from __future__ import annotations

import os
from typing import IO, Any, NamedTuple, Optional

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

# What pyelftools raises for a damaged file.
ERRORS = (
    ELFError, ConstructError, ValueError, KeyError, IndexError, TypeError, AttributeError,
    OverflowError, MemoryError, AssertionError,
)  # fmt: skip

MAX_RODATA = 64 << 20  # bytes; CPython has 2 to 5 MiB


class Load(NamedTuple):
    """A PT_LOAD segment."""

    vaddr: int
    offset: int
    size: int  # bytes in the file
    executable: bool


class Elf:
    """An open ELF file, little-endian and of 64 bits. Methods raise OSError or one of ERRORS."""

    def __init__(self, file: IO[bytes]) -> None:
        """Read the headers. Raise ValueError for another file, OSError or one of ERRORS."""
        if file.read(6) != b"\x7fELF\x02\x01":
            raise ValueError("not a little-endian ELF file of 64 bits")
        self._file = file
        self._elf: Any = ELFFile(file)
        self.machine = str(self._elf["e_machine"])
        self.position_independent = self._elf["e_type"] != "ET_EXEC"
        self.loads = [
            Load(each["p_vaddr"], each["p_offset"], each["p_filesz"], bool(each["p_flags"] & 1))
            for each in self._elf.iter_segments()
            if each["p_type"] == "PT_LOAD"
        ]
        sections = map(self._elf.get_section_by_name, (".gnu.hash", ".hash", ".dynsym"))
        self._symbols: Any = next((each for each in sections if each is not None), None)

    def symbol(self, name: str) -> Optional[int]:
        """Return the virtual address of an exported symbol; None if there is none."""
        if self._symbols is None:
            return None
        if hasattr(self._symbols, "get_symbol_by_name"):  # .dynsym: a linear search
            found = (self._symbols.get_symbol_by_name(name) or [None])[0]
        else:
            found = self._symbols.get_symbol(name)
        if found is None or found["st_shndx"] == "SHN_UNDEF":
            return None
        return int(found["st_value"])

    def offset_of(self, vaddr: int) -> Optional[int]:
        """Return the offset in the file of a virtual address; None if it is not in the file."""
        for load in self.loads:
            if load.vaddr <= vaddr < load.vaddr + load.size:
                return vaddr - load.vaddr + load.offset
        return None

    def bytes_at(self, vaddr: int, size: int) -> bytes:
        """Return the bytes at a virtual address: fewer than `size` at the end of the file."""
        offset = self.offset_of(vaddr)
        return b"" if offset is None else os.pread(self._file.fileno(), size, offset)

    def rodata(self) -> bytes:
        """Return the section .rodata, of which at most MAX_RODATA bytes; b"" if there is none."""
        section = self._elf.get_section_by_name(".rodata")
        if section is None:
            return b""
        size = min(section["sh_size"], MAX_RODATA)
        return os.pread(self._file.fileno(), size, section["sh_offset"])

    def dynamic(self) -> dict[str, list[str]]:
        """Return DT_NEEDED, DT_RUNPATH, DT_RPATH and DT_SONAME as `needed`, `runpath`..."""
        found: dict[str, list[str]] = {}
        section = self._elf.get_section_by_name(".dynamic")
        if section is None:
            return found
        for tag in section.iter_tags():
            for name in ("needed", "runpath", "rpath", "soname"):
                if tag.entry.d_tag == f"DT_{name.upper()}":
                    found.setdefault(name, []).append(getattr(tag, name))
        return found
