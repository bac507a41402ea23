# SPDX-License-Identifier: Apache-2.0
"""Which machines and kernels there are probes for."""

from __future__ import annotations

import platform
import re

import pytest

from zombiebpf.errors import ZombiebpfError
from zombiebpf.kernel import calls
from zombiebpf.kernel.diagnosis import _kernel
from zombiebpf.kernel.layout import OF_MACHINE
from zombiebpf.kernel.machine import require_kernel
from zombiebpf.python.offsets import MACHINES


@pytest.mark.parametrize(
    ("release", "machine", "what", "cure"),
    [
        ("5.8.0", "x86_64", None, None),
        ("6.1.0-50-cloud-arm64", "aarch64", None, None),
        ("5.7.19", "aarch64", "Linux 5.7.19 has no BPF ring buffer", "boot Linux 5.8 or newer"),
        ("6.12.9", "riscv64", "there are no probes for riscv64", "run it on x86_64 or aarch64"),
    ],
)
def test_what_is_refused(
    release: str, machine: str, what: str, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    told = _kernel()
    if what is None:
        require_kernel()
        assert (told.ok, told.found) == (True, f"Linux {release} {machine}")
        return
    with pytest.raises(ZombiebpfError, match=re.escape(what)) as raised:
        require_kernel()
    assert raised.value.cure == cure
    assert (told.ok, told.cure) == (False, cure)
    assert told.found == f"Linux {release} {machine}: {what}"


def test_each_room_knows_the_same_machines() -> None:
    assert set(OF_MACHINE) == set(MACHINES) == set(calls._BY_MACHINE)
