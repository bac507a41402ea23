# SPDX-License-Identifier: Apache-2.0
"""Offsets: the tables against the headers of the installed Pythons, and _Py_DebugOffsets."""

from __future__ import annotations

import platform
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.unit.installed_pythons import Installed, readable
from zombiebpf.python.image import read_image
from zombiebpf.python.offsets import (
    ABSENT,
    COOKIE,
    DEBUG_OFFSETS_SIZE,
    MACHINES,
    OffsetsError,
    from_debug_offsets,
    offsets_of,
)
from zombiebpf.python.programs import image_of_program

PROGRAM = Path(__file__).parent / "data" / "python_offsets.c"
WITH_HEADERS = [each for each in readable() if each.has_internal_headers]
MINORS = range(7, 16)
# How a program is compiled for a machine, and run here: Debian's gcc-aarch64-linux-gnu,
# qemu-user-static.
TOOLS = {
    machine: (["gcc"], [])
    if machine == platform.machine()
    else ([f"{machine}-linux-gnu-gcc", "-static"], [f"qemu-{machine}-static"])
    for machine in MACHINES
}
COMPARED = [
    (python, machine)
    for machine, (compiler, emulator) in TOOLS.items()
    for python in WITH_HEADERS
    if all(map(shutil.which, [compiler[0], *emulator]))
    # the distribution's headers have a pyconfig.h for their own machine alone
    and (machine == platform.machine() or python.label.endswith("-pyenv"))
]


@pytest.mark.parametrize(
    ("python", "machine"), COMPARED, ids=[f"{each.label}-{machine}" for each, machine in COMPARED]
)
def test_the_table_is_what_the_headers_say(python: Installed, machine: str, tmp_path: Path) -> None:
    program = tmp_path / "offsets"
    include = [f"-I{python.include}", f"-I{python.include}/internal"]
    compiler, emulator = TOOLS[machine]
    command = [*compiler, "-w", "-DNDEBUG", *include, "-o", str(program), str(PROGRAM)]
    subprocess.run(command, check=True)
    command = [*emulator, str(program)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    expected = {name: int(value) for name, value in (line.split("=") for line in said.splitlines())}
    found = offsets_of(python.version, machine)
    assert found is not None
    assert found._asdict() == expected


@pytest.mark.parametrize("python", readable(), ids=[each.label for each in readable()])
def test_the_file_says_the_same(python: Installed) -> None:
    image = image_of_program(python.program)
    assert image is not None
    assert image.problem is None
    assert image.offsets == offsets_of(python.version, platform.machine())


@pytest.mark.parametrize("minor", MINORS)
def test_each_fits_and_is_named(minor: int) -> None:
    found = offsets_of((3, minor, 5))
    assert found is not None
    assert found.minor == minor
    assert all(0 <= each < 1 << 16 for each in found)  # u16s in BPF
    assert (found.frame_owner == ABSENT) == (minor < 11)
    assert (found.cframe_frame == ABSENT) == (minor not in (11, 12))
    assert found.lasti_scale == (2 if minor == 10 else 1)


@pytest.mark.parametrize("minor", MINORS)
def test_on_arm64_two_mutexes_are_larger(minor: int) -> None:
    x86_64, arm64 = (offsets_of((3, minor, 5), machine) for machine in ("x86_64", "aarch64"))
    assert x86_64 is not None
    assert arm64 is not None
    assert arm64.tss_key - x86_64.tss_key == (16 if minor <= 11 else 0)
    assert arm64._replace(tss_key=x86_64.tss_key) == x86_64


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 15), (3, 16, 0), (4, 13, 0)])
def test_of_others_nothing_is_known(version: tuple[int, int, int]) -> None:
    assert offsets_of(version) is None


def test_the_key_moved_in_3_7_4() -> None:
    early, late = offsets_of((3, 7, 3)), offsets_of((3, 7, 4))
    assert early is not None
    assert late is not None
    assert late.tss_key - early.tss_key == 88
    assert early._replace(tss_key=late.tss_key) == late
    assert offsets_of((3, 7, -1)) == late


def blob(version: tuple[int, int, int], free_threaded: int = 0, **fields: int) -> bytes:
    """_Py_DebugOffsets that says what the table says, but for `fields` (by byte position)."""
    raw = bytearray(DEBUG_OFFSETS_SIZE)
    raw[:8] = COOKIE
    major, minor, micro = version
    hexversion = major << 24 | minor << 16 | micro << 8 | 0xF0
    struct.pack_into("<QQ", raw, 8, hexversion, free_threaded)
    for at, value in fields.items():
        struct.pack_into("<Q", raw, int(at[1:]), value)
    return bytes(raw)


POSITIONS = (40, 64, 72, 168, 184, 192, 232, 240, 248, 256, 264, 280, 296, 304, 312, 344, 560)
VALUES = (640, 7000, 7100, 16, 80, 160, 24, 32, 40, 48, 56, 1, 2, 3, 4, 5, 48)
IN_3_13 = {f"_{at}": value for at, value in zip(POSITIONS, VALUES)}


def test_debug_offsets_go_before_the_table() -> None:
    found = from_debug_offsets(blob((3, 13, 2), **IN_3_13), (3, 13, 2))
    table = offsets_of((3, 13, 2))
    assert table is not None
    assert found == table._replace(
        interpreters_head=640,
        interp_next=7000,
        threads_head=7100,
        tstate_next=16,
        tstate_frame=80,
        thread_id=160,
        frame_previous=24,
        frame_code=32,
        frame_lasti=40,
        frame_locals=48,
        frame_owner=56,
        code_filename=1,
        code_name=2,
        code_table=3,
        code_firstlineno=4,
        code_adaptive=5,
        unicode_ascii=48,
        unicode_compact=64,
        tss_key=ABSENT,  # _PyRuntime is another than the table's
    )


@pytest.mark.parametrize(
    ("raw", "version", "reason"),
    [
        (b"", (3, 13, 0), "no _Py_DebugOffsets"),
        (bytes(DEBUG_OFFSETS_SIZE), (3, 13, 0), "no _Py_DebugOffsets"),
        (blob((3, 13, 1))[:-1], (3, 13, 1), "no _Py_DebugOffsets"),
        (blob((3, 14, 0)), (3, 13, 0), "are of 3.14.0"),
        (blob((3, 13, 1)), (3, 13, 0), "are of 3.13.1"),
        (blob((3, 13, 0), free_threaded=1), (3, 13, 0), "free-threaded"),
        (blob((3, 16, 0)), (3, 16, 0), "unknown CPython 3.16.0"),
        (blob((4, 13, 0)), (4, 13, 0), "unknown CPython 4.13.0"),
        (blob((3, 13, 0), _40=1 << 40), (3, 13, 0), "cannot be"),
    ],
)
def test_what_cannot_be_trusted_is_refused(
    raw: bytes, version: tuple[int, int, int], reason: str
) -> None:
    with pytest.raises(OffsetsError, match=reason):
        from_debug_offsets(raw, version)


def test_a_version_without_its_micro_will_do() -> None:
    assert from_debug_offsets(blob((3, 13, 4), **IN_3_13), (3, 13, -1)).minor == 13


def test_no_interpreter_no_image(tmp_path: Path) -> None:
    other = tmp_path / "libpython3.13.so"
    other.write_bytes(b"\x7fELF\x02\x01" + bytes(100))
    assert read_image(str(other)) is None
