# SPDX-License-Identifier: Apache-2.0
"""Which machines and kernels there are probes for."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest

from tests.unit.btf_blobs import of_structs
from zombiebpf.bpf.btf import Btf
from zombiebpf.errors import ZombiebpfError
from zombiebpf.kernel import machine, syscalls
from zombiebpf.kernel.boot_facts import BootFacts
from zombiebpf.kernel.layout import OF_MACHINE
from zombiebpf.kernel.machine import require_kernel
from zombiebpf.observe.doctor import _kernel
from zombiebpf.python.offsets import MACHINES


@pytest.mark.parametrize(
    ("release", "machine", "what", "fix"),
    [
        ("5.8.0", "x86_64", None, None),
        ("6.1.0-50-cloud-arm64", "aarch64", None, None),
        ("5.7.19", "aarch64", "Linux 5.7.19 has no BPF ring buffer", "boot Linux 5.8 or newer"),
        ("6.12.9", "riscv64", "there are no probes for riscv64", "run it on x86_64 or aarch64"),
    ],
)
def test_what_is_refused(
    release: str, machine: str, what: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    check = _kernel()
    if what is None:
        require_kernel()
        assert (check.ok, check.found) == (True, f"Linux {release} {machine}")
        return
    with pytest.raises(ZombiebpfError, match=re.escape(what)) as raised:
        require_kernel()
    assert raised.value.fix == fix
    assert (check.ok, check.fix) == (False, fix)
    assert check.found == f"Linux {release} {machine}: {what}"


def test_all_modules_know_the_same_machines() -> None:
    assert set(OF_MACHINE) == set(MACHINES) == set(syscalls._BY_MACHINE)


@pytest.mark.parametrize(
    ("mode", "version", "preempts"),
    [
        ("none (voluntary) full ", "#1 SMP PREEMPT_DYNAMIC", False),  # 6.12
        ("(none) voluntary full ", "#1 SMP PREEMPT_DYNAMIC", False),
        ("none voluntary (full) ", "#1 SMP PREEMPT_DYNAMIC", True),
        ("full (lazy) ", "#1 SMP PREEMPT_DYNAMIC", True),  # 7.2
        (None, "#1 SMP Debian 5.10.0", False),
        (None, "#1 SMP PREEMPT Debian", True),
        (None, "#1 SMP PREEMPT_DYNAMIC", True),  # not known
    ],
)
def test_whether_kernel_code_is_preempted(
    mode: Optional[str], version: str, preempts: bool,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / "preempt"
    if mode is not None:
        path.write_text(mode + "\n")
    monkeypatch.setattr(machine, "_PREEMPT", path)
    monkeypatch.setattr(platform, "version", lambda: version)
    assert machine.preempts_kernel() == preempts


FAST: Mapping[str, object] = {"srcu_struct": {"srcu_reader_flavor": 1}}


@pytest.mark.parametrize(
    ("preempts", "structs", "symbol", "found"),
    [
        (True, FAST, True, (True, True)),  # 7.2
        (True, FAST, False, (True, False)),  # 6.18
        (True, {"srcu_struct": {"sda": 8}}, True, (True, False)),  # 6.1: of another kind
        (True, None, True, (True, True)),  # no BTF: better too careful
        (False, FAST, True, (False, False)),
    ],
)
def test_where_programs_are_preempted(
    preempts: bool, structs: Optional[Mapping[str, Mapping[str, int]]], symbol: bool,
    found: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(machine, "preempts_kernel", lambda: preempts)
    monkeypatch.setattr(
        machine, "has_known_symbol", lambda _, name: symbol and name == "tracepoint_srcu"
    )
    btf = None if structs is None else Btf(of_structs(structs, {}, ()), ["srcu_struct"])
    assert machine.preemption(btf, BootFacts()) == found
