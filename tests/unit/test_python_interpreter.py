# SPDX-License-Identifier: Apache-2.0
"""Interpreters in files, in processes and in directories."""

from __future__ import annotations

import os
import platform
import select
import shutil
import subprocess
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional, Union

import pytest

from tests.unit.installed_pythons import Installed, installed, readable
from zombiebpf.python import elf, programs
from zombiebpf.python import image as image_module
from zombiebpf.python.image import BREAKPOINT_BYTES, INIT_BYTES, Image, read_binary, read_image
from zombiebpf.python.interpreter import Interpreter, Unsupported, find_interpreter
from zombiebpf.python.offsets import offsets_of
from zombiebpf.python.programs import image_of_program, known_pythons

IDS = [each.label for each in readable()]
DEADLINE_S = 60.0
# Where its own structures are, by its own word.
SAYS = """
import ctypes, os
def at(name):
    return ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, name))
os.write(1, b"%d %d\\n" % (at("_PyRuntime"), at("PyCode_Type")))
os.read(0, 1)
"""


@contextmanager
def running(*argv: str) -> Iterator[tuple[int, str]]:
    """(pid, its first line) of a program that then waits for the end of its input."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], DEADLINE_S)[0], "it says nothing"
            yield process.pid, process.stdout.readline().decode()
        finally:
            process.kill()


def found_in(*argv: str) -> tuple[Union[Interpreter, Unsupported, None], str]:
    with running(*argv) as (pid, said):
        return find_interpreter(pid), said


@pytest.mark.parametrize("python", readable(), ids=IDS)
def test_addresses_are_the_process_own(python: Installed) -> None:
    found, said = found_in(python.program, "-I", "-c", SAYS)
    assert isinstance(found, Interpreter)
    assert f"{found.runtime} {found.code_type}\n" == said
    assert found.image.version == python.version
    assert found.image.name == f"CPython {'.'.join(map(str, python.version))}"


@pytest.mark.parametrize("python", readable(), ids=IDS)
def test_the_function_for_a_uprobe(python: Installed) -> None:
    image = image_of_program(python.program)
    assert image is not None
    assert image.init is not None
    assert image.init_offset is not None
    code = Path(image.path).read_bytes()[image.init_offset :]
    assert image.init_bytes == code[BREAKPOINT_BYTES:][:INIT_BYTES]
    assert len(image.init_bytes) == INIT_BYTES
    assert len(set(image.init_bytes)) > 10
    if image.text_delta is not None:
        assert image.init - image.init_offset == image.text_delta


OLDER = [each for each in installed() if each.version < (3, 7)]


@pytest.mark.parametrize("python", OLDER, ids=[each.label for each in OLDER])
def test_older_ones_are_named(python: Installed) -> None:
    said = "import os; os.write(1, b'x\\n'); os.read(0, 1)"
    found, _ = found_in(python.program, "-I", "-c", said)
    name = f"CPython {'.'.join(map(str, python.version))}"
    assert found == Unsupported(name, name)


def test_another_program_is_no_python() -> None:
    assert found_in("/bin/sh", "-c", "echo; read line") == (None, "\n")
    assert image_of_program("/bin/sh") is None


def test_a_process_that_is_gone() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    assert find_interpreter(process.pid) is None


def test_a_deleted_program(tmp_path: Path) -> None:
    """Still known: what is mapped is looked at, not what its name means by now."""
    python = next(each for each in readable())
    image = image_of_program(python.program)
    assert image is not None
    copied = tmp_path / os.path.basename(image.path)
    shutil.copy(image.path, copied)
    if copied.name.startswith("lib"):
        argv = ["env", f"LD_LIBRARY_PATH={tmp_path}", python.program, "-c", SAYS]
    else:
        argv = [str(copied), "-c", SAYS]
    with running(*argv) as (pid, said):
        copied.unlink()
        copied.write_bytes(b"another file")
        found = find_interpreter(pid)
    assert isinstance(found, Interpreter)
    assert f"{found.runtime} {found.code_type}\n" == said
    assert str(tmp_path) in found.image.path


def fake_proc(tmp_path: Path, *files: str) -> str:
    """A procfs with one process that has the code of these files mapped."""
    process = tmp_path / "proc" / "1"
    process.mkdir(parents=True)
    (process / "root").symlink_to("/")
    (process / "exe").symlink_to(files[0])
    lines = [
        f"{0x10000000 * number:x}-{0x10000000 * number + 4096:x} r-xp 00000000 00:00 "
        f"{os.stat(file).st_ino if os.path.exists(file) else 7} {file}\n"
        for number, file in enumerate(files, 1)
    ]
    (process / "maps").write_text("".join(lines))
    return str(tmp_path / "proc")


def test_musl_is_named(tmp_path: Path) -> None:
    image = image_of_program(readable()[0].program)
    assert image is not None
    proc = fake_proc(tmp_path, image.path, "/lib/ld-musl-x86_64.so.1")
    assert find_interpreter(1, proc) == Unsupported(image.name, "musl")


def test_files_are_compared_by_inode(tmp_path: Path) -> None:
    """Another mount namespace, or another file of that name: no guess."""
    image = image_of_program(readable()[0].program)
    assert image is not None
    proc = fake_proc(tmp_path, image.path)
    assert isinstance(find_interpreter(1, proc), Interpreter)
    maps = Path(proc) / "1" / "maps"
    inode = os.stat(image.path).st_ino
    maps.write_text(maps.read_text().replace(f" {inode} ", f" {inode + 1} "))
    assert find_interpreter(1, proc) is None


C_OF = """
unsigned int Py_Version = {hexversion};
struct {{ char cookie[8]; unsigned long long version, free_threaded, rest[200]; }} _PyRuntime =
    {{ "xdebugpy", {hexversion}, {free_threaded} }};
int PyCode_Type = 1;
int {more};
int Py_InitializeFromConfig(int x) {{ return x; }}
"""


@pytest.mark.parametrize(
    ("hexversion", "free_threaded", "more", "name", "problem"),
    [
        ("0x030D02F0", 1, "x", "CPython 3.13.2", "free-threaded"),
        ("0x030E02F0", 0, "_Py_NegativeRefcount", "CPython 3.14.2", "debug build"),
        ("0x031000F0", 0, "x", "CPython 3.16.0", "an unknown CPython 3.16.0"),
        ("0x030F00B1", 0, "x", "CPython 3.15.0", "a CPython 3.15.0 before its release"),
        ("0x030D02F0", 0, "x", "CPython 3.13.2", None),
        ("0x030D00C1", 0, "x", "CPython 3.13.0", None),  # a release candidate is as the release
    ],
)
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to make such a library")
def test_what_cannot_be_read_is_named(
    tmp_path: Path, hexversion: str, free_threaded: int, more: str, name: str, problem: str
) -> None:
    source, library = tmp_path / "a.c", tmp_path / "libpython3.so.1.0"
    source.write_text(C_OF.format(hexversion=hexversion, free_threaded=free_threaded, more=more))
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    image = read_image(str(library))
    assert image is not None
    assert (image.name, image.problem) == (name, problem)
    assert (image.offsets is None) == (problem is not None)


def test_pypy_is_named(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to make such a library")
    source, library = tmp_path / "a.c", tmp_path / "libpypy3.9-c.so"
    source.write_text("int rpython_startup_code(void) { return 1; }")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    image = read_image(str(library))
    assert image is not None
    assert (image.name, image.problem) == ("PyPy 3.9", "PyPy")


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01" + b"\xff" * 200])
def test_other_files_have_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "python3"
    file.write_bytes(content)
    assert read_image(str(file)) is None
    os.mkfifo(tmp_path / "fifo")
    assert read_image(str(tmp_path / "fifo")) is None
    with pytest.raises(OSError, match="gone"):
        read_image(str(tmp_path / "gone"))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    image = image_of_program(readable()[0].program)
    assert image is not None
    file = tmp_path / "python3"
    file.write_bytes(b"no ELF")
    assert read_image(str(file)) is None
    shutil.copy(image.path, file)
    again = read_image(str(file))
    assert again is not None
    assert again.runtime == image.runtime
    assert read_image(str(file)) is again


def first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a process does that knows nothing."""
    monkeypatch.setattr(image_module, "_cache", OrderedDict())
    monkeypatch.setattr(image_module, "_kept", {})


def next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as another process would, with what this one has kept."""
    kept = image_module.keep()
    first_run(monkeypatch)
    if kept is not None:
        image_module.preload(kept)


def test_what_a_run_has_found_the_next_one_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_run(monkeypatch)
    found = image_of_program(readable()[0].program)
    assert found is not None
    script, copied = tmp_path / "script", tmp_path / "python3"
    script.write_text("#!/bin/sh")
    shutil.copy(found.path, copied)
    before = [read_binary(str(each)) for each in (found.path, "/bin/sh", script, copied)]
    assert before[0].image == found
    assert before[1].dynamic["needed"]
    next_run(monkeypatch)
    monkeypatch.setattr(elf, "Elf", None)  # whoever reads a file fails
    assert [read_binary(str(each)) for each in (found.path, "/bin/sh", script, copied)] == before
    assert image_module.keep() is None  # nothing new
    moved = copied.rename(tmp_path / "python3.moved")
    monkeypatch.undo()
    image = read_image(str(moved))
    assert image is not None
    assert image.path == str(moved)


@pytest.mark.parametrize("python", readable(), ids=IDS)
def test_offsets_are_not_kept_but_known_again(
    python: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong one would show other lines."""
    first_run(monkeypatch)
    found = image_of_program(python.program)
    assert found is not None
    assert found.offsets is not None
    next_run(monkeypatch)
    at = Image._fields.index("offsets") - 1
    assert {values[at] for values, _, _ in image_module._kept.values() if values} == {None}
    monkeypatch.setattr(elf, "Elf", None)  # whoever reads a file fails
    assert image_of_program(python.program) == found


@pytest.mark.parametrize("field", ["init_bytes", "init_offset"])
def test_a_start_function_that_is_not_there_is_looked_for_again(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_run(monkeypatch)
    found = image_of_program(readable()[0].program)
    assert found is not None
    next_run(monkeypatch)
    at = Image._fields.index(field) - 1
    for values, _, _ in image_module._kept.values():
        if values is not None:
            values[at] = "00" * INIT_BYTES if field == "init_bytes" else values[at] + 1
    assert image_of_program(readable()[0].program) == found


def test_a_file_that_changed_between_two_runs_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if its size and its time of modification are the same."""
    found = image_of_program(readable()[0].program)
    assert found is not None
    file = tmp_path / "python3"
    shutil.copy(found.path, file)
    before = file.stat()
    assert read_image(str(file)) is not None
    next_run(monkeypatch)
    with file.open("r+b") as opened:
        opened.write(b"no ELF")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert read_image(str(file)) is None


def test_scripts_lead_to_their_interpreter(tmp_path: Path) -> None:
    python = readable()[0]
    expected = image_of_program(python.program)
    assert expected is not None
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "python").symlink_to(python.program)
    for number, line in enumerate(
        [
            f"#!{python.program}",
            f"#! {tmp_path}/venv/python -I",
            "#!/usr/bin/env python",
            "#!/usr/bin/env -S A=b python -X dev",
        ]
    ):
        script = tmp_path / f"script{number}"
        script.write_text(f"{line}\nprint(1)\n")
        assert image_of_program(str(script), [str(tmp_path / "venv")]) == expected
    (tmp_path / "other").write_text("#!/bin/sh\n")
    assert image_of_program(str(tmp_path / "other")) is None
    (tmp_path / "loop").write_text(f"#!{tmp_path}/loop\n")
    assert image_of_program(str(tmp_path / "loop")) is None
    assert image_of_program(str(tmp_path / "gone")) is None


def test_known_pythons_are_each_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links on PATH, the chosen versions behind pyenv's shims, and the usual directories."""
    first, *others = readable()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(first.program)
    (tmp_path / "bin" / "python3.99").symlink_to(first.program)
    (tmp_path / "bin" / "python3-config").symlink_to("/bin/sh")
    (tmp_path / "pyenv" / "shims").mkdir(parents=True)
    (tmp_path / "pyenv" / "shims" / "python3").write_text("#!/bin/sh\n")
    for number, python in enumerate(others):
        directory = tmp_path / "pyenv" / "versions" / str(number) / "bin"
        directory.mkdir(parents=True)
        (directory / "python3").symlink_to(python.program)
    chosen = [str(number) for number, _ in enumerate(others)]
    (tmp_path / "pyenv" / "version").write_text("\n".join([*chosen, "../../bin"]) + "\n")
    monkeypatch.setattr(programs, "_USUAL", (str(tmp_path / "bin"),))
    monkeypatch.setattr(programs, "_library_directories", list)
    found = list(known_pythons([str(tmp_path / "pyenv" / "shims"), "", "/does/not/exist"]))
    assert {each.version for each in found} == {each.version for each in readable()}
    assert len({each.path for each in found}) == len(found)
    (tmp_path / "pyenv" / "version").unlink()
    left = list(known_pythons([str(tmp_path / "pyenv" / "shims")]))
    assert [each.version for each in left] == [first.version]


def test_bias_of_an_image() -> None:
    fields = ("a", None, 0x5000, 0x6000, 0x6100, 0x6200, 0x3100, 0x2100, b"", None)
    fixed = Image(*fields, text_delta=None, problem=None)
    moved = Image(*fields, text_delta=0x1000, problem=None)
    assert fixed.bias(0x400000, 0x2000) == 0
    assert moved.bias(0x7F0000003000, 0x2000) == 0x7F0000000000


EM_X86_64, EM_AARCH64, EM_RISCV = 62, 183, 243


@pytest.mark.parametrize(
    ("number", "here", "reason"),
    [
        (EM_X86_64, "x86_64", None),
        (EM_AARCH64, "aarch64", None),
        (EM_AARCH64, "x86_64", "not for x86_64 (aarch64)"),
        (EM_X86_64, "aarch64", "not for aarch64 (x86_64)"),
        (EM_RISCV, "riscv64", "not for x86_64 or aarch64 (riscv)"),
    ],
)
def test_the_machine_it_is_for(
    number: int, here: str, reason: Optional[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = image_of_program(readable()[0].program)
    assert own is not None
    assert own.version is not None
    copied = tmp_path / os.path.basename(own.path)
    data = bytearray(Path(own.path).read_bytes())
    data[18:20] = number.to_bytes(2, "little")  # e_machine
    copied.write_bytes(data)
    monkeypatch.setattr(platform, "machine", lambda: here)
    image = read_image(str(copied))
    assert image is not None
    assert image.problem == reason
    assert image.version == own.version
    assert image.offsets == (offsets_of(own.version, here) if reason is None else None)
