# SPDX-License-Identifier: Apache-2.0
"""What is where in an ELF file? Only its heads and what is asked for are read."""

from __future__ import annotations

import os
from typing import IO, Any, NamedTuple, Optional

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

# What pyelftools raises about a file that is no ELF file, or a damaged one.
ERRORS = (
    ELFError,
    ConstructError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    AssertionError,
    UnicodeError,
)

MOST_RODATA = 64 << 20  # bytes; that of CPython has 2 to 5 MiB


class Load(NamedTuple):
    """A PT_LOAD segment that has bytes in the file."""

    vaddr: int
    offset: int
    size: int  # bytes in the file
    executable: bool


class Elf:
    """One open ELF file, little-endian and of 64 bits.

    ValueError: it is another file. Every method may raise one of ERRORS, or OSError.
    """

    def __init__(self, file: IO[bytes]) -> None:
        if file.read(6) != b"\x7fELF\x02\x01":
            raise ValueError("no little-endian ELF file of 64 bits")
        self._file = file
        self._elf: Any = ELFFile(file)
        self.machine = str(self._elf["e_machine"])
        self.position_independent = self._elf["e_type"] != "ET_EXEC"
        self.loads = [
            Load(each["p_vaddr"], each["p_offset"], each["p_filesz"], bool(each["p_flags"] & 1))
            for each in self._elf.iter_segments()
            if each["p_type"] == "PT_LOAD"
        ]
        self._symbols: Any = self._hash()

    def _hash(self) -> Any:
        for name in (".gnu.hash", ".hash", ".dynsym"):
            section = self._elf.get_section_by_name(name)
            if section is not None:
                return section
        return None

    def symbol(self, name: str) -> Optional[int]:
        """The virtual address of an exported (not an imported) symbol."""
        if self._symbols is None:
            return None
        if hasattr(self._symbols, "get_symbol_by_name"):  # no hash: each symbol is looked at
            found = (self._symbols.get_symbol_by_name(name) or [None])[0]
        else:
            found = self._symbols.get_symbol(name)
        if found is None or found["st_shndx"] == "SHN_UNDEF":
            return None
        return int(found["st_value"])

    def offset_of(self, vaddr: int) -> Optional[int]:
        """Where in the file lies what is loaded at this address? None: nowhere."""
        for load in self.loads:
            if load.vaddr <= vaddr < load.vaddr + load.size:
                return vaddr - load.vaddr + load.offset
        return None

    def bytes_at(self, vaddr: int, size: int) -> bytes:
        """The bytes loaded at an address: fewer than `size` at the file's end."""
        offset = self.offset_of(vaddr)
        return b"" if offset is None else os.pread(self._file.fileno(), size, offset)

    def rodata(self) -> bytes:
        section = self._elf.get_section_by_name(".rodata")
        if section is None:
            return b""
        size = min(section["sh_size"], MOST_RODATA)
        return os.pread(self._file.fileno(), size, section["sh_offset"])

    def dynamic(self) -> dict[str, list[str]]:
        """DT_NEEDED, DT_RUNPATH, DT_RPATH and DT_SONAME by these names."""
        found: dict[str, list[str]] = {}
        section = self._elf.get_section_by_name(".dynamic")
        if section is None:
            return found
        for tag in section.iter_tags():
            for name in ("needed", "runpath", "rpath", "soname"):
                if tag.entry.d_tag == f"DT_{name.upper()}":
                    found.setdefault(name, []).append(getattr(tag, name))
        return found
