# SPDX-License-Identifier: Apache-2.0
"""What this machine offers an observer: asked, not assumed."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Optional

from zombiebpf.errors import PrivilegeError, ZombiebpfError
from zombiebpf.kernel.btf import VMLINUX, Btf, BtfError
from zombiebpf.kernel.functions import Trial
from zombiebpf.kernel.headers import kernel_version
from zombiebpf.kernel.hooks import Kernel, Preemption
from zombiebpf.kernel.layout import OF_MACHINE, btf_names
from zombiebpf.kernel.symbols import find_functions, has_symbol
from zombiebpf.kernel.variants import FUNCTIONS, REAP_FUNCTIONS

OLDEST_KERNEL = (5, 8)  # BPF ring buffer: commit 457f44363a88 ("bpf: Implement BPF ring buffer")

# include/uapi/linux/capability.h; each set is enough
CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 21, 38, 39
_PREEMPT = Path("/sys/kernel/debug/sched/preempt")
_SRCU_FLAVOR = "srcu_struct", "srcu_reader_flavor"  # include/linux/srcutree.h
_INIT_PIDNS = 0xEFFFFFFC  # include/linux/proc_ns.h, PROC_PID_INIT_INO


def capabilities() -> int:
    """This process's effective capabilities, as a bit mask."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else 0


def may_observe() -> bool:
    held = capabilities()
    return bool(held >> CAP_SYS_ADMIN & 1 or (held >> CAP_BPF & 1 and held >> CAP_PERFMON & 1))


def require_privilege() -> None:
    if not may_observe():
        raise PrivilegeError(
            "observing the kernel needs root", "run it with sudo, or in a privileged container"
        )


def require_kernel() -> None:
    """ZombiebpfError: none that the probes are written for."""
    release, here = platform.release(), platform.machine()
    if here not in OF_MACHINE:
        raise ZombiebpfError(
            f"there are no probes for {here}", f"run it on {' or '.join(OF_MACHINE)}"
        )
    if kernel_version(release)[:2] < OLDEST_KERNEL:
        raise ZombiebpfError(f"Linux {release} has no BPF ring buffer", "boot Linux 5.8 or newer")


def require_no_lockdown() -> None:
    """LOCKDOWN_BPF_READ_KERNEL, include/linux/security.h: the helpers are not there then."""
    if lockdown() == "confidentiality":
        raise ZombiebpfError(
            "this kernel is locked down, BPF may not read its memory",
            "boot it without lockdown=confidentiality",
        )


def pid_namespace() -> int:
    """Inode number of this process's PID namespace; 0 for the machine's first."""
    number = os.stat("/proc/self/ns/pid").st_ino
    return 0 if number == _INIT_PIDNS else number


def lockdown() -> Optional[str]:
    """none, integrity or confidentiality; None where the kernel has no lockdown."""
    try:
        text = Path("/sys/kernel/security/lockdown").read_text()
    except OSError:
        return None
    found = re.search(r"\[(\w+)\]", text)
    return found[1] if found else None


def tracefs() -> Optional[Path]:
    """Where tracefs is mounted, if it is."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "tracefs":
            return Path(where)
    return None


class BtfState(NamedTuple):
    btf: Optional[Btf]
    problem: Optional[str]


def read_btf() -> BtfState:
    try:
        names = [*btf_names(), *FUNCTIONS, _SRCU_FLAVOR[0]]
        return BtfState(Btf.of_kernel(names), None)
    except OSError as error:
        return BtfState(None, f"{VMLINUX}: {error.strerror}")
    except BtfError as error:
        return BtfState(None, error.what)


def header_directory() -> Optional[str]:
    """The running kernel's headers, as bcc looks for them."""
    for name in ("build", "source"):
        place = Path(f"/lib/modules/{platform.release()}/{name}")
        if (place / "include" / "linux").is_dir():
            return str(place)
    return None


def ask_kernel(btf: Optional[Btf]) -> Kernel:
    sites, trial = find_functions(REAP_FUNCTIONS), Trial(btf)
    return Kernel(btf, sites, tracefs(), trial.refusal, preemption(btf))


def preemption(btf: Optional[Btf]) -> Preemption:
    """Where BPF programs are preempted. Those of fentry are wherever kernel code is; those of
    tracepoints since commit a46023d5616e ("tracing: Guard __DECLARE_TRACE() use of
    __DO_TRACE_CALL() with SRCU-fast") has put a tracepoint_srcu of that kind in place of
    preempt_disable().
    """
    if not preempts_kernel():
        return Preemption()
    fast = btf is None or btf.field(*_SRCU_FLAVOR) is not None
    return Preemption(True, fast and has_symbol("tracepoint_srcu"))


def preempts_kernel() -> bool:
    """Whether tasks are preempted while they run kernel code (kernel/sched/debug.c,
    sched_dynamic_show(); without that file it is as the kernel was built)."""
    try:
        mode = re.search(r"\((\w+)\)", _PREEMPT.read_text())
    except OSError:
        return "PREEMPT" in platform.version()
    return mode is None or mode[1] in ("full", "lazy")


def own_cgroup() -> Optional[int]:
    """Id of this process's cgroup in the unified hierarchy; None if it cannot be found out."""
    root = _cgroup_root()
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, _, path = line.split(":", 2)
        if number == "0" and root is not None:
            with suppress(OSError):
                return os.stat(f"{root}{path}").st_ino
    return None


def _cgroup_root() -> Optional[Path]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


class Cgroups:
    """Ids of the unified hierarchy -> paths: a directory's inode number is its id."""

    def __init__(self) -> None:
        self._root = _cgroup_root()
        self._paths: dict[int, Optional[str]] = {}

    def path(self, number: int) -> Optional[str]:
        """`/user.slice/...`; None for an id that has no directory (any more)."""
        known = self._paths.get(number, "")
        if known != "":
            return known
        if self._root is None:
            self._paths[number] = None
            return None
        for directory, _, _ in os.walk(self._root):
            try:
                inode = os.stat(directory).st_ino
            except OSError:
                continue
            relative = "/" + os.path.relpath(directory, self._root)
            self._paths[inode] = "/" if relative == "/." else relative
        return self._paths.setdefault(number, None)
