# SPDX-License-Identifier: Apache-2.0
"""bpf(2), called directly: maps and programs as the kernel knows them (include/uapi/linux/bpf.h).

Each function raises OSError with the kernel's reason; ProgramError has the verifier's log too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import resource
from contextlib import suppress
from typing import NamedTuple, Optional

_SYSCALLS = {"x86_64": 321, "aarch64": 280}

_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_NEXT_KEY = 0, 1, 2, 4
_PROG_LOAD, _INFO_BY_FD, _RAW_TRACEPOINT_OPEN = 5, 15, 17
PERCPU_TYPES = frozenset({5, 6, 10, 21})  # hash, array, LRU hash, cgroup storage

KPROBE, RAW_TRACEPOINT, TRACING = 2, 17, 26  # BPF_PROG_TYPE_...: KPROBE serves uprobes too
TRACE_FENTRY = 24  # BPF_TRACE_FENTRY
INSTRUCTION_BYTES = 8
_NAME_BYTES = 16
_LOG_BYTES = (4 << 20, 256 << 20)  # tried in turn: a whole log may be long


class MapShape(NamedTuple):
    """What a map is created from."""

    kind: int
    key_bytes: int
    value_bytes: int
    entries: int
    flags: int


class ProgramError(OSError):
    """A program that was not loaded; `log` is the verifier's, "" where it was not asked."""

    def __init__(self, number: int, log: str) -> None:
        super().__init__(number, os.strerror(number))
        self.log = log


class _Map(ctypes.Structure):
    _fields_ = (
        ("map_type", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("inner_map_fd", ctypes.c_uint32),
        ("numa_node", ctypes.c_uint32),
        ("map_name", ctypes.c_char * _NAME_BYTES),
    )


class _Element(ctypes.Structure):
    _fields_ = (
        ("map_fd", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
        ("key", ctypes.c_void_p),
        ("value", ctypes.c_void_p),  # or the next key
        ("flags", ctypes.c_uint64),
    )


class _Program(ctypes.Structure):
    _fields_ = (
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_name", ctypes.c_char * _NAME_BYTES),
        ("prog_ifindex", ctypes.c_uint32),
        ("expected_attach_type", ctypes.c_uint32),
        ("prog_btf_fd", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("func_info", ctypes.c_uint64),
        ("func_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_uint64),
        ("line_info_cnt", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
    )


class _Tracepoint(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_uint64),
        ("prog_fd", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
    )


class _Asked(ctypes.Structure):
    _fields_ = (
        ("fd", ctypes.c_uint32),
        ("info_len", ctypes.c_uint32),
        ("info", ctypes.c_uint64),
    )


class _MapInfo(ctypes.Structure):
    """The beginning of struct bpf_map_info; the kernel gives as much as is asked for."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
    )


class _ProgramInfo(ctypes.Structure):
    """Of struct bpf_prog_info, whose members keep their places."""

    _fields_ = (
        ("others", ctypes.c_uint8 * 208),
        ("recursion_misses", ctypes.c_uint64),
    )


def create_map(name: str, shape: MapShape) -> int:
    """A descriptor; the map lives as long as it, and as programs that use it."""
    attributes = _Map(*shape, map_name=name.encode()[: _NAME_BYTES - 1])
    return _with_memory(_MAP_CREATE, attributes)


def map_shape(descriptor: int) -> MapShape:
    info = _MapInfo()
    _call(
        _INFO_BY_FD,
        _Asked(fd=descriptor, info_len=ctypes.sizeof(info), info=ctypes.addressof(info)),
    )
    return MapShape(info.type, info.key_size, info.value_size, info.max_entries, info.map_flags)


def runs_left_out(descriptor: int) -> int:
    """How often the kernel has not run a program, because it stood in it already on that processor:
    a task that was preempted in it (0 before 5.12, which do not prevent that: commit 9ed9e9ba2337,
    "bpf: Count the number of times recursion was prevented")."""
    info = _ProgramInfo()
    _call(
        _INFO_BY_FD,
        _Asked(fd=descriptor, info_len=ctypes.sizeof(info), info=ctypes.addressof(info)),
    )
    return int(info.recursion_misses)


def lookup(descriptor: int, key: ctypes._CData, value: ctypes._CData) -> bool:
    """Fill `value` in; False if the map has no such key."""
    try:
        _call(_MAP_LOOKUP, _element(descriptor, key, value))
    except FileNotFoundError:
        return False
    return True


def update(descriptor: int, key: ctypes._CData, value: ctypes._CData) -> None:
    _call(_MAP_UPDATE, _element(descriptor, key, value))


def next_key(descriptor: int, key: Optional[ctypes._CData], following: ctypes._CData) -> bool:
    """Fill in the key that comes after `key`, the first after None; False at the end."""
    try:
        _call(_MAP_NEXT_KEY, _element(descriptor, key, following))
    except FileNotFoundError:
        return False
    return True


def load_program(
    name: str, kind: int, code: bytes, attach_type: int = 0, attach_btf_id: int = 0
) -> int:
    """A descriptor. `code` refers to maps by their descriptors."""
    given = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = _Program(
        prog_type=kind,
        insn_cnt=len(code) // INSTRUCTION_BYTES,
        insns=ctypes.addressof(given),
        license=ctypes.addressof(licence),
        prog_name=kernel_name(name),
        expected_attach_type=attach_type,
        attach_btf_id=attach_btf_id,
    )
    try:
        return _with_memory(_PROG_LOAD, attributes)
    except OSError as error:
        number = error.errno or errno.EINVAL
    for size in _LOG_BYTES:
        log = ctypes.create_string_buffer(size)
        attributes.log_level, attributes.log_size = 1, size
        attributes.log_buf = ctypes.addressof(log)
        try:
            return _call(_PROG_LOAD, attributes)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                break
    raise ProgramError(number, log.value.decode("utf-8", "replace"))


def kernel_name(name: str) -> bytes:
    """A program's name as the kernel shows it (`bpftool prog`): there is room for 15 bytes."""
    short = re.sub("^on_(sched_process_)?", "", name)
    return f"zb_{short}".encode()[: _NAME_BYTES - 1]


def open_raw_tracepoint(program: int, name: str) -> int:
    """Run the program there until the descriptor is closed."""
    given = ctypes.create_string_buffer(name.encode())
    return _call(_RAW_TRACEPOINT_OPEN, _Tracepoint(ctypes.addressof(given), program))


def open_fentry(program: int) -> int:
    """The same at the function that the program was loaded for."""
    return _call(_RAW_TRACEPOINT_OPEN, _Tracepoint(prog_fd=program))


def _element(descriptor: int, key: Optional[ctypes._CData], value: ctypes._CData) -> _Element:
    return _Element(
        map_fd=descriptor,
        key=None if key is None else ctypes.addressof(key),
        value=ctypes.addressof(value),
    )


def _with_memory(command: int, attributes: ctypes.Structure) -> int:
    """Until Linux 5.11 what BPF takes counts against RLIMIT_MEMLOCK, which says EPERM."""
    try:
        return _call(command, attributes)
    except PermissionError:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        if resource.getrlimit(resource.RLIMIT_MEMLOCK) == unlimited:
            raise
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
            return _call(command, attributes)
        raise


def _call(command: int, attributes: ctypes.Structure) -> int:
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"bpf(2) of {platform.machine()} is not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(
        ctypes.c_long(number), ctypes.c_long(command), ctypes.byref(attributes),
        ctypes.c_ulong(ctypes.sizeof(attributes)),
    )  # fmt: skip
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
