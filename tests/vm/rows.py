# SPDX-License-Identifier: Apache-2.0
"""Which kernels are booted: one row a Debian, with the bcc and the Python that it ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

# What the kernel tests, the oracle and the program itself want, as `make setup` would install it.
_BASE = (
    "python3-bpfcc,python3-venv,kmod,procps,mount,iproute2,util-linux,libcap2-bin,"
    "gcc,libc6-dev,bpftrace,strace,bpftool"
)
_PYTHON = (
    "python3-click,python3-yaml,python3-rich,python3-pyelftools,python3-jinja2,"
    "python3-pytest,python3-jsonschema"
)


class Arch(NamedTuple):
    """How QEMU is started for one architecture."""

    debian: str
    qemu: str
    machine: Sequence[str]
    console: str
    user: str  # as QEMU's user mode emulation calls it


# Its clock goes a nanosecond an instruction, however busy the host is, so that limits on time mean
# the same as on a (slow) machine.
_CLOCK = ("-icount", "shift=0,sleep=on")

ARCHS: Mapping[str, Arch] = {
    "amd64": Arch(
        # an interrupt at cmpxchg16b leaves wrong flags in QEMU 7.2: the slab allocator then crashes
        "amd64", "qemu-system-x86_64",
        ("-M", "q35", "-cpu", "max,cx16=off", *_CLOCK), "ttyS0",
        "x86_64",
    ),
    "arm64": Arch(
        "arm64", "qemu-system-aarch64",
        # pauth-impdef: QEMU's own pointer authentication, instead of an emulated cipher
        ("-M", "virt", "-cpu", "max,pauth-impdef=on", *_CLOCK), "ttyAMA0",
        "aarch64",
    ),
}  # fmt: skip


class Row(NamedTuple):
    """One VM."""

    name: str
    suite: str
    packages: str
    arch: Arch = ARCHS["amd64"]
    wheels: Optional[str] = None  # Python version whose wheels replace packages too old for us
    pythons: Sequence[str] = ("/usr/bin/python3",)  # whose stacks are looked at
    preempts: bool = False  # tasks, in tracepoints' programs, which then miss events

    @property
    def kernel_package(self) -> str:
        return f"linux-image-cloud-{self.arch.debian}"


ROWS: Mapping[str, Row] = {
    row.name: row
    for row in (
        # click, rich, yaml and pytest of bullseye are older than pyproject.toml allows: wheels,
        # as for everybody there
        Row("bullseye", "bullseye", f"{_BASE},python3-pip", wheels="3.9"),
        Row("bookworm", "bookworm", f"{_BASE},{_PYTHON}"),
        Row("trixie", "trixie", f"{_BASE},{_PYTHON}"),
        Row("sid", "sid", f"{_BASE},{_PYTHON},python3.15",
            pythons=("/usr/bin/python3", "/usr/bin/python3.15"), preempts=True),
        Row("arm64", "bookworm", f"{_BASE},{_PYTHON}", ARCHS["arm64"]),
    )
}  # fmt: skip
