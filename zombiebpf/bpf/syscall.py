# SPDX-License-Identifier: Apache-2.0
"""Call bpf(2): create maps, load and attach programs (include/uapi/linux/bpf.h).

Every function raises OSError with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
from contextlib import suppress
from typing import NamedTuple, Optional

_SYSCALLS = {"x86_64": 321, "aarch64": 280}

_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_NEXT_KEY = 0, 1, 2, 4
_PROG_LOAD, _INFO_BY_FD, _RAW_TRACEPOINT_OPEN, _BTF_LOAD, _LINK_CREATE = 5, 15, 17, 18, 28
PERCPU_TYPES = frozenset({5, 6, 10, 21})  # hash, array, LRU hash, cgroup storage

KPROBE, RAW_TRACEPOINT, TRACING = 2, 17, 26  # BPF_PROG_TYPE_...: KPROBE serves uprobes too
TRACE_FENTRY, TRACE_UPROBE_MULTI = 24, 48  # BPF_TRACE_...
INSTRUCTION_BYTES = 8
_FUNCTION_INFO_BYTES = 8  # struct bpf_func_info
_NAME_BYTES = 16  # of a map or program, with the NUL: BPF_OBJ_NAME_LEN
_MAX_INTERRUPTIONS = 4  # as libbpf has it
_LOG_BYTES = (4 << 20, 256 << 20)  # tried in turn: a whole log may be long


class MapShape(NamedTuple):
    """What a map is created from: its type (BPF_MAP_TYPE_...), sizes in bytes, and flags."""

    kind: int
    key_bytes: int
    value_bytes: int
    entries: int
    flags: int


class ProgramError(OSError):
    """A program that was not loaded. `log` is the verifier's; "" if it did not run."""

    def __init__(self, number: int, log: str) -> None:
        """Wrap an errno and the verifier's log."""
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


class _Btf(ctypes.Structure):
    _fields_ = (
        ("btf", ctypes.c_uint64),
        ("log_buf", ctypes.c_uint64),
        ("size", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_level", ctypes.c_uint32),
    )


class _Tracepoint(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_uint64),
        ("prog_fd", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
    )


class _UprobeLink(ctypes.Structure):
    """The attributes of BPF_LINK_CREATE, with those of a link of type uprobe_multi."""

    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("target_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("path", ctypes.c_uint64),
        ("offsets", ctypes.c_uint64),
        ("ref_ctr_offsets", ctypes.c_uint64),
        ("cookies", ctypes.c_uint64),
        ("count", ctypes.c_uint32),
        ("uprobe_flags", ctypes.c_uint32),
        ("pid", ctypes.c_uint32),  # 0: any process
        ("unused", ctypes.c_uint32),
    )


class _InfoQuery(ctypes.Structure):
    _fields_ = (
        ("fd", ctypes.c_uint32),
        ("info_len", ctypes.c_uint32),
        ("info", ctypes.c_uint64),
    )


class _MapInfo(ctypes.Structure):
    """The beginning of struct bpf_map_info; the kernel fills in as much as is asked for."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
    )


class _ProgramInfo(ctypes.Structure):
    """The beginning of struct bpf_prog_info."""

    _fields_ = (
        ("others", ctypes.c_uint8 * 208),
        ("recursion_misses", ctypes.c_uint64),
    )


def create_map(name: str, shape: MapShape) -> int:
    """Create a map; return its descriptor. The map lives while that, or a program, uses it."""
    attributes = _Map(*shape, map_name=name.encode()[: _NAME_BYTES - 1])
    return _with_memory(_MAP_CREATE, attributes)


def map_shape(descriptor: int) -> MapShape:
    """Return what the map was created from."""
    info = _MapInfo()
    _fill_info(descriptor, info)
    return MapShape(info.type, info.key_size, info.value_size, info.max_entries, info.map_flags)


def missed_runs(descriptor: int) -> int:
    """Return how often the kernel skipped a program (recursion_misses).

    It does so while a task that was preempted inside the program waits on that CPU. 0 before
    Linux 5.12, which does not prevent such recursion (commit 9ed9e9ba2337, "bpf: Count the
    number of times recursion was prevented").
    """
    info = _ProgramInfo()
    _fill_info(descriptor, info)
    return int(info.recursion_misses)


def _fill_info(descriptor: int, info: ctypes.Structure) -> None:
    size, address = ctypes.sizeof(info), ctypes.addressof(info)
    _call(_INFO_BY_FD, _InfoQuery(fd=descriptor, info_len=size, info=address))


def lookup(descriptor: int, key: ctypes._CData, value: ctypes._CData) -> bool:
    """Read the value of a key into `value`. Return False if there is none."""
    try:
        _call(_MAP_LOOKUP, _element(descriptor, key, value))
    except FileNotFoundError:
        return False
    return True


def update(descriptor: int, key: ctypes._CData, value: ctypes._CData) -> None:
    """Set the value of a key."""
    _call(_MAP_UPDATE, _element(descriptor, key, value))


def next_key(descriptor: int, key: Optional[ctypes._CData], following: ctypes._CData) -> bool:
    """Read the key after `key` (None: the first key) into `following`. Return False at the end."""
    try:
        _call(_MAP_NEXT_KEY, _element(descriptor, key, following))
    except FileNotFoundError:
        return False
    return True


def load_btf(data: bytes) -> int:
    """Load types for load_program(); return a descriptor."""
    given = ctypes.create_string_buffer(data, len(data))
    return _with_memory(_BTF_LOAD, _Btf(btf=ctypes.addressof(given), size=len(data)))


def load_program(
    name: str,
    kind: int,
    code: bytes,
    attach_type: int = 0,
    attach_btf_id: int = 0,
    btf: int = 0,
    functions: bytes = b"",
    with_log: bool = True,
) -> int:
    """Load a program; return its descriptor. The kernel shows the first 15 bytes of `name`.

    `kind` is a program type; `code` refers to maps by their descriptors. `functions` is an array
    of struct bpf_func_info, which refers to the types `btf`. Raise ProgramError, whose log costs
    a second verification.
    """
    given = ctypes.create_string_buffer(code, len(code))
    infos = ctypes.create_string_buffer(functions, len(functions))
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = _Program(
        prog_type=kind,
        insn_cnt=len(code) // INSTRUCTION_BYTES,
        insns=ctypes.addressof(given),
        license=ctypes.addressof(licence),
        prog_name=name.encode()[: _NAME_BYTES - 1],
        expected_attach_type=attach_type,
        attach_btf_id=attach_btf_id,
        prog_btf_fd=btf,
        func_info_rec_size=_FUNCTION_INFO_BYTES if functions else 0,
        func_info=ctypes.addressof(infos) if functions else 0,
        func_info_cnt=len(functions) // _FUNCTION_INFO_BYTES,
    )
    try:
        return _verify(attributes)
    except OSError as error:
        number = error.errno or errno.EINVAL
    if not with_log:
        raise ProgramError(number, "")
    for size in _LOG_BYTES:
        log = ctypes.create_string_buffer(size)
        attributes.log_level, attributes.log_size = 1, size
        attributes.log_buf = ctypes.addressof(log)
        try:
            return _verify(attributes)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                break
    raise ProgramError(number, log.value.decode("utf-8", "replace"))


def _verify(attributes: _Program) -> int:
    """Load a program; try again if a signal interrupted the verifier (do_check(), EAGAIN)."""
    for _ in range(_MAX_INTERRUPTIONS):
        with suppress(BlockingIOError):
            return _with_memory(_PROG_LOAD, attributes)
    return _with_memory(_PROG_LOAD, attributes)


def open_raw_tracepoint(program: int, name: str) -> int:
    """Attach a program to a raw tracepoint. Return a descriptor; closing it detaches."""
    given = ctypes.create_string_buffer(name.encode())
    return _call(_RAW_TRACEPOINT_OPEN, _Tracepoint(ctypes.addressof(given), program))


def open_fentry(program: int) -> int:
    """Attach a program to its function (fentry). Return a descriptor; closing it detaches."""
    return _call(_RAW_TRACEPOINT_OPEN, _Tracepoint(prog_fd=program))


def link_uprobe(program: int, path: str, offset: int) -> int:
    """Run a program at the instruction `offset` bytes into a file. Linux 6.6 and newer.

    The program was loaded with TRACE_UPROBE_MULTI. Return a descriptor; closing it detaches.
    """
    given = ctypes.create_string_buffer(os.fsencode(path))
    offsets = ctypes.c_uint64(offset)
    attributes = _UprobeLink(
        prog_fd=program,
        attach_type=TRACE_UPROBE_MULTI,
        path=ctypes.addressof(given),
        offsets=ctypes.addressof(offsets),
        count=1,
    )
    return _call(_LINK_CREATE, attributes)


def _element(descriptor: int, key: Optional[ctypes._CData], value: ctypes._CData) -> _Element:
    return _Element(
        map_fd=descriptor,
        key=None if key is None else ctypes.addressof(key),
        value=ctypes.addressof(value),
    )


def _with_memory(command: int, attributes: ctypes.Structure) -> int:
    """Retry with RLIMIT_MEMLOCK lifted, which limits BPF before Linux 5.11 and causes EPERM."""
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
