# SPDX-License-Identifier: Apache-2.0
"""bcc compiles the probes, in a process of its own.

So clang's memory, some 130 MiB, goes with that process, and what libbcc prints,
its change of directories and its environment touch nobody else.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from zombiebpf.errors import ZombiebpfError
from zombiebpf.kernel import bpf, headers
from zombiebpf.kernel.compiled import Compiled, Map, map_references, with_maps
from zombiebpf.kernel.layout import Layout
from zombiebpf.kernel.locate import import_bcc

CFLAGS = ("-Wno-address-of-packed-member", "-Wno-unused")
_SOURCE = "BCC_KERNEL_SOURCE"
_PR_SET_PDEATHSIG = 1  # prctl(2)
_ROOT = str(Path(__file__).resolve().parents[2])
_MAIN = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); from zombiebpf.kernel.compiler import main; main()"
)


class CompileError(Exception):
    """`raised` is what bcc raised, `printed` what clang and libbcc wrote."""

    def __init__(self, raised: str, printed: str) -> None:
        super().__init__(raised)
        self.raised, self.printed = raised, printed


def compile_probes(text: str, layout: Layout) -> Compiled:
    """CompileError where bcc refuses; ZombiebpfError where it cannot be run at all."""
    with _kernel_source(layout) as environ:
        # a session of its own: Ctrl-C is for the one who waits
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _MAIN],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environ, start_new_session=True,
        )  # fmt: skip
        try:
            out, printed = process.communicate(text.encode())
        finally:
            process.kill()
            process.wait()
    said = printed.decode("utf-8", "replace")
    kind, _, rest = out.partition(b"\n")
    if kind == b"compiled":
        try:
            return Compiled.from_bytes(rest)
        except ValueError:
            raise CompileError(f"the compiler was cut off ({process.returncode})", said) from None
    told = rest.decode("utf-8", "replace")
    if kind == b"unusable":
        raise ZombiebpfError(*json.loads(told))
    raise CompileError(told or f"the compiler ended with {process.returncode}", said)


@contextmanager
def _kernel_source(layout: Layout) -> Iterator[Mapping[str, str]]:
    """The environment for bcc, which looks for kernel headers where it says."""
    environ = dict(os.environ)
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="zombiebpf-"))
            if layout.source == "BTF":
                headers.write_stubs(Path(directory))
                environ[_SOURCE] = directory
        except OSError as error:
            raise ZombiebpfError(
                f"temporary files cannot be written: {error.strerror}",
                "set TMPDIR to a directory with some room",
            ) from None
        yield environ


def main() -> None:
    """In the process of its own: the text on standard input, the probes on standard output."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    out = os.dup(1)
    os.dup2(2, 1)  # whatever prints
    try:
        answer = b"compiled\n" + _compile(sys.stdin.buffer.read().decode()).to_bytes()
    except ZombiebpfError as error:
        answer = b"unusable\n" + json.dumps([error.what, error.cure]).encode()
    except Exception as error:  # bcc raises nothing more precise
        answer = b"refused\n" + str(error).encode()
    with open(out, "wb") as file:
        file.write(answer)
    sys.stdout.flush()
    os._exit(0)  # nothing here is worth tidying up


def _compile(text: str) -> Compiled:
    bcc = import_bcc()
    module: Any = bcc.BPF(text=text.encode(), cflags=list(CFLAGS))
    lib = bcc.libbcc.lib
    programs: dict[str, bytes] = {}
    for index in range(lib.bpf_num_functions(module.module)):
        name = lib.bpf_function_name(module.module, index)
        programs[name.decode()] = module.dump_func(name)
    maps: dict[str, Map] = {}
    numbers: dict[int, int] = {}
    for name, descriptor in _tables(lib, module.module):
        numbers[descriptor] = len(maps)
        maps[name.decode()] = Map(
            bpf.map_shape(descriptor),
            lib.bpf_table_key_desc(module.module, name).decode(),
            lib.bpf_table_leaf_desc(module.module, name).decode(),
        )
    assert numbers.keys() >= set().union(*map(map_references, programs.values()))
    return Compiled(maps, {name: with_maps(code, numbers) for name, code in programs.items()})


def _tables(lib: Any, module: int) -> Iterator[tuple[bytes, int]]:
    """Names and descriptors: functions of libbcc that its Python does not declare."""
    for function, result in (
        (lib.bpf_num_tables, ctypes.c_size_t),
        (lib.bpf_table_name, ctypes.c_char_p),
        (lib.bpf_table_fd_id, ctypes.c_int),
    ):
        function.restype = result
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    lib.bpf_num_tables.argtypes = [ctypes.c_void_p]
    for index in range(lib.bpf_num_tables(module)):
        yield lib.bpf_table_name(module, index), lib.bpf_table_fd_id(module, index)
