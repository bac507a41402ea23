# SPDX-License-Identifier: Apache-2.0
"""Write the few headers that bcc's own code includes, so that no kernel headers are needed.

bcc prepends its helpers to every program and force-includes linux/kconfig.h. From the
kernel's headers, these need only names of types and a handful of macros.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

_EMPTY = (
    "linux/types.h", "linux/bpf_common.h", "linux/version.h", "linux/log2.h", "asm/page.h",
    "uapi/linux/if_packet.h", "uapi/linux/if_ether.h", "uapi/linux/bpf.h",
)  # fmt: skip

_KCONFIG = """#ifndef BCC_KCONFIG_H
#define BCC_KCONFIG_H
#define CONFIG_BPF_SYSCALL 1
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION({version})
#define PAGE_SIZE {page_size}
#define roundup_pow_of_two(n) \\
	((n) <= 1 ? 1 : 1UL << (64 - __builtin_clzl((n) - 1)))
typedef signed char s8, __s8;
typedef unsigned char u8, __u8;
typedef short s16, __s16;
typedef unsigned short u16, __u16, __be16, __le16, __sum16;
typedef int s32, __s32, pid_t;
typedef unsigned int u32, __u32, __be32, __le32, __wsum;
typedef long long s64, __s64;
typedef unsigned long long u64, __u64, __be64, __le64;
typedef u64 __aligned_u64 __attribute__((aligned(8)));
typedef unsigned long size_t, uintptr_t;
typedef _Bool bool;
#define true 1
#define false 0
#define __always_inline inline __attribute__((always_inline))
#define NULL ((void *)0)
#endif
"""


def kernel_version(release: str) -> tuple[int, int, int]:
    """Return (6, 1, 0) for `6.1.0-49-amd64`; zeros if it is not a version."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    if found is None:
        return 0, 0, 0
    major, minor, patch = found.groups()
    return int(major), int(minor), min(int(patch or 0), 255)


def kconfig() -> str:
    """Return linux/kconfig.h, which bcc includes before anything else."""
    version = ", ".join(map(str, kernel_version(platform.release())))
    return _KCONFIG.format(version=version, page_size=os.sysconf("SC_PAGE_SIZE"))


def write_stubs(directory: Path) -> None:
    """Fill `directory` with headers, to be named by the environment's BCC_KERNEL_SOURCE."""
    include = directory / "include"
    for name in _EMPTY:
        file = include / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (include / "linux" / "kconfig.h").write_text(kconfig())
