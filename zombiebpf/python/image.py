# SPDX-License-Identifier: Apache-2.0
"""Describe the Python interpreter in an ELF file.

The file is python3.N if that is linked statically, libpython3.N.so, or any program that
contains an interpreter. From CPython 3.7 on all have `_PyRuntime` in .dynsym, even if they
are stripped: extension modules need the symbols.
"""

from __future__ import annotations

import json
import os
import platform
import re
import stat
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Optional

from zombiebpf.python.offsets import (
    DEBUG_OFFSETS_SIZE,
    MACHINES,
    Offsets,
    OffsetsError,
    Version,
    from_debug_offsets,
    offsets_of,
    version_of_hex,
    version_text,
)
from zombiebpf.python.source import open_nonblocking

if TYPE_CHECKING:
    from zombiebpf.python.elf import Elf

INIT_BYTES = 64  # of a function's code, after what may be a breakpoint
BREAKPOINT_BYTES = 4  # arm64's; x86_64's is 1
# Called once, before any Python code runs, by the python program as by Py_Initialize().
INIT = "Py_InitializeFromConfig"  # 3.8 on
INIT_3_7 = "_PyRuntimeState_Init"  # by _PyRuntime_Initialize(), at most once
# Only in builds with Py_REF_DEBUG (part of Py_DEBUG) or Py_TRACE_REFS (Misc/stable_abi.toml).
DEBUG_SYMBOLS = ("_Py_NegativeRefcount", "_Py_RefTotal", "_Py_AddToAllObjects")
PYPY_SYMBOLS = ("rpython_startup_code", "pypy_execute_source")

_NAME = re.compile(r"(?:pypy|python)(?P<major>\d)\.(?P<minor>\d+)")
_STRING = rb"(%s\.\d+)((?:a|b)\d+)?(?:rc\d+)?\+?\x00"
_IN_NUMBERS = {b"%d" % each for each in range(10)} | {b"."}
FIRST_WITH_DEBUG_OFFSETS = 13
_RELEASES = (0xC, 0xF)  # release candidates and finals, as PY_VERSION_HEX has them
_CACHED = 4096


class Image(NamedTuple):
    """An interpreter in a file. Addresses are virtual addresses of the file."""

    path: str
    version: Optional[Version]  # micro -1: unknown; None: unknown
    runtime: int  # address of _PyRuntime; 0: none
    code_type: int  # address of PyCode_Type; 0: none
    str_type: int  # address of PyUnicode_Type; 0: none
    bytes_type: int  # address of PyBytes_Type; 0: none
    init: Optional[int]  # address of a function called once at the start, before Python code
    init_offset: Optional[int]  # of that function in the file, for a uprobe
    init_bytes: bytes  # INIT_BYTES of its code, after the first BREAKPOINT_BYTES
    offsets: Optional[Offsets]
    text_delta: Optional[int]  # virtual address - file offset of the code; None: ET_EXEC
    problem: Optional[str]  # why its stacks cannot be read; None: they can

    def bias(self, start: int, offset: int) -> int:
        """Return what to add to addresses if `offset` of the code is mapped at `start`."""
        return 0 if self.text_delta is None else start - offset - self.text_delta

    @property
    def name(self) -> str:
        """Name for messages: `CPython 3.11.7`, `PyPy 3.9`, `CPython`."""
        kind = "PyPy" if self.problem == "PyPy" else "CPython"
        if self.version is None:
            return kind
        return f"{kind} {version_text(self.version)}"


class Binary(NamedTuple):
    """What an executable file or a library has to do with Python."""

    image: Optional[Image]  # the interpreter in it
    dynamic: Mapping[str, Sequence[str]]  # Elf.dynamic(), if there is none in it
    runtime_offset: Optional[int] = None  # of _PyRuntime in the file


_Key = tuple[int, int, int, int, int]
_cache: OrderedDict[_Key, Binary] = OrderedDict()
_kept: dict[str, Any] = {}  # what earlier runs have found, by text of the key


def read_image(path: str, name: Optional[str] = None) -> Optional[Image]:
    """Return the interpreter in a file; None if there is none. Raise OSError.

    `name` is the path in the result (default: `path`).
    """
    return read_binary(path, name).image


def read_binary(path: str, name: Optional[str] = None) -> Binary:
    """Return the interpreter in a file, or the libraries that it needs. Raise OSError.

    `name` is the path in the result (default: `path`). Results are cached by device, inode,
    times of change and size.
    """
    with open(path, "rb", opener=open_nonblocking) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return Binary(None, {})
        key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        if key not in _cache:
            kept = _kept.get(_text(key))
            known = None if kept is None else _known(kept, file, name or path)
            _cache[key] = known or _binary(file, name or path)
            while len(_cache) > _CACHED:
                _cache.popitem(last=False)
        _cache.move_to_end(key)
        return _cache[key]


def _binary(file: IO[bytes], path: str) -> Binary:
    from zombiebpf.python import elf  # imports pyelftools, which takes 30 ms

    try:
        binary = elf.Elf(file)
        image = _image(binary, path)
        if image is None:
            return Binary(None, binary.dynamic())
        return Binary(image, {}, binary.offset_of(image.runtime))
    except elf.ERRORS:
        return Binary(None, {})  # not ELF, or damaged: the kernel cannot run it


def inputs() -> Iterator[bytes]:
    """Yield all that read_binary() depends on beside the file."""
    yield platform.machine().encode()
    for name in ("elf.py", "image.py", "offsets.py"):
        yield Path(__file__).with_name(name).read_bytes()


def keep() -> Optional[bytes]:
    """Return what was found, for preload() in another run; None: nothing new."""
    found = {_text(key): binary for key, binary in _cache.items()}
    if found.keys() <= _kept.keys():
        return None
    written = {
        key: [image and image._replace(offsets=None)[1:], dynamic, runtime_offset]
        for key, (image, dynamic, runtime_offset) in found.items()
    }
    return json.dumps({**_kept, **written}, default=bytes.hex).encode()


def preload(data: bytes) -> None:
    """Take over what keep() returned."""
    _kept.update(json.loads(data))


def _text(key: _Key) -> str:
    return " ".join(map(str, key))


def _known(kept: Any, file: IO[bytes], path: str) -> Optional[Binary]:
    """Return what an earlier run has found; None if it does not agree with the file.

    The bytes of the function that gets a uprobe are compared: one in the middle of an
    instruction would break the program. Offsets are not kept: a wrong one would show other lines.
    """
    values, dynamic, runtime_offset = kept
    if values is None:
        return Binary(None, dynamic)
    image = Image(path, *values)
    version: Any = image.version and tuple(image.version)
    image = image._replace(version=version, init_bytes=bytes.fromhex(str(image.init_bytes)))
    if image.init_offset is not None:
        at = image.init_offset + BREAKPOINT_BYTES
        if os.pread(file.fileno(), INIT_BYTES, at) != image.init_bytes:
            return None
    if image.problem is None and version is not None:
        found = os.pread(file.fileno(), DEBUG_OFFSETS_SIZE, runtime_offset or 0)
        try:
            image = image._replace(offsets=_offsets(version, platform.machine(), found))
        except OffsetsError:
            return None
    return Binary(image, dynamic, runtime_offset)


def _image(file: Elf, path: str) -> Optional[Image]:
    runtime = file.symbol("_PyRuntime")
    if runtime is None:
        return _without_runtime(file, path)
    version, level = _version(file, path)
    init = file.symbol(INIT) or file.symbol(INIT_3_7)
    code = b"" if init is None else file.bytes_at(init + BREAKPOINT_BYTES, INIT_BYTES)
    offsets = None
    problem = _problem(file, version, level)
    if problem is None and version is not None:
        try:
            found = file.bytes_at(runtime, DEBUG_OFFSETS_SIZE)
            offsets = _offsets(version, _machine(file), found)
        except OffsetsError as error:
            problem = str(error)
    return Image(
        path=path,
        version=version,
        runtime=runtime,
        code_type=file.symbol("PyCode_Type") or 0,
        str_type=file.symbol("PyUnicode_Type") or 0,
        bytes_type=file.symbol("PyBytes_Type") or 0,
        init=init,
        init_offset=None if init is None else file.offset_of(init),
        init_bytes=code,
        offsets=offsets,
        text_delta=_text_delta(file),
        problem=problem,
    )


def _without_runtime(file: Elf, path: str) -> Optional[Image]:
    """Describe CPython before 3.7 or PyPy; None: neither."""
    version, _ = _version_of_name(path)
    if any(file.symbol(each) is not None for each in PYPY_SYMBOLS):
        problem = "PyPy"
    elif file.symbol("PyInterpreterState_Head") is not None:
        version, _ = _version(file, path)
        problem = f"CPython {version_text(version)}" if version else "a CPython before 3.7"
    else:
        return None
    return Image(path, version, 0, 0, 0, 0, None, None, b"", None, _text_delta(file), problem)


def _problem(file: Elf, version: Optional[Version], level: int) -> Optional[str]:
    here, its = platform.machine(), _machine(file)
    if its not in MACHINES:
        return f"not for {' or '.join(MACHINES)} ({its})"
    if its != here:  # run by an emulator
        return f"not for {here} ({its})"
    if version is None:
        return "a CPython of unknown version"
    if offsets_of(version) is None:
        return f"an unknown CPython {version_text(version)}"
    if level not in _RELEASES:
        return f"a CPython {version_text(version)} before its release"
    if any(file.symbol(each) is not None for each in DEBUG_SYMBOLS):
        return "debug build"
    if file.symbol("PyCode_Type") is None:
        return "it does not export PyCode_Type"
    return None


def _offsets(version: Version, machine: str, runtime: bytes) -> Optional[Offsets]:
    """Return the offsets of a version; `runtime` is the beginning of its _PyRuntime."""
    if version[1] < FIRST_WITH_DEBUG_OFFSETS:
        return offsets_of(version, machine)
    return from_debug_offsets(runtime, version)


def _machine(file: Elf) -> str:
    """Return the machine as platform.machine() does."""
    return file.machine[len("EM_") :].lower()


def _text_delta(file: Elf) -> Optional[int]:
    if not file.position_independent:
        return None
    return next((each.vaddr - each.offset for each in file.loads if each.executable), 0)


def _version(file: Elf, path: str) -> tuple[Optional[Version], int]:
    """Return the version and the release level (0xF: final)."""
    symbol = file.symbol("Py_Version")
    if symbol is not None:
        raw = file.bytes_at(symbol, 4)
        if len(raw) == 4:
            hexversion = int.from_bytes(raw, "little")
            return version_of_hex(hexversion), hexversion >> 4 & 0xF
    soname = file.dynamic().get("soname", [""])[0]
    guess, level = _version_of_name(soname or path)
    # PY_VERSION ("3.8.18") is a string or, if the linker merged two, the end of one.
    what = rb"\d\.\d+" if guess is None else re.escape(b"%d.%d" % guess[:2])
    text = file.rodata()
    found = {
        each.groups()
        for each in re.finditer(_STRING % what, text)
        if text[max(each.start() - 1, 0) : each.start()] not in _IN_NUMBERS
    }
    if len(found) != 1:
        return guess, level
    number, before = found.pop()
    major, minor, micro = (int(each) for each in number.split(b"."))
    return (major, minor, micro), 0xA if before else 0xF


def _version_of_name(path: str) -> tuple[Optional[Version], int]:
    found = _NAME.search(os.path.basename(path))
    return (found and (int(found["major"]), int(found["minor"]), -1)), 0xF
