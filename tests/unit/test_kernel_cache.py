# SPDX-License-Identifier: Apache-2.0
"""Files that are kept: found again whole, and never somebody else's."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from zombiebpf.bpf import headers
from zombiebpf.bpf.compiled import Compiled, Map, map_references, with_maps
from zombiebpf.bpf.syscall import MapShape
from zombiebpf.errors import ZombiebpfError
from zombiebpf.kernel import cache, compiler, program

NAME = "0a.probes"
DATA = bytes(range(16))
COMPILED = Compiled(
    {"lives": Map(MapShape(1, 4, 24, 65536, 0), '"unsigned int"', '["life", []]')},
    {"on_fork": DATA},
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv(cache.CACHE, str(directory))
    return directory


def inputs(text: str) -> tuple[bytes, ...]:
    return tuple(compiler.inputs(text))


def test_what_is_kept_is_found(place: Path) -> None:
    assert cache.find(NAME) is None
    cache.keep(NAME, DATA)
    assert cache.find(NAME) == DATA
    assert cache.find("other.probes") is None
    assert [path.name for path in place.iterdir()] == [NAME]
    assert (place.stat().st_mode & 0o777, (place / NAME).stat().st_mode & 0o777) == (0o700, 0o600)


@pytest.mark.parametrize("mask", [0, 0o077])
def test_nobody_else_may_write_whatever_the_umask(place: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        cache.keep(NAME, DATA)
    finally:
        os.umask(before)
    assert not any(path.stat().st_mode & 0o022 for path in (place, place / NAME))
    assert cache.find(NAME) == DATA


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_that_others_may_write_to(place: Path, mode: int) -> None:
    cache.keep(NAME, DATA)
    place.chmod(mode)
    assert cache.find(NAME) is None
    cache.keep("new.probes", DATA)
    assert [path.name for path in place.iterdir()] == [NAME]


def test_a_file_that_others_may_write_to(place: Path) -> None:
    cache.keep(NAME, DATA)
    (place / NAME).chmod(0o620)
    assert cache.find(NAME) is None
    cache.keep(NAME, DATA)  # it takes the other's place
    assert cache.find(NAME) == DATA


def test_links_are_not_followed(place: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(hashlib.sha256(DATA).digest() + DATA)
    victim.chmod(0o600)
    place.mkdir(mode=0o700)
    (place / NAME).symlink_to(victim)
    assert cache.find(NAME) is None
    victim.write_bytes(b"precious")
    cache.keep(NAME, DATA)
    assert victim.read_bytes() == b"precious"
    assert not (place / NAME).is_symlink()
    assert cache.find(NAME) == DATA


def test_a_link_in_the_place_of_the_directory(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.keep(NAME, DATA)
    (tmp_path / "link").symlink_to(place)
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "link"))
    assert cache.find(NAME) is None
    cache.keep("new.probes", DATA)
    assert [path.name for path in place.iterdir()] == [NAME]


def test_another_users(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.keep(NAME, DATA)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert cache.find(NAME) is None


def test_a_fifo_does_not_keep_anybody_waiting(place: Path) -> None:
    place.mkdir(mode=0o700)
    os.mkfifo(place / NAME, 0o600)
    assert cache.find(NAME) is None


def test_damaged_ones_are_none(place: Path) -> None:
    cache.keep(NAME, DATA)
    whole = (place / NAME).read_bytes()
    changed = [bytes([*whole[:at], whole[at] ^ 1, *whole[at + 1 :]]) for at in range(len(whole))]
    for damaged in (*changed, *(whole[:size] for size in range(len(whole)))):
        (place / NAME).write_bytes(damaged)
        assert cache.find(NAME) is None, damaged
    (place / NAME).write_bytes(whole)
    assert cache.find(NAME) == DATA


def test_compiled_probes_are_read_as_they_were_written() -> None:
    assert Compiled.from_bytes(COMPILED.to_bytes()) == COMPILED


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"maps": {}, "programs": {"a": "*"}}', '"x"'])
def test_what_is_no_compiled_probes(text: str) -> None:
    with pytest.raises(ValueError, match="damaged"):
        Compiled.from_bytes(text.encode())


def test_the_oldest_go(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MAX_FILES", 3)
    for number in range(5):
        cache.keep(f"{number}.probes", DATA)
        os.utime(place / f"{number}.probes", ns=(number, number))
    cache.keep("5.probes", DATA)
    assert sorted(path.name for path in place.iterdir()) == ["3.probes", "4.probes", "5.probes"]


def test_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(cache.CACHE, "")
    assert cache.directory_path() is None
    cache.keep(NAME, DATA)
    assert cache.find(NAME) is None
    monkeypatch.delenv(cache.CACHE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cache.directory_path() == str(tmp_path / "zombiebpf")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.directory_path() == str(tmp_path / ".cache/zombiebpf")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cache.directory_path() == "/var/cache/zombiebpf"


def test_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.CACHE, "/proc/self/nowhere")
    cache.keep(NAME, DATA)
    assert cache.find(NAME) is None


def test_what_is_forgotten_is_gone(place: Path) -> None:
    cache.forget(NAME)
    cache.keep(NAME, DATA)
    cache.keep("other.boot", DATA)
    cache.forget(NAME)
    assert [path.name for path in place.iterdir()] == ["other.boot"]


def test_the_name_depends_on_each_part_and_on_the_kind() -> None:
    parts = [(b"a", b"b"), (b"ab",), (b"a", b"b", b""), (b"b", b"a")]
    names = {cache.name_of(kind, each) for kind in cache.KINDS for each in parts}
    assert len(names) == len(parts) * len(cache.KINDS)
    assert cache.name_of(cache.BOOT, parts[0]) == cache.name_of(cache.BOOT, list(parts[0]))


def test_what_compiled_probes_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "bcc"
    package.mkdir()
    (package / "libbcc.py").write_text("")
    monkeypatch.setenv("ZOMBIEBPF_BCC", str(tmp_path))
    found = [inputs("a"), inputs("a"), inputs("b")]
    (package / "version.py").write_text("__version__ = '0.31.0'")
    found.append(inputs("a"))
    monkeypatch.setattr(headers, "kconfig", lambda: "another kernel")
    found.append(inputs("a"))
    assert found[0] == found[1]
    assert len(set(found)) == 4
    monkeypatch.setenv("ZOMBIEBPF_BCC", "/nowhere")
    with pytest.raises(ZombiebpfError, match="bcc"):
        inputs("a")


def instruction(operation: int, registers: int, value: int) -> bytes:
    return bytes([operation, registers, 0, 0]) + value.to_bytes(4, "little")


def test_references_to_maps() -> None:
    plain = instruction(0x18, 0x01, 7) + instruction(0, 0, 0)  # a number: source register 0
    code = instruction(0x18, 0x11, 7) + instruction(0, 0, 0) + plain + instruction(0x95, 0, 7)
    assert map_references(code) == {7}
    assert with_maps(code, {7: 70}) == (
        instruction(0x18, 0x11, 70) + instruction(0, 0, 0) + plain + instruction(0x95, 0, 7)
    )
    assert with_maps(code, {8: 80}) == code


def test_programs_can_be_told_apart_by_their_names_in_the_kernel() -> None:
    source = "".join((program.probes_directory() / name).read_text() for name in program.SOURCES)
    names = [f"on_{name}" for name in re.findall(r"^(?:FUNCTION_)?PROBE\((\w+)\)", source, re.M)]
    names += [*program.STAGES, "on_python_start"]
    names += re.findall(r"^int (on_scan_\w+)\(", source, re.M)
    assert len(names) > 15
    short = {program.kernel_name(name)[:15] for name in names}  # BPF_OBJ_NAME_LEN
    assert len(short) == len(names)
    assert program.kernel_name("on_sched_process_fork") == "zb_fork"
