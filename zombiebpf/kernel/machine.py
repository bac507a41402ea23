# SPDX-License-Identifier: Apache-2.0
"""Find out what this machine offers: privileges, BTF, headers, cgroups, preemption."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, Optional

from zombiebpf.bpf.btf import VMLINUX, Btf, BtfError, Types
from zombiebpf.bpf.functions import Trial
from zombiebpf.bpf.headers import kernel_version
from zombiebpf.errors import PrivilegeError, ZombiebpfError
from zombiebpf.kernel.boot_facts import (
    BootFacts,
    KnownTypes,
    find_known_functions,
    has_known_symbol,
    known_refusal,
)
from zombiebpf.kernel.hooks import Kernel, Preemption
from zombiebpf.kernel.layout import OF_MACHINE, btf_names
from zombiebpf.kernel.variants import FUNCTIONS, REAP_FUNCTIONS

OLDEST_KERNEL = (5, 8)  # BPF ring buffer: commit 457f44363a88 ("bpf: Implement BPF ring buffer")

# include/uapi/linux/capability.h; CAP_SYS_ADMIN, or the other two
CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 21, 38, 39
_PREEMPT = Path("/sys/kernel/debug/sched/preempt")
_SRCU_FLAVOR = "srcu_struct", "srcu_reader_flavor"  # include/linux/srcutree.h
_INIT_PIDNS = 0xEFFFFFFC  # include/linux/proc_ns.h, PROC_PID_INIT_INO


def capabilities() -> int:
    """Return this process's effective capabilities as a bit mask."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else 0


def may_observe() -> bool:
    """Return whether this process has the capabilities to load and attach the probes."""
    held = capabilities()
    return bool(held >> CAP_SYS_ADMIN & 1 or (held >> CAP_BPF & 1 and held >> CAP_PERFMON & 1))


def require_privilege() -> None:
    """Raise PrivilegeError without the capabilities to observe."""
    if not may_observe():
        raise PrivilegeError(
            "observing the kernel needs root", "run it with sudo, or in a privileged container"
        )


def require_kernel() -> None:
    """Raise ZombiebpfError on a kernel or machine that the probes do not support."""
    release, here = platform.release(), platform.machine()
    if here not in OF_MACHINE:
        raise ZombiebpfError(
            f"there are no probes for {here}", f"run it on {' or '.join(OF_MACHINE)}"
        )
    if kernel_version(release)[:2] < OLDEST_KERNEL:
        raise ZombiebpfError(f"Linux {release} has no BPF ring buffer", "boot Linux 5.8 or newer")


def require_no_lockdown() -> None:
    """Raise ZombiebpfError if BPF may not read kernel memory (LOCKDOWN_BPF_READ_KERNEL)."""
    if lockdown() == "confidentiality":
        raise ZombiebpfError(
            "this kernel is locked down, BPF may not read its memory",
            "boot it without lockdown=confidentiality",
        )


def pid_namespace() -> int:
    """Return the inode number of this process's PID namespace; 0 for the initial one."""
    number = os.stat("/proc/self/ns/pid").st_ino
    return 0 if number == _INIT_PIDNS else number


def lockdown() -> Optional[str]:
    """Return `none`, `integrity` or `confidentiality`; None if the kernel has no lockdown."""
    try:
        text = Path("/sys/kernel/security/lockdown").read_text()
    except OSError:
        return None
    found = re.search(r"\[(\w+)\]", text)
    return found[1] if found else None


def tracefs() -> Optional[Path]:
    """Return where tracefs is mounted; None if it is not."""
    return _mount_point("tracefs")


def _mount_point(kind: str) -> Optional[Path]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, its_kind, *_ = line.split()
        if its_kind == kind:
            return Path(where)
    return None


class BtfState(NamedTuple):
    """This kernel's BTF, or the reason that there is none."""

    btf: Optional[Types]
    problem: Optional[str]


def read_btf(facts: Optional[BootFacts] = None) -> BtfState:
    """Read this kernel's BTF, with the names that the probes need, or what is known of it."""
    facts = facts or BootFacts()
    try:
        read = None if facts.were_kept else _read_btf()
        return BtfState(KnownTypes(facts, lambda: read or _read_btf()), None)
    except OSError as error:
        return BtfState(None, f"{VMLINUX}: {error.strerror}")
    except BtfError as error:
        return BtfState(None, error.what)


def _read_btf() -> Btf:
    return Btf.of_kernel([*btf_names(), *FUNCTIONS, _SRCU_FLAVOR[0]])


def header_directory() -> Optional[str]:
    """Return the directory of the running kernel's headers, where bcc looks; None without."""
    for name in ("build", "source"):
        place = Path(f"/lib/modules/{platform.release()}/{name}")
        if (place / "include" / "linux").is_dir():
            return str(place)
    return None


def ask_kernel(btf: Optional[Types], facts: Optional[BootFacts] = None) -> Kernel:
    """Find out which hooks this kernel offers; `facts` are what is known of it."""
    facts = facts or BootFacts()
    return Kernel(
        btf,
        find_known_functions(facts, REAP_FUNCTIONS),
        tracefs(),
        partial(known_refusal, facts, Trial(btf)),
        preemption(btf, facts),
    )


def preemption(btf: Optional[Types], facts: BootFacts) -> Preemption:
    """Return in which BPF programs tasks are preempted, on a kernel that preempts itself.

    In those of fentry always; in those of tracepoints since commit a46023d5616e ("tracing:
    Guard __DECLARE_TRACE() use of __DO_TRACE_CALL() with SRCU-fast") replaced
    preempt_disable() by tracepoint_srcu.
    """
    if not preempts_kernel():
        return Preemption()
    fast = btf is None or btf.field(*_SRCU_FLAVOR) is not None
    return Preemption(True, fast and has_known_symbol(facts, "tracepoint_srcu"))


def preempts_kernel() -> bool:
    """Return whether tasks are preempted in kernel code.

    kernel/sched/debug.c, sched_dynamic_show(); without that file, as the kernel was built.
    """
    try:
        mode = re.search(r"\((\w+)\)", _PREEMPT.read_text())
    except OSError:
        return "PREEMPT" in platform.version()
    return mode is None or mode[1] in ("full", "lazy")


def own_cgroup() -> Optional[int]:
    """Return the id of this process's cgroup in the unified hierarchy; None if unknown."""
    root = _mount_point("cgroup2")
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, _, path = line.split(":", 2)
        if number == "0" and root is not None:
            with suppress(OSError):
                return os.stat(f"{root}{path}").st_ino
    return None


class Cgroups:
    """The paths of cgroups by id in the unified hierarchy: the inode number of a directory."""

    def __init__(self) -> None:
        """Look for the hierarchy's mount point."""
        self._root = _mount_point("cgroup2")
        self._paths: dict[int, Optional[str]] = {}

    def path(self, number: int) -> Optional[str]:
        """Return the path, as `/user.slice/...`; None if the cgroup does not exist any more."""
        if number not in self._paths and self._root is not None:
            for directory, _, _ in os.walk(self._root):
                with suppress(OSError):
                    relative = "/" + os.path.relpath(directory, self._root)
                    self._paths[os.stat(directory).st_ino] = "/" if relative == "/." else relative
        return self._paths.setdefault(number, None)
