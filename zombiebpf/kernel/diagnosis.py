# SPDX-License-Identifier: Apache-2.0
"""What this machine offers an observer, each thing with its cure where it is missing."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from typing import NamedTuple, Optional

from zombiebpf.errors import EXIT_FAILURE, EXIT_PRIVILEGE, PrivilegeError, ZombiebpfError
from zombiebpf.kernel import hooks, locate, machine
from zombiebpf.kernel.observer import Observer
from zombiebpf.kernel.variants import VARIANTS


class Check(NamedTuple):
    """One thing that was asked. A thing can be missing (`ok` False) and not be `needed`."""

    name: str
    ok: bool
    found: str
    cure: Optional[str] = None
    needed: bool = True
    privilege: bool = False  # it is privilege that is missing


class Hook(NamedTuple):
    """The hook one fact is taken from."""

    fact: str
    chosen: str  # as --hook FACT=NAME takes it
    hook: str
    precision: str
    why: str
    others: tuple[str, ...]  # that --hook can force


class Diagnosis(NamedTuple):
    checks: tuple[Check, ...]
    hooks: tuple[Hook, ...]
    exit_code: int  # 0, 70 or 77


def diagnose() -> Diagnosis:
    """Ask everything, then attach the probes and let them prove themselves."""
    state = machine.read_btf()
    kernel = machine.ask_kernel(state.btf)
    checks = [
        _privileges(),
        _kernel(),
        _lockdown(),
        _btf(state),
        _bcc(),
        _kallsyms(kernel),
        _tracefs(kernel),
        _namespace(),
    ]
    chosen: tuple[Hook, ...] = ()
    try:
        choices = hooks.choose(kernel, {})
        chosen = tuple(_hooks(kernel, choices))
        checks += _switches(choices)
    except ZombiebpfError as error:
        checks.append(Check("hooks", False, error.what, error.cure))
    checks += _proof([check for check in checks if check.needed and not check.ok])
    return Diagnosis(tuple(checks), chosen, _exit_code(checks))


def _privileges() -> Check:
    held = machine.capabilities()
    if machine.may_observe():
        return Check("privileges", True, f"uid {os.geteuid()}, capabilities {held:#x}")
    return Check(
        "privileges",
        False,
        f"uid {os.geteuid()} without CAP_BPF and CAP_PERFMON",
        "run it with sudo; in a container, a privileged one",
        privilege=True,
    )


def _kernel() -> Check:
    found = f"Linux {platform.release()} {platform.machine()}"
    try:
        machine.require_kernel()
    except ZombiebpfError as error:
        return Check("kernel", False, f"{found}: {error.what}", error.cure)
    return Check("kernel", True, found)


def _lockdown() -> Check:
    mode = machine.lockdown()
    return Check(
        "lockdown",
        mode != "confidentiality",
        mode or "not built into this kernel",
        "boot without lockdown=confidentiality: it forbids BPF to read kernel memory"
        if mode == "confidentiality"
        else None,
    )


def _btf(state: machine.BtfState) -> Check:
    if state.btf is not None:
        return Check("BTF", True, "/sys/kernel/btf/vmlinux")
    headers = machine.header_directory()
    if headers is not None:
        return Check("BTF", True, f"{state.problem}; kernel headers in {headers} serve instead")
    return Check(
        "BTF",
        False,
        f"{state.problem}; no kernel headers either",
        "boot a kernel with CONFIG_DEBUG_INFO_BTF, or install linux-headers-$(uname -r)",
    )


def _bcc() -> Check:
    try:
        return Check("bcc", True, f"{locate.bcc_version()} in {locate.find_bcc()}")
    except ZombiebpfError as error:
        return Check("bcc", False, error.what, error.cure)


def _kallsyms(kernel: hooks.Kernel) -> Check:
    if kernel.reap_sites:
        names = ", ".join(each.name for each in kernel.reap_sites)
        return Check("kernel symbols", True, f"addresses of {names} are readable")
    if "release_task" in (each.name for each in VARIANTS if not hooks.ask(kernel, each)[1]):
        return Check("kernel symbols", True, "addresses are hidden; release_task needs none", None)
    return Check(
        "kernel symbols",
        False,
        "addresses are hidden: the exact reap costs more, for every free of the machine",
        "sysctl kernel.kptr_restrict=1, or run as root",
        needed=False,
    )


def _tracefs(kernel: hooks.Kernel) -> Check:
    if kernel.tracefs is not None:
        return Check("tracefs", True, str(kernel.tracefs), needed=False)
    return Check(
        "tracefs",
        False,
        "not mounted; raw tracepoints do not need it",
        "mount -t tracefs tracefs /sys/kernel/tracing, for other tools",
        needed=False,
    )


def _namespace() -> Check:
    number = machine.pid_namespace()
    found = f"{number}, of a container: PIDs are shown as it sees them" if number else "the first"
    return Check("PID namespace", True, found, needed=False)


def _switches(choices: Mapping[str, hooks.Choice]) -> list[Check]:
    """Why sched_switch is attached where no fact is taken from it."""
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
                if not hooks.ask(kernel, variant)[1]
            ),
        )
        for fact, choice in choices.items()
    ]


def _proof(missing: list[Check]) -> list[Check]:
    name = "self-check"
    if missing:
        return [Check(name, False, "not tried, because of the above")]
    began = time.monotonic()
    try:
        with Observer() as observer:
            call = "is seen" if observer.wait_call_seen else "is not seen on this machine"
            took = time.monotonic() - began
            proof = Check(
                name,
                True,
                f"fork, exec, exit, zombie, reparent and reap of own processes were seen as they "
                f"were; the system call of a reap {call}; {took:.2f} s with compiling",
            )
            observer.expect_pythons(os.environ.get("PATH", "").split(":"))
            return [proof, _stacks(observer)]
    except PrivilegeError as error:
        return [Check(name, False, error.what, error.cure, privilege=True)]
    except ZombiebpfError as error:
        return [Check(name, False, error.what, error.cure)]


def _stacks(observer: Observer) -> Check:
    pythons = observer.pythons
    name, versions = "Python stacks", ", ".join(dict.fromkeys(pythons.expected))
    if pythons.refused is not None:
        return Check(
            name,
            False,
            f"no uprobe can be placed ({pythons.refused}): a new interpreter is known some 20 ms "
            "after its start",
            "run it as root, or with CAP_SYS_ADMIN",
            needed=False,
        )
    found = f"CPython {versions} found" if versions else "no CPython found beforehand"
    found += "; any other is known some 20 ms after its first start"
    return Check(name, True, found, needed=False)


def _exit_code(checks: list[Check]) -> int:
    failed = [check for check in checks if check.needed and not check.ok]
    if any(check.privilege for check in failed):
        return EXIT_PRIVILEGE
    return EXIT_FAILURE if failed else 0
