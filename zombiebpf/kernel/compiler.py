# SPDX-License-Identifier: Apache-2.0
"""Compile the probes with bcc, in a process of its own.

Clang's memory, some 130 MiB, is freed when that process exits. What libbcc prints, its
change of directories and its environment do not affect the observer.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from zombiebpf.bpf import headers, syscall
from zombiebpf.bpf.compiled import Compiled, Map, map_references, with_maps
from zombiebpf.bpf.loaded import MapError
from zombiebpf.bpf.locate_bcc import find_bcc, import_bcc
from zombiebpf.errors import ZombiebpfError
from zombiebpf.kernel.layout import Layout

CFLAGS = ("-Wno-address-of-packed-member", "-Wno-unused")
_SOURCE = "BCC_KERNEL_SOURCE"
_PR_SET_PDEATHSIG = 1  # prctl(2)
_ROOT = str(Path(__file__).resolve().parents[2])
_MAIN = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); from zombiebpf.kernel.compiler import main; main()"
)


# libbcc reports the errno of bpf(2) by the C library's text alone.
_ERRNOS = {os.strerror(number): number for number in errno.errorcode}
_REFUSED_MAP = re.compile(r"could not open bpf map: (.*), error: (.*)")
_ERROR_LINE = re.compile(r"^(?:\S+:\d+:\d+: )?(?:fatal )?error: .*$", re.MULTILINE)


class CompileError(Exception):
    """Source that does not compile, or a compiler that crashed."""

    def __init__(self, raised: str, printed: str) -> None:
        """Keep the text of bcc's exception, and what clang and libbcc wrote."""
        super().__init__(raised)
        self.raised, self.printed = raised, printed

    @property
    def summary(self) -> str:
        """Clang's first error, else the last line that was printed, else bcc's exception."""
        wrong = _ERROR_LINE.search(self.printed)
        lines = [wrong[0]] if wrong else self.printed.strip().splitlines()
        return lines[-1].strip() if lines else self.raised


class HeadersError(CompileError):
    """Kernel headers that bcc did not find; it needs them if the kernel has no BTF."""


def failure(raised: str, printed: str) -> Exception:
    """Return MapError, HeadersError or CompileError for what bcc raised and printed.

    bcc has neither types nor numbers for its errors; its texts are not translated.
    """
    refused = _REFUSED_MAP.search(printed)
    if refused:
        return MapError(refused[1], _ERRNOS.get(refused[2]), refused[2])
    if "Unable to find kernel headers" in printed + raised:
        return HeadersError(raised, printed)
    return CompileError(raised, printed)


def compile_probes(text: str, layout: Layout) -> Compiled:
    """Return the compiled probes.

    Raise CompileError if bcc refuses the source, HeadersError (a CompileError) without kernel
    headers, MapError if the kernel refuses a map, and ZombiebpfError if bcc cannot be run.
    """
    import subprocess  # a start whose probes are cached needs none

    with _kernel_source(layout) as environ:
        # a session of its own: Ctrl-C is for this process, which kills the other
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
    output = printed.decode("utf-8", "replace")
    kind, _, rest = out.partition(b"\n")
    if kind == b"compiled":
        try:
            return Compiled.from_bytes(rest)
        except ValueError:
            raise CompileError(f"the compiler was cut off ({process.returncode})", output) from None
    answer = rest.decode("utf-8", "replace")
    if kind == b"unusable":
        raise ZombiebpfError(*json.loads(answer))
    raise failure(answer or f"the compiler ended with {process.returncode}", output)


def inputs(text: str) -> Iterator[bytes]:
    """Yield all that the result depends on. Raise ZombiebpfError without bcc."""
    package = find_bcc()
    for part in (text, *CFLAGS, headers.kconfig(), platform.machine(), str(package)):
        yield part.encode()
    for name in ("version.py", "libbcc.py", "__init__.py"):
        with suppress(OSError):
            yield (package / name).read_bytes()


@contextmanager
def _kernel_source(layout: Layout) -> Iterator[Mapping[str, str]]:
    """Make the environment for bcc, which names the directory of kernel headers."""
    import tempfile

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
    """Compile standard input to standard output; the entry point of the compiling process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    out = os.dup(1)
    os.dup2(2, 1)  # whatever prints
    try:
        answer = b"compiled\n" + _compile(sys.stdin.buffer.read().decode()).to_bytes()
    except ZombiebpfError as error:
        answer = b"unusable\n" + json.dumps([error.what, error.fix]).encode()
    except Exception as error:  # bcc raises nothing more precise
        answer = b"refused\n" + str(error).encode()
    with open(out, "wb") as file:
        file.write(answer)
    sys.stdout.flush()
    os._exit(0)  # skip the destructors: they only free memory


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
            syscall.map_shape(descriptor),
            lib.bpf_table_key_desc(module.module, name).decode(),
            lib.bpf_table_leaf_desc(module.module, name).decode(),
        )
    assert numbers.keys() >= set().union(*map(map_references, programs.values()))
    return Compiled(maps, {name: with_maps(code, numbers) for name, code in programs.items()})


def _tables(lib: Any, module: int) -> Iterator[tuple[bytes, int]]:
    """Yield the names and descriptors of maps, by functions that bcc's Python does not declare."""
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
