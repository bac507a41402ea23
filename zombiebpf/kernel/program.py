# SPDX-License-Identifier: Apache-2.0
"""The probes: put together, compiled, loaded, attached. Each failure is one line."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zombiebpf.errors import PrivilegeError, ZombiebpfError
from zombiebpf.kernel import headers
from zombiebpf.kernel.layout import Layout
from zombiebpf.kernel.locate import import_bcc

# One translation unit: bcc rewrites map calls in the main file only.
SOURCES = (
    "wire.h",
    "state.h",
    "syscall.h",
    "reparent.h",
    "fork.bpf.c",
    "exec.bpf.c",
    "exit.bpf.c",
    "zombie.bpf.c",
    "reap.bpf.c",
    "wait.bpf.c",
)
_PACKAGE = Path(__file__).resolve().parent.parent
_SOURCE = "BCC_KERNEL_SOURCE"

_REFUSED = (
    "the kernel or a security policy refuses BPF: run with sudo on the host, in a container add "
    "CAP_BPF, CAP_PERFMON and CAP_SYS_RESOURCE; `zombiebpf doctor` says more"
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


def load(text: str, layout: Layout, tracepoints: Sequence[str]) -> Any:
    """Compile, load and attach: the bcc.BPF. ZombiebpfError says what failed and the cure."""
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
        for name in tracepoints:
            try:
                bpf.attach_raw_tracepoint(tp=name.encode(), fn_name=f"on_{name}".encode())
            except Exception as error:
                raise _attach_error(name, str(error), kept()) from None
    return bpf


@contextmanager
def _kernel_source(layout: Layout) -> Iterator[None]:
    """bcc looks for kernel headers where this variable says; CMD must not inherit it."""
    before = os.environ.get(_SOURCE)
    with tempfile.TemporaryDirectory(prefix="zombiebpf-") as directory:
        if layout.source == "BTF":
            headers.write_stubs(Path(directory))
            os.environ[_SOURCE] = directory
        try:
            yield
        finally:
            if before is not None:
                os.environ[_SOURCE] = before
            else:
                os.environ.pop(_SOURCE, None)


@contextmanager
def _stderr_kept() -> Iterator[Any]:
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


def _first(pattern: str, text: str, otherwise: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else otherwise


def _compile_error(error: str, output: str) -> ZombiebpfError:
    if "chdir" in output or "Unable to find kernel headers" in output:
        return ZombiebpfError(
            "this kernel has no BTF and its headers are not installed",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF, or: apt install linux-headers-$(uname -r)",
        )
    if "Operation not permitted" in output or "Permission denied" in output:
        return PrivilegeError("the kernel refuses to create BPF maps", _REFUSED)
    return ZombiebpfError(
        "the probes do not compile: "
        + _first(r"^((?:\S+:\d+:\d+: )?(?:fatal )?error: .*)$", output, error),
        "the kernel or this bcc is newer than zombiebpf knows: `zombiebpf doctor` shows both",
    )


def _load_error(name: str, error: str, output: str) -> ZombiebpfError:
    if "Operation not permitted" in error or "Permission denied" in error:
        return PrivilegeError(f"the kernel refuses to load the probe of {name}: {error}", _REFUSED)
    detail = _first(r"^((?!processed|bpf:|\s*$).*)\n(?:processed .*\n)?\s*\Z", output, "")
    return ZombiebpfError(
        f"the kernel's verifier refuses the probe of {name}: {error}"
        + (f": {detail}" if detail else ""),
        "`zombiebpf doctor` shows the kernel and the hooks; another can be chosen with --hook",
    )


def _attach_error(name: str, error: str, output: str) -> ZombiebpfError:
    detail = _first(r"^(?:bpf_attach_raw_tracepoint\([^)]*\): )(.*)$", output, "")
    what = f"the probe of {name} cannot be attached: {detail or error}"
    if "not permitted" in what or "denied" in what:
        return PrivilegeError(what, _REFUSED)
    return ZombiebpfError(what, "another hook can be chosen with --hook; see `zombiebpf doctor`")
