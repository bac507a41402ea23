# SPDX-License-Identifier: Apache-2.0
"""The probes: put together, compiled, loaded, attached. Each failure is one line."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from zombiebpf.errors import PrivilegeError, ZombiebpfError
from zombiebpf.kernel import bpf, cache, functions
from zombiebpf.kernel.compiled import Compiled
from zombiebpf.kernel.compiler import CompileError, compile_probes
from zombiebpf.kernel.layout import Layout
from zombiebpf.kernel.loaded import MapError, Probes

# One translation unit: bcc rewrites map calls in the main file only.
SOURCES = (
    "wire.h",
    "pywire.h",
    "state.h",
    "pthread.h",
    "python.h",
    "syscall.h",
    "block.h",
    "reparent.h",
    "takeover.h",
    "takeover.bpf.c",
    "fork.bpf.c",
    "exec.bpf.c",
    "exit.bpf.c",
    "reap.bpf.c",
    "zombie.bpf.c",
    "wait.bpf.c",
    "python_stack.bpf.c",
    "python_send.bpf.c",
    "python_start.bpf.c",
)
# The walk of a Python stack: programs that the probes call, in the order of their numbers.
STAGES = ("stage_find", "stage_walk", "stage_send")
_PACKAGE = Path(__file__).resolve().parent.parent

_REFUSED = (
    "a policy forbids BPF here (container, seccomp, lockdown): run it with sudo on the host, or "
    "in a privileged container; `zombiebpf doctor` says more"
)
_UNKNOWN = "this kernel or this bcc is none that zombiebpf knows: report it with `zombiebpf doctor`"
_NO_MEMORY = "raise the memory limit of this cgroup or machine"

# Lines of the verifier's log that do not say what is wrong: instructions, states, counts.
_NO_VERDICT = re.compile(
    r"\s*$|processed |(cur|old) state|from \d+|\d+: |\s*R\d+\w*=|[;:]|last_idx|mark_precise"
)


def probes_directory() -> Path:
    """Where the probes' sources lie: in a wheel inside the package, in a checkout beside it."""
    for place in (_PACKAGE / "probes", _PACKAGE.parent / "probes"):
        if (place / "wire.h").is_file():
            return place
    raise ZombiebpfError("the probes' sources are missing", "install zombiebpf again")


def source(layout: Layout, macros: Mapping[str, str]) -> str:
    """The whole C text; #line makes the compiler cite our files."""
    defined = {**layout.macros, **macros}
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
) -> Probes:
    """Compile, load and attach. ZombiebpfError says what failed and the cure.

    `before` are further programs (function, tracepoint), run before those of `tracepoints`.
    """
    compiled = _compiled(text, layout)
    try:
        probes = Probes(compiled)
    except MapError as error:
        what = f"the kernel refuses to create the BPF map {error.name}"
        raise _refusal(what, error.strerror or str(error)) from None
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


def _compiled(text: str, layout: Layout) -> Compiled:
    name = cache.name_of(text)
    found = cache.find(name)
    if found is None:
        try:
            found = compile_probes(text, layout)
        except CompileError as error:
            raise _compile_error(error.raised, error.printed) from None
        cache.keep(name, found)
    return found


def _load(probes: Probes, function: str, name: str) -> int:
    """`name` is what the user is told."""
    try:
        return probes.load(function, bpf.RAW_TRACEPOINT)
    except bpf.ProgramError as error:
        raise _load_error(name, error.strerror or str(error), error.log) from None


def attach_functions(probes: Probes, wanted: Sequence[functions.Probe]) -> list[int]:
    """Hook functions of the kernel, beside what load() has attached; for functions.close()."""
    opened: list[int] = []
    try:
        for descriptor in functions.attach(probes, wanted, STAGES):
            opened.append(descriptor)
    except functions.HookError as told:
        functions.close(opened)
        error = told.error
        log = error.log if isinstance(error, bpf.ProgramError) else ""
        raise _load_error(told.function, error.strerror or str(error), log) from None
    except BaseException:
        functions.close(opened)
        raise
    return opened


def _load_stages(probes: Probes) -> None:
    stages = probes["stages"]
    for number, function in enumerate(STAGES):
        program = _load(probes, function, "Python's stacks")
        try:
            stages[stages.Key(number)] = stages.Leaf(program)
        except OSError as error:
            raise _load_error("Python's stacks", error.strerror or str(error), "") from None


def _first(pattern: str, text: str) -> Optional[str]:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else None


def _compile_error(error: str, output: str) -> ZombiebpfError:
    refused = re.search(r"could not open bpf map: (.*), error: (.*)", output)
    if refused:
        return _refusal(f"the kernel refuses to create the BPF map {refused[1]}", refused[2])
    if "Unable to find kernel headers" in output + error:
        return ZombiebpfError(
            "this kernel has no BTF and its headers are not installed",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF, or install linux-headers-$(uname -r)",
        )
    wrong = _first(r"^((?:\S+:\d+:\d+: )?(?:fatal )?error: .*)$", output) or _last_line(output)
    return ZombiebpfError(f"the probes do not compile: {wrong or error}", _UNKNOWN)


def _load_error(name: str, reason: str, log: str) -> ZombiebpfError:
    if "processed " in log:  # it is the verifier who says EACCES or EINVAL, and why
        verdicts = [line for line in log.splitlines() if not _NO_VERDICT.match(line)]
        return ZombiebpfError(
            f"the kernel's verifier refuses the probe of {name}: "
            + (verdicts[-1].strip() if verdicts else reason),
            _UNKNOWN,
        )
    return _refusal(f"the kernel refuses to load the probe of {name}", reason)


def _attach_error(name: str, error: OSError) -> ZombiebpfError:
    if error.errno == errno.ENOENT:
        return ZombiebpfError(f"this kernel has no tracepoint {name}", _UNKNOWN)
    what = f"the kernel refuses to attach the probe of {name}"
    return _refusal(what, error.strerror or str(error))


def _refusal(what: str, reason: str) -> ZombiebpfError:
    """bpf(2) has failed for a reason that is not in our programs."""
    if "not permitted" in reason or "denied" in reason:
        return PrivilegeError(f"{what}: {reason}", _REFUSED)
    cure = _NO_MEMORY if "Cannot allocate memory" in reason else _UNKNOWN
    return ZombiebpfError(f"{what}: {reason}", cure)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
