# SPDX-License-Identifier: Apache-2.0
"""The probes: put together, compiled, loaded, attached. Each failure is one line."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Optional

from zombiebpf.errors import PrivilegeError, ZombiebpfError
from zombiebpf.kernel import headers
from zombiebpf.kernel.layout import Layout
from zombiebpf.kernel.locate import import_bcc

# One translation unit: bcc rewrites map calls in the main file only.
SOURCES = (
    "wire.h",
    "pywire.h",
    "state.h",
    "python.h",
    "syscall.h",
    "block.h",
    "reparent.h",
    "takeover.h",
    "takeover.bpf.c",
    "fork.bpf.c",
    "exec.bpf.c",
    "exit.bpf.c",
    "zombie.bpf.c",
    "reap.bpf.c",
    "wait.bpf.c",
    "python_stack.bpf.c",
    "python_send.bpf.c",
    "python_start.bpf.c",
)
# The walk of a Python stack: programs that the probes call, in the order of their numbers.
STAGES = ("stage_find", "stage_walk", "stage_send")
_PACKAGE = Path(__file__).resolve().parent.parent
_SOURCE = "BCC_KERNEL_SOURCE"

_REFUSED = (
    "a policy forbids BPF here (container, seccomp, lockdown): run it with sudo on the host, or "
    "in a privileged container; `zombiebpf doctor` says more"
)
_UNKNOWN = "this kernel or this bcc is none that zombiebpf knows: report it with `zombiebpf doctor`"
_NO_MEMORY = "raise the memory limit of this cgroup or machine"

# Lines of the verifier's log that do not say what is wrong: instructions, states, counts.
_NO_VERDICT = re.compile(
    r"\s*$|bpf: |libbpf: |processed |(cur|old) state|from \d+|\d+: |R\d+|[;:]|last_idx|mark_precise"
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
) -> Any:
    """Compile, load and attach: the bcc.BPF. ZombiebpfError says what failed and the cure.

    `before` are further programs (function, tracepoint), run before those of `tracepoints`.
    """
    bcc = import_bcc()
    with _kernel_source(layout), _stderr_kept() as kept:
        try:
            bpf = bcc.BPF(text=text, cflags=["-Wno-address-of-packed-member", "-Wno-unused"])
        except Exception as error:  # bcc raises nothing more precise
            raise _compile_error(str(error), kept()) from None
        for name in tracepoints:
            try:
                bpf.load_func(f"on_{name}", bcc.BPF.RAW_TRACEPOINT)
            except Exception as error:
                raise _load_error(name, str(error), kept()) from None
        try:
            stages = bpf["stages"]
            for number, name in enumerate(STAGES):
                function = bpf.load_func(name, bcc.BPF.RAW_TRACEPOINT)
                stages[stages.Key(number)] = stages.Leaf(function.fd)
        except Exception as error:
            raise _load_error("Python's stacks", str(error), kept()) from None
        for function_name, name in before:
            try:
                _attach_first(bcc, bpf, function_name, name)
            except Exception as error:
                raise _load_error(name, str(error), kept()) from None
        for name in tracepoints:
            try:
                bpf.attach_raw_tracepoint(tp=name.encode(), fn_name=f"on_{name}".encode())
            except Exception as error:
                raise _attach_error(name, str(error), kept()) from None
    return bpf


def _attach_first(bcc: ModuleType, bpf: Any, function: str, tracepoint: str) -> None:
    """Programs of one tracepoint run in the order they were attached in.

    bcc itself attaches but one to each; under this name detach_raw_tracepoint() finds it.
    """
    program = bpf.load_func(function, bcc.BPF.RAW_TRACEPOINT)
    descriptor = bcc.libbcc.lib.bpf_attach_raw_tracepoint(program.fd, tracepoint.encode())
    if descriptor < 0:
        raise OSError(f"tracepoint {tracepoint} cannot be attached to")
    bpf.raw_tracepoint_fds[function.encode()] = descriptor


@contextmanager
def _kernel_source(layout: Layout) -> Iterator[None]:
    """bcc looks for kernel headers where this variable says."""
    before = os.environ.get(_SOURCE)
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="zombiebpf-"))
            if layout.source == "BTF":
                headers.write_stubs(Path(directory))
                os.environ[_SOURCE] = directory
        except OSError as error:
            raise ZombiebpfError(
                f"temporary files cannot be written: {error.strerror}",
                "set TMPDIR to a directory with some room",
            ) from None
        try:
            yield
        finally:
            if before is not None:
                os.environ[_SOURCE] = before
            else:
                os.environ.pop(_SOURCE, None)


@contextmanager
def _stderr_kept() -> Iterator[Callable[[], str]]:
    """libbcc and libbpf write to descriptor 2: keep that from the user's terminal."""
    with tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)

        def kept() -> str:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65536))
            return file.read().decode("utf-8", "replace")

        try:
            yield kept
        finally:
            os.dup2(saved, 2)
            os.close(saved)


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


def _load_error(name: str, error: str, output: str) -> ZombiebpfError:
    reason = _first(r"^bpf: Failed to load program: (.*)$", output) or error
    log = output.rpartition("bpf: Failed to load program: ")[2].partition("\n")[2]
    if "processed " in log:  # it is the verifier who says EACCES or EINVAL, and why
        verdicts = [line for line in log.splitlines() if not _NO_VERDICT.match(line)]
        return ZombiebpfError(
            f"the kernel's verifier refuses the probe of {name}: "
            + (verdicts[-1].strip() if verdicts else reason),
            _UNKNOWN,
        )
    return _refusal(f"the kernel refuses to load the probe of {name}", reason)


def _attach_error(name: str, error: str, output: str) -> ZombiebpfError:
    reason = _first(r"^bpf_attach_raw_tracepoint ?\([^)]*\): (.*)$", output) or error
    if "No such file" in reason:
        return ZombiebpfError(f"this kernel has no tracepoint {name}", _UNKNOWN)
    return _refusal(f"the kernel refuses to attach the probe of {name}", reason)


def _refusal(what: str, reason: str) -> ZombiebpfError:
    """bpf(2) has failed for a reason that is not in our programs."""
    if "not permitted" in reason or "denied" in reason:
        return PrivilegeError(f"{what}: {reason}", _REFUSED)
    cure = _NO_MEMORY if "Cannot allocate memory" in reason else _UNKNOWN
    return ZombiebpfError(f"{what}: {reason}", cure)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
