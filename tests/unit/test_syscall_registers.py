# SPDX-License-Identifier: Apache-2.0
"""probes/syscall.h on either machine: the registers that lie at the top of a kernel stack.

It is compiled for this machine, with the other machine's half chosen by macros, and looks at
stacks that are made here.
"""

from __future__ import annotations

import ctypes
import platform
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Optional

import pytest

from tests.unit.btf_blobs import of_structs
from zombiebpf.bpf.btf import Btf
from zombiebpf.kernel.layout import OF_MACHINE, from_btf
from zombiebpf.kernel.program import probes_directory

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="no C compiler")
THREAD_SIZE = 16384

HARNESS = """
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
%(machine)s
typedef uint64_t u64;
typedef int32_t s32;
#define __always_inline inline __attribute__((always_inline))
#define READ(type, address) (*(type *)(address))
#define THREAD_SIZE_BYTES %(thread_size)d
#define bpf_probe_read_kernel(to, size, from) memcpy(to, from, size)
struct task_struct { void *stack; };
%(pt_regs)s
#include "%(header)s"

void look(void *stack, long *found)
{
	struct task_struct task = { stack };
	struct arguments given = arguments_of(&task);
	struct call call = call_of(&task);

	found[0] = given.number;
	found[1] = given.first;
	found[2] = given.second;
	found[3] = given.third;
	found[4] = given.fourth;
	found[5] = call.options;
	found[6] = call.target;
}
"""

# arch/arm64/include/asm/ptrace.h, struct pt_regs of 6.1; of 6.12 the tail is 32 bytes, too
ARM64_SIZE, ARM64_PSTATE, ARM64_ORIG_X0, ARM64_NUMBER = 336, 264, 272, 280
ARM64_FIELDS = {
    "regs": 0,
    "pc": 256,
    "pstate": ARM64_PSTATE,
    "orig_x0": ARM64_ORIG_X0,
    "syscallno": ARM64_NUMBER,
    "the last": ARM64_SIZE - 8,
}


def pt_regs(monkeypatch: pytest.MonkeyPatch) -> str:
    """The struct as it is written for the probes."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    # from_btf() wants all structs: only the one is looked at
    monkeypatch.setattr("zombiebpf.kernel.layout.STRUCTS", {})
    monkeypatch.setattr("zombiebpf.kernel.layout.ALTERNATIVES", {})
    only = {"aarch64": {"pt_regs": OF_MACHINE["aarch64"]["pt_regs"]}}
    monkeypatch.setattr("zombiebpf.kernel.layout.OF_MACHINE", only)
    c = from_btf(Btf(of_structs({"pt_regs": ARM64_FIELDS}), ["pt_regs"])).c
    return c[c.index("struct pt_regs") :]


class Looker:
    """The compiled probe of one machine."""

    def __init__(self, directory: Path, machine: str, registers: str) -> None:
        source, library = directory / f"{machine}.c", directory / f"{machine}.so"
        header = probes_directory() / "syscall.h"
        chosen = "#undef __x86_64__" if machine != "x86_64" else "#define __TARGET_ARCH_x86"
        parts = {
            "machine": chosen,
            "thread_size": THREAD_SIZE,
            "pt_regs": registers,
            "header": header,
        }
        source.write_text(HARNESS % parts)
        command = ["gcc", "-w", "-shared", "-fPIC", "-o", str(library), str(source)]
        subprocess.run(command, check=True)
        self._look = ctypes.CDLL(str(library)).look

    def look(self, top: bytes) -> Optional[tuple[int, ...]]:
        """`top` are the last bytes of the stack. None: no system call."""
        stack = ctypes.create_string_buffer(b"\xa5" * (THREAD_SIZE - len(top)) + top, THREAD_SIZE)
        found = (ctypes.c_long * 7)()
        self._look(stack, found)
        return None if found[0] == -1 else tuple(found)


@pytest.fixture
def arm64(tmp_path: Path) -> Looker:
    with pytest.MonkeyPatch.context() as patch:
        registers = pt_regs(patch)
    return Looker(tmp_path, "aarch64", registers)


@pytest.fixture
def x86_64(tmp_path: Path) -> Looker:
    return Looker(tmp_path, "x86_64", "")


def arm64_stack(number: int, *arguments: int, pstate: int = 0, pc: int = 0xFFFF8A0CDE14) -> bytes:
    """In the middle of a call: x0 is overwritten already."""
    regs = [0xDEAD, *arguments[1:], *range(100, 131 - len(arguments))]
    made = struct.pack("<31QQQQQi", *regs, 0xFFFFD000, pc, pstate, arguments[0], number)
    return made.ljust(ARM64_SIZE, b"\0")


def x86_64_stack(number: int, *arguments: int, cs: int = 0x33, ss: int = 0x2B) -> bytes:
    first, second, third, fourth = arguments
    regs = [0] * 7 + [fourth, 0, 0, -38 & (1 << 64) - 1, 0, third, second, first]
    return struct.pack("<15Q6Q", *regs, number, 0x7F1234567890, cs, 0x246, 0x7FFD0000, ss)


def test_a_call_on_arm64(arm64: Looker) -> None:
    # wait4(77, ..., WNOHANG)
    assert arm64.look(arm64_stack(260, 77, 2, 1, 4)) == (260, 77, 2, 1, 4, 1, 77)
    # waitid(P_PID, 78, ..., WEXITED | WNOWAIT)
    assert arm64.look(arm64_stack(95, 1, 78, 3, 0x1000004)) == (
        95, 1, 78, 3, 0x1000004, 0x1000004, 78,
    )  # fmt: skip
    assert arm64.look(arm64_stack(73, 1 << 40, 2, 3, 0)) == (73, 1 << 40, 2, 3, 0, -1, 0)


@pytest.mark.parametrize(
    ("why", "more"),
    [
        ("a thread of the kernel, EL1h", {"pstate": 0x60000005}),
        ("a program of 32 bits", {"pstate": 0x60000010}),
        ("no program runs there", {"pc": 0}),
        ("an address of the kernel", {"pc": 0xFFFF800008012345}),
    ],
)
def test_no_call_on_arm64(arm64: Looker, why: str, more: dict[str, int]) -> None:
    assert arm64.look(arm64_stack(260, 1, 2, 3, 4, **more)) is None


def test_flags_of_arithmetic_do_not_matter(arm64: Looker) -> None:
    assert arm64.look(arm64_stack(260, 1, 2, 3, 4, pstate=0x60001000)) is not None


def test_a_fault_on_arm64_is_no_call(arm64: Looker) -> None:
    """NO_SYSCALL: entry.S has it stored for every entry that is none."""
    assert arm64.look(arm64_stack(-1, 1, 2, 3, 4)) is None


def test_memory_without_registers(arm64: Looker, x86_64: Looker) -> None:
    for byte in (b"\0", b"\xff", b"\xa5"):
        assert arm64.look(byte * 512) is None
        assert x86_64.look(byte * 512) is None


def test_a_call_on_x86_64(x86_64: Looker) -> None:
    assert x86_64.look(x86_64_stack(61, 77, 2, 1, 4)) == (61, 77, 2, 1, 4, 1, 77)
    assert x86_64.look(x86_64_stack(247, 1, 78, 3, 4)) == (247, 1, 78, 3, 4, 4, 78)
    assert x86_64.look(x86_64_stack(61, 77, 2, 1, 4) + bytes(16)) is not None  # CONFIG_X86_FRED


def test_no_call_on_x86_64(x86_64: Looker) -> None:
    assert x86_64.look(x86_64_stack(61, 1, 2, 3, 4, cs=0x10, ss=0x18)) is None
    assert x86_64.look(x86_64_stack(61, 1, 2, 3, 4, cs=0x23)) is None  # of 32 bits
