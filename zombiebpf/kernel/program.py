# SPDX-License-Identifier: Apache-2.0
"""Assemble, compile, load and attach the probes. Each failure is an error of one line."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from zombiebpf.bpf import functions, syscall
from zombiebpf.bpf.compiled import Compiled
from zombiebpf.bpf.loaded import MapError, Probes
from zombiebpf.bpf.subprograms import FIRST_SUBPROGRAM
from zombiebpf.errors import PrivilegeError, ZombiebpfError
from zombiebpf.kernel import cache, compiler
from zombiebpf.kernel.compiler import CompileError, HeadersError, compile_probes
from zombiebpf.kernel.layout import Layout
from zombiebpf.kernel.variants import STACK_FUNCTIONS

# One translation unit: bcc rewrites map calls only in the main file.
SOURCES = (
    "wire.h", "pywire.h", "state.h", "pthread.h", "python.h", "syscall.h", "block.h",
    "reparent.h", "attach_scan.h", "attach_scan.bpf.c", "fork.bpf.c", "exec.bpf.c",
    "exit.bpf.c", "reap.bpf.c", "zombie.bpf.c", "wait.bpf.c", "python_stack.bpf.c",
    "python_send.bpf.c", "python_start.bpf.c",
)  # fmt: skip
# Programs that the probes call to walk a Python stack, by their index in the map `stages`.
STAGES = ("stage_find", "stage_walk", "stage_send")
# Functions that the probes call, by their number (SUBPROGRAM in probes/state.h).
SUBPROGRAMS = ("take_over", "consider", "tell_exit")
_PACKAGE = Path(__file__).resolve().parent.parent

_REFUSED = (
    "a policy forbids BPF here (container, seccomp, lockdown): run it with sudo on the host, or "
    "in a privileged container; `zombiebpf doctor` says more"
)
_UNKNOWN = "this kernel or this bcc is none that zombiebpf knows: report it with `zombiebpf doctor`"
_NO_MEMORY = "raise the memory limit of this cgroup or machine"
NO_HEADERS = "boot a kernel with CONFIG_DEBUG_INFO_BTF, or install linux-headers-$(uname -r)"

# Lines of the verifier's log that do not say what is wrong: instructions, states, counts.
_NO_VERDICT = re.compile(
    r"\s*$|processed |(cur|old) state|from \d+|\d+: |\s*R\d+\w*=|[;:]|last_idx|mark_precise"
)


class NotCompiledError(Exception):
    """Probes that are not in the cache, where they must not be compiled."""


def probes_directory() -> Path:
    """Return the directory of the probes' sources: in the package (a wheel), or beside it."""
    for place in (_PACKAGE / "probes", _PACKAGE.parent / "probes"):
        if (place / "wire.h").is_file():
            return place
    raise ZombiebpfError("the probes' sources are missing", "install zombiebpf again")


def source(layout: Layout, macros: Mapping[str, str]) -> str:
    """Return the whole C text; its #line directives make the compiler cite the source files."""
    numbers = {
        f"NUMBER_OF_{name}": str(FIRST_SUBPROGRAM + number)
        for number, name in enumerate(SUBPROGRAMS)
    }
    defined = {**layout.macros, **macros, **numbers}
    parts = [f"#define {name} {value}\n" for name, value in defined.items()]
    parts.append(f'#line 1 "layout.h"\n{layout.c}\n')
    directory = probes_directory()
    for name in SOURCES:
        parts.append(f'#line 1 "{name}"\n{(directory / name).read_text()}\n')
    return "".join(parts)


def load(
    text: str,
    layout: Layout,
    tracepoints: Sequence[str],
    before: Sequence[tuple[str, str]] = (),
    made_from: bytes = b"",
    may_compile: bool = True,
) -> Probes:
    """Compile, load and attach the program on_NAME of each tracepoint.

    `before` are further programs (function, tracepoint) that run before them. Probes that
    were compiled before are taken if `made_from` is the same, too. Raise PrivilegeError or
    ZombiebpfError with the fix, and NotCompiledError unless `may_compile`.
    """
    try:
        compiled = _compiled(text, layout, made_from, may_compile)
        probes = Probes(compiled, kernel_name, SUBPROGRAMS)
    except MapError as error:
        raise _refusal(f"the kernel refuses to create the BPF map {error.name}", error) from None
    try:
        for name in tracepoints:
            _load(probes, f"on_{name}", name)
        _load_stages(probes)
        for function, name in before:
            _load(probes, function, name)
        for function, name in (*before, *((f"on_{name}", name) for name in tracepoints)):
            try:
                probes.attach(function, name)
            except OSError as error:
                raise _attach_error(name, error) from None
    except BaseException:
        probes.close()
        raise
    return probes


def _compiled(text: str, layout: Layout, made_from: bytes, may_compile: bool) -> Compiled:
    name = cache.name_of(cache.PROBES, [made_from, *compiler.inputs(text)])
    kept = cache.find(name)
    if kept is not None:
        with suppress(ValueError):
            return Compiled.from_bytes(kept)
    if not may_compile:
        raise NotCompiledError
    try:
        found = compile_probes(text, layout)
    except HeadersError:
        raise ZombiebpfError(
            "this kernel has no BTF and its headers are not installed", NO_HEADERS
        ) from None
    except CompileError as error:
        raise ZombiebpfError(f"the probes do not compile: {error.summary}", _UNKNOWN) from None
    cache.keep(name, found.to_bytes())
    return found


def kernel_name(program: str) -> str:
    """Return the name of a program that `bpftool prog` shows, where it is cut to 15 bytes."""
    return "zb_" + re.sub("^on_(sched_process_)?", "", program)


def _load(probes: Probes, function: str, name: str) -> int:
    """Load a program; `name` is for error messages."""
    try:
        return probes.load(function, syscall.RAW_TRACEPOINT)
    except OSError as error:
        raise _load_error(name, error) from None


def attach_functions(probes: Probes, wanted: Sequence[functions.Probe]) -> list[int]:
    """Attach programs to functions of the kernel; return descriptors for functions.close().

    Raise PrivilegeError or ZombiebpfError with the fix.
    """
    opened: list[int] = []
    try:
        for descriptor in functions.attach(probes, wanted, STAGES, STACK_FUNCTIONS):
            opened.append(descriptor)
    except BaseException as error:
        functions.close(opened)
        if isinstance(error, functions.HookError):
            raise _load_error(error.function, error.error) from None
        raise
    return opened


def _load_stages(probes: Probes) -> None:
    stages = probes["stages"]
    for number, function in enumerate(STAGES):
        program = _load(probes, function, "Python's stacks")
        try:
            stages[stages.Key(number)] = stages.Leaf(program)
        except OSError as error:
            raise _load_error("Python's stacks", error) from None


def _load_error(name: str, error: OSError) -> ZombiebpfError:
    if isinstance(error, syscall.ProgramError) and error.log:  # EACCES is the verifier's then
        verdicts = [line for line in error.log.splitlines() if not _NO_VERDICT.match(line)]
        verdict = verdicts[-1].strip() if verdicts else functions.reason(error)
        return ZombiebpfError(
            f"the kernel's verifier refuses the probe of {name}: {verdict}", _UNKNOWN
        )
    return _refusal(f"the kernel refuses to load the probe of {name}", error)


def _attach_error(name: str, error: OSError) -> ZombiebpfError:
    if error.errno == errno.ENOENT:
        return ZombiebpfError(f"this kernel has no tracepoint {name}", _UNKNOWN)
    return _refusal(f"the kernel refuses to attach the probe of {name}", error)


def _refusal(what: str, error: OSError) -> ZombiebpfError:
    """Return the error for a failed bpf(2) whose cause is not in the programs."""
    what = f"{what}: {functions.reason(error)}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return PrivilegeError(what, _REFUSED)
    return ZombiebpfError(what, _NO_MEMORY if error.errno == errno.ENOMEM else _UNKNOWN)
