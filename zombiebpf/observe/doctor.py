# SPDX-License-Identifier: Apache-2.0
"""Check what this machine offers for observing, with a fix for each thing that is missing."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from typing import NamedTuple, Optional

from zombiebpf.bpf import locate_bcc
from zombiebpf.errors import EXIT_FAILURE, EXIT_PRIVILEGE, PrivilegeError, ZombiebpfError
from zombiebpf.kernel import hooks, machine
from zombiebpf.kernel.observer import Observer
from zombiebpf.kernel.variants import VARIANTS
from zombiebpf.observe.selfcheck import check_observer


class Check(NamedTuple):
    """The result of one check. A thing can be missing (`ok` False) and not be `needed`."""

    name: str
    ok: bool
    found: str
    fix: Optional[str] = None
    needed: bool = True
    privilege: bool = False  # whether privilege is what is missing


class Hook(NamedTuple):
    """The hook that one fact is taken from."""

    fact: str
    chosen: str  # as --hook FACT=NAME takes it
    hook: str
    precision: str
    why: str
    others: tuple[str, ...]  # the ones that --hook can force


class Diagnosis(NamedTuple):
    """All checks, and the hook chosen for each fact."""

    checks: tuple[Check, ...]
    hooks: tuple[Hook, ...]
    exit_code: int  # 0, 70 or 77


def diagnose() -> Diagnosis:
    """Run all checks, then attach the probes and run the self-check if nothing is missing."""
    state = machine.read_btf()
    kernel = machine.ask_kernel(state.btf)
    checks = [_privileges(), _kernel(), _lockdown(), _btf(state), _bcc()]
    checks += [_kallsyms(kernel), _tracefs(kernel), _namespace()]
    chosen: tuple[Hook, ...] = ()
    try:
        choices = hooks.choose(kernel, {})
        chosen = tuple(_hooks(kernel, choices))
        checks += _switches(choices)
    except ZombiebpfError as error:
        checks.append(Check("hooks", False, error.what, error.fix))
    checks += _self_check([check for check in checks if check.needed and not check.ok])
    return Diagnosis(tuple(checks), chosen, _exit_code(checks))


def _privileges() -> Check:
    held = machine.capabilities()
    if machine.may_observe():
        return Check("privileges", True, f"uid {os.geteuid()}, capabilities {held:#x}")
    found = f"uid {os.geteuid()} without CAP_BPF and CAP_PERFMON"
    fix = "run it with sudo; in a container, a privileged one"
    return Check("privileges", False, found, fix, privilege=True)


def _kernel() -> Check:
    found = f"Linux {platform.release()} {platform.machine()}"
    try:
        machine.require_kernel()
    except ZombiebpfError as error:
        return Check("kernel", False, f"{found}: {error.what}", error.fix)
    return Check("kernel", True, found)


def _lockdown() -> Check:
    mode = machine.lockdown()
    if mode != "confidentiality":
        return Check("lockdown", True, mode or "not built into this kernel")
    fix = "boot without lockdown=confidentiality: it forbids BPF to read kernel memory"
    return Check("lockdown", False, mode, fix)


def _btf(state: machine.BtfState) -> Check:
    if state.btf is not None:
        return Check("BTF", True, "/sys/kernel/btf/vmlinux")
    headers = machine.header_directory()
    if headers is not None:
        return Check("BTF", True, f"{state.problem}; kernel headers in {headers} serve instead")
    fix = "boot a kernel with CONFIG_DEBUG_INFO_BTF, or install linux-headers-$(uname -r)"
    return Check("BTF", False, f"{state.problem}; no kernel headers either", fix)


def _bcc() -> Check:
    try:
        return Check("bcc", True, f"{locate_bcc.bcc_version()} in {locate_bcc.find_bcc()}")
    except ZombiebpfError as error:
        return Check("bcc", False, error.what, error.fix)


def _kallsyms(kernel: hooks.Kernel) -> Check:
    if kernel.reap_sites:
        names = ", ".join(each.name for each in kernel.reap_sites)
        return Check("kernel symbols", True, f"addresses of {names} are readable")
    usable = (each.name for each in VARIANTS if not hooks.check_variant(kernel, each)[1])
    if "release_task" in usable:
        return Check("kernel symbols", True, "addresses are hidden; release_task needs none", None)
    found = "addresses are hidden: the exact reap costs more, for every free of the machine"
    fix = "sysctl kernel.kptr_restrict=1, or run as root"
    return Check("kernel symbols", False, found, fix, needed=False)


def _tracefs(kernel: hooks.Kernel) -> Check:
    if kernel.tracefs is not None:
        return Check("tracefs", True, str(kernel.tracefs), needed=False)
    fix = "mount -t tracefs tracefs /sys/kernel/tracing, for other tools"
    return Check("tracefs", False, "not mounted; raw tracepoints do not need it", fix, needed=False)


def _namespace() -> Check:
    number = machine.pid_namespace()
    found = f"{number}, of a container: PIDs are shown as it sees them" if number else "the first"
    return Check("PID namespace", True, found, needed=False)


def _switches(choices: Mapping[str, hooks.Choice]) -> list[Check]:
    """Say why sched_switch is attached if no fact is taken from it."""
    if any(choices[fact].variant.name == "sched_switch" for fact in ("zombie", "reparent")):
        return []
    if "sched_switch" not in hooks.programs(choices):
        return []
    found = (
        "sched_switch is attached for the sleeps of Python's threads only; without: "
        "--hook zombie=signal_generate --hook reparent=signal_generate"
    )
    return [Check("context switches", True, found, needed=False)]


def _hooks(kernel: hooks.Kernel, choices: Mapping[str, hooks.Choice]) -> list[Hook]:
    return [
        Hook(
            fact,
            choice.variant.name,
            choice.hook,
            choice.variant.precision,
            choice.why,
            tuple(
                variant.name
                for variant in VARIANTS
                if variant.fact == fact and variant.name != choice.variant.name
                if not hooks.check_variant(kernel, variant)[1]
            ),
        )
        for fact, choice in choices.items()
    ]


def _self_check(missing: list[Check]) -> list[Check]:
    name = "self-check"
    if missing:
        return [Check(name, False, "not tried, because of the above")]
    began = time.monotonic()
    try:
        with Observer.attach() as observer:
            call = "is seen" if check_observer(observer) else "is not seen on this machine"
            took = time.monotonic() - began
            found = (
                "fork, exec, exit, zombie, reparent and reap of own processes were seen as they "
                f"were; the system call of a reap {call}; {took:.2f} s with compiling"
            )
            observer.expect_interpreters(os.environ.get("PATH", "").split(":"))
            return [Check(name, True, found), _stacks(observer)]
    except ZombiebpfError as error:
        privilege = isinstance(error, PrivilegeError)
        return [Check(name, False, error.what, error.fix, privilege=privilege)]


def _stacks(observer: Observer) -> Check:
    interpreters = observer.interpreters
    name, versions = "Python stacks", ", ".join(dict.fromkeys(interpreters.expected))
    if interpreters.refused is not None:
        found = (
            f"no uprobe can be placed ({interpreters.refused}): a new interpreter is known some"
            " 20 to 100 ms after its start"
        )
        return Check(name, False, found, "run it as root, or with CAP_SYS_ADMIN", needed=False)
    found = f"CPython {versions} found" if versions else "no CPython found beforehand"
    found += "; any other is known some 20 to 100 ms after its first start"
    return Check(name, True, found, needed=False)


def _exit_code(checks: list[Check]) -> int:
    failed = [check for check in checks if check.needed and not check.ok]
    if any(check.privilege for check in failed):
        return EXIT_PRIVILEGE
    return EXIT_FAILURE if failed else 0
