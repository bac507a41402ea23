# SPDX-License-Identifier: Apache-2.0
"""The stub headers that stand in for the kernel's."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from zombiebpf.bpf.headers import kernel_version, write_stubs


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.1.0-49-amd64", (6, 1, 0)),
        ("5.10.251", (5, 10, 251)),
        ("5.4.300-generic", (5, 4, 255)),  # KERNEL_VERSION has 8 bits for it
        ("6.18", (6, 18, 0)),
        ("6.18-rc3", (6, 18, 0)),
        ("7.2.0-rc1+", (7, 2, 0)),
        ("unknown", (0, 0, 0)),
    ],
)
def test_versions(release: str, version: tuple[int, int, int]) -> None:
    assert kernel_version(release) == version


def test_the_stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: "6.12.117-test")
    write_stubs(tmp_path)
    write_stubs(tmp_path)  # once more is no error
    include = tmp_path / "include"
    found = {str(path.relative_to(include)) for path in include.rglob("*.h")}
    assert found == {
        "linux/kconfig.h",
        "linux/types.h",
        "linux/bpf_common.h",
        "linux/version.h",
        "linux/log2.h",
        "asm/page.h",
        "uapi/linux/if_packet.h",
        "uapi/linux/if_ether.h",
        "uapi/linux/bpf.h",
    }
    kconfig = (include / "linux" / "kconfig.h").read_text()
    assert "#define LINUX_VERSION_CODE KERNEL_VERSION(6, 12, 117)\n" in kconfig
    assert f"#define PAGE_SIZE {os.sysconf('SC_PAGE_SIZE')}\n" in kconfig
    assert kconfig.count("#ifndef") == kconfig.count("#endif") == 1
    assert "{" not in kconfig  # no placeholder is left
