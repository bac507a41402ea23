# SPDX-License-Identifier: Apache-2.0
"""Which interpreters the probes are told of, and when."""

from __future__ import annotations

import collections
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Union, cast

import pytest

from tests.unit.interpreter_images import CODE, image, offsets
from zombiebpf.bpf import perf_events, syscall
from zombiebpf.bpf.loaded import Probes
from zombiebpf.kernel import interpreters, machine
from zombiebpf.kernel.interpreters import START_BYTES, InterpreterRegistry, fingerprint
from zombiebpf.kernel.program import probes_directory
from zombiebpf.python.image import BREAKPOINT_BYTES, INIT_BYTES
from zombiebpf.python.interpreter import Interpreter, Unsupported

WALK = (probes_directory() / "python_stack.bpf.c").read_text(encoding="utf-8")
START = (probes_directory() / "python_start.bpf.c").read_text(encoding="utf-8")
TABLES = (probes_directory() / "python.h").read_text(encoding="utf-8")
PYWIRE = (probes_directory() / "pywire.h").read_text(encoding="utf-8")
VECTOR = 0xD953B78191A8B401  # of image()'s address and code, by gcc
MASK = (1 << 64) - 1


# the fingerprint


def mix_of_c(value: int, word: int) -> int:
    """mix() as python_stack.bpf.c writes it: its own expressions, in 64 bits."""
    found = re.search(
        r"u64 mix\(u64 hash, u64 value\)\n\{\n\thash = (.*);\n\treturn (.*);\n\}", WALK
    )
    assert found
    first, second = (each.replace("ULL", "") for each in found.groups())
    hash_ = eval(first, {"hash": value, "value": word}) & MASK
    result = eval(second, {"hash": hash_}) & MASK
    assert isinstance(result, int)
    return result


def key_of_c(address: int, code: bytes) -> int:
    """What on_python_start() makes of a function at `address`."""
    assert "\tkey = mix(0, ip & PAGE_OFFSET_BITS);\n" in START
    assert "\t\tkey = mix(key, code[i]);\n" in START
    assert "#define PAGE_OFFSET_BITS 0xfff\n" in START
    key = mix_of_c(0, address & 0xFFF)
    for at in range(0, len(code), 8):
        key = mix_of_c(key, int.from_bytes(code[at : at + 8], "little"))
    return key


@pytest.mark.parametrize("address", [0, 0xFFF, 0x1000, 0x12345678ABC, 0x5590DEADB001])
def test_the_fingerprint_is_the_one_of_the_probes(address: int) -> None:
    assert fingerprint(image("python", init=address)) == key_of_c(address, CODE)
    noise = bytes((each * each + 11) & 0xFF for each in range(64))
    made = fingerprint(image("python", init=address, init_bytes=noise))
    assert made == key_of_c(address, noise)


def test_the_fingerprint_as_a_compiler_had_it() -> None:
    assert fingerprint(image("python")) == VECTOR


def test_the_fingerprint_is_the_same_wherever_the_binary_is_mapped() -> None:
    moved = fingerprint(image("python", init=0x12345678ABC + 0x7F1234567000))
    assert moved == fingerprint(image("python"))
    assert fingerprint(image("python", init=0x12345678ABD)) != moved


@pytest.mark.parametrize("at", range(64))
def test_each_byte_of_the_code_counts(at: int) -> None:
    other = CODE[:at] + bytes([CODE[at] ^ 1]) + CODE[at + 1 :]
    assert fingerprint(image("python", init_bytes=other)) != fingerprint(image("python"))


def test_as_many_bytes_are_read_as_are_compared() -> None:
    assert f"#define START_BYTES {START_BYTES}\n" in START
    assert START_BYTES == INIT_BYTES
    assert f"#define BREAKPOINT_BYTES {BREAKPOINT_BYTES} " in START


# the tables of the probes


class Table(dict[int, Any]):
    """A table of the probes. `leaf` makes an entry; keys are plain numbers."""

    Key = int

    def __init__(self, leaf: Callable[..., Any]) -> None:
        super().__init__()
        self.Leaf = leaf


def c_leaf(struct: str) -> Callable[..., Any]:
    """A leaf takes the members in their order, as ctypes do."""
    body = re.search(rf"^struct {struct} \{{\n(.*?)^\}};", PYWIRE, re.M | re.S)
    assert body
    names = re.findall(r"^\t\w+ (\w+);", body[1], re.M)
    assert names
    return collections.namedtuple(struct, names)


class FakeBpf:
    """Its tables, and the uprobes that were placed."""

    def __init__(self) -> None:
        self.tables: Mapping[str, Table] = {
            "pythons": Table(c_leaf("py_process")),
            "layouts": Table(c_leaf("py_layout")),
            "templates": Table(c_leaf("py_template")),
            "python_forks": Table(int),
            "any_python": Table(int),
            "lives": Table(SimpleNamespace),
        }
        self.uprobes: list[tuple[str, int]] = []
        self.descriptors: list[int] = []
        self.refusal = False

    def __getitem__(self, name: str) -> Table:
        return self.tables[name]

    def load_again(self, name: str, kind: int, attach_type: int = 0) -> int:
        assert (name, kind) == ("on_python_start", 2)
        assert attach_type == (0 if self.refusal and self.descriptors else 48)
        return self._descriptor()

    def attach(self, program: int, path: str, offset: int) -> int:
        if self.refusal:
            raise PermissionError(13, "Permission denied", path)
        assert program == self.descriptors[0]
        self.uprobes.append((path, offset))
        return self._descriptor()

    def _descriptor(self) -> int:
        pipe = os.pipe()
        os.close(pipe[1])
        self.descriptors.append(pipe[0])
        return pipe[0]


@pytest.fixture
def bpf(monkeypatch: pytest.MonkeyPatch) -> FakeBpf:
    made = FakeBpf()
    monkeypatch.setattr(syscall, "link_uprobe", made.attach)
    monkeypatch.setattr(perf_events, "attach_uprobe", made.attach)
    monkeypatch.setattr(machine, "pid_namespace", lambda: 0)
    return made


@pytest.fixture
def binary(tmp_path: Path) -> str:
    path = tmp_path / "python3.11"
    path.write_bytes(b"")
    return str(path)


def registry(bpf: FakeBpf) -> InterpreterRegistry:
    return InterpreterRegistry(cast(Probes, bpf))


def test_a_binary_that_is_expected(bpf: FakeBpf, binary: str) -> None:
    pythons = registry(bpf)
    pythons.expect([image(binary)])
    assert bpf.uprobes == [(binary, 0x78ABC)]
    before = set(threading.enumerate())
    pythons.close()
    for thread in set(threading.enumerate()) - before:  # it closes beside what comes next
        thread.join(10)
    assert len(bpf.descriptors) == 2  # the program and its uprobe
    for each in bpf.descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(each)
    ((key, template),) = bpf["templates"].items()
    assert key == fingerprint(image(binary))
    assert template.runtime == 0x900000 - 0x12345678ABC  # from the function, which lies behind
    assert template.code_type == 0x8F0000 - 0x12345678ABC
    assert bpf["layouts"][template.layout]._asdict() == offsets(11)._asdict()


def test_one_binary_by_two_names(bpf: FakeBpf, binary: str, tmp_path: Path) -> None:
    link = tmp_path / "python3"
    link.symlink_to(binary)
    pythons = registry(bpf)
    pythons.expect([image(binary), image(str(link))])
    pythons.expect([image(binary)])
    assert len(bpf.uprobes) == 1


def test_two_binaries_of_one_version_share_their_layout(bpf: FakeBpf, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"")
    a, b, c = (str(tmp_path / name) for name in "abc")
    registry(bpf).expect([image(a), image(b, init_bytes=CODE[::-1]), image(c, minor=12, init=1)])
    assert [path for path, _ in bpf.uprobes] == [a, b, c]
    assert sorted(each.layout for each in bpf["templates"].values()) == [0, 0, 1]
    assert {number: each.minor for number, each in bpf["layouts"].items()} == {0: 11, 1: 12}


@pytest.mark.parametrize(
    "over", [{"problem": "debug build"}, {"init": None, "init_offset": None}, {"offsets": None}]
)
def test_a_binary_that_cannot_be_read(bpf: FakeBpf, binary: str, over: dict[str, Any]) -> None:
    registry(bpf).expect([image(binary, **over)])
    assert bpf.uprobes == []
    assert bpf["templates"] == {}


def test_a_binary_that_is_gone(bpf: FakeBpf, tmp_path: Path) -> None:
    registry(bpf).expect([image(str(tmp_path / "none"))])
    assert bpf.uprobes == []


def test_uprobes_that_are_refused(bpf: FakeBpf, binary: str, tmp_path: Path) -> None:
    """It goes on without them: processes are known from their memory maps then."""
    bpf.refusal = True
    pythons = registry(bpf)
    other = tmp_path / "other"
    other.write_bytes(b"")
    pythons.expect([image(binary), image(str(other))])
    assert pythons.refused == f"[Errno 13] Permission denied: {binary!r}"
    assert bpf.uprobes == []


def test_more_versions_than_the_table_holds(bpf: FakeBpf, tmp_path: Path) -> None:
    declared = re.search(r"BPF_ARRAY\(layouts, struct py_layout, (\d+)\);", TABLES)
    assert declared
    capacity = int(declared[1])
    pythons = registry(bpf)
    for number in range(capacity + 3):
        path = tmp_path / str(number)
        path.write_bytes(b"")
        pythons.expect([image(str(path), offsets=offsets(11)._replace(tss_key=number))])
    assert len(bpf["layouts"]) == capacity
    assert len(bpf.uprobes) == capacity


# processes that run already


Found = Union[Interpreter, Unsupported, None]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> dict[int, Found]:
    """PID -> what is in it."""
    processes: dict[int, Found] = {}
    monkeypatch.setattr(interpreters, "find_interpreter", lambda pid: processes.get(pid))
    return processes


def test_a_process_is_registered(bpf: FakeBpf, binary: str, running: dict[int, Found]) -> None:
    running[20] = Interpreter(image(binary, minor=12), 0x7F0000900000, 0x7F00008F0000)
    pythons = registry(bpf)
    assert pythons.register(20)
    entry = bpf["pythons"][20]
    assert (entry.runtime, entry.code_type) == (0x7F0000900000, 0x7F00008F0000)
    assert bpf["layouts"][entry.layout].minor == 12
    assert entry.lineage > 0
    assert entry.forked == 0
    assert bpf["python_forks"] == {}
    assert bpf["any_python"] == {0: 1}
    assert len(bpf.uprobes) == 1  # the next process of that binary is known at its start
    assert not pythons.any_unsupported


def test_a_process_of_another_namespace(
    bpf: FakeBpf, binary: str, running: dict[int, Found]
) -> None:
    running[20] = Interpreter(image(binary), 1, 2)
    assert registry(bpf).register(20, tgid=4711)
    assert set(bpf["pythons"]) == {4711}


class Tgid(int):
    """A key of a table, as tables.py gives it."""

    @property
    def value(self) -> int:
        return int(self)


def test_numbers_of_the_observers_own_namespace(
    bpf: FakeBpf, binary: str, running: dict[int, Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel calls a process is told by the table of those that are followed."""
    monkeypatch.setattr(machine, "pid_namespace", lambda: 4026532000)
    running.update({pid: Interpreter(image(binary), 1, 2) for pid in (20, 21)})
    bpf["lives"].update({Tgid(4711): SimpleNamespace(pid=20), Tgid(4712): SimpleNamespace(pid=22)})
    pythons = registry(bpf)
    assert pythons.register(20)
    pythons.register(21)  # it is gone by now, or was never followed
    assert set(bpf["pythons"]) == {4711}


def test_a_process_with_children(bpf: FakeBpf, binary: str, running: dict[int, Found]) -> None:
    """Its blocks are looked at from now on, though it has not forked before our eyes."""
    running[20] = Interpreter(image(binary), 1, 2)
    assert registry(bpf).register(20, has_children=True)
    assert bpf["pythons"][20].forked == 1
    assert bpf["python_forks"] == {0: 1}


def test_what_the_probes_know_stays(bpf: FakeBpf, binary: str, running: dict[int, Found]) -> None:
    """A fork or the uprobe was first: the lineage must not change under the stacks."""
    running[20] = Interpreter(image(binary), 1, 2)
    before = bpf["pythons"].Leaf(11, 12, 14, 15, 13, 16, 0, 1, 0)
    bpf["pythons"][20] = before
    assert registry(bpf).register(20)
    assert bpf["pythons"] == {20: before}


def test_each_registration_is_a_lineage_of_its_own(
    bpf: FakeBpf, binary: str, running: dict[int, Found]
) -> None:
    pythons = registry(bpf)
    for pid in (20, 21):
        running[pid] = Interpreter(image(binary), 1, 2)
        pythons.register(pid)
    assert bpf["pythons"][20].lineage != bpf["pythons"][21].lineage


@pytest.mark.parametrize(
    "found", [None, Unsupported("PyPy 3.9", "PyPy"), Interpreter(image("x", offsets=None), 1, 2)]
)
def test_a_process_that_cannot_be_read(
    bpf: FakeBpf, running: dict[int, Found], found: Found
) -> None:
    running[20] = found
    pythons = registry(bpf)
    assert pythons.register(20) is False
    assert bpf["pythons"] == {}
    why = pythons.why_no_stack(20, 100)
    if isinstance(found, Unsupported):
        assert why == "the stacks of PyPy 3.9 are not read: PyPy"
    else:
        assert why is None
    assert pythons.any_unsupported == isinstance(found, Unsupported)


# why there is no stack


def test_a_python_is_unknown_until_it_is_registered(
    bpf: FakeBpf, binary: str, running: dict[int, Found]
) -> None:
    running[20] = Interpreter(image(binary), 1, 2)
    pythons = registry(bpf)
    before = time.monotonic_ns()
    pythons.register(20)
    after = time.monotonic_ns()
    assert pythons.why_no_stack(20, before - 1) == "its interpreter was not known to the probes yet"
    assert pythons.why_no_stack(20, after) is None
    assert pythons.why_no_stack(21, before - 1) is None


def test_what_its_uprobe_knew_was_known_from_the_start(
    bpf: FakeBpf, binary: str, running: dict[int, Found]
) -> None:
    running[20] = Interpreter(image(binary), 1, 2)
    bpf["pythons"][20] = bpf["pythons"].Leaf(1, 2, 4, 5, 3, 3, 0, 0, 0)
    pythons = registry(bpf)
    pythons.register(20)
    assert pythons.why_no_stack(20, 0) is None


def test_a_fork_of_what_cannot_be_read(bpf: FakeBpf, running: dict[int, Found]) -> None:
    running[20] = Unsupported("CPython 3.13.0", "free-threaded")
    pythons = registry(bpf)
    pythons.register(20)
    pythons.inherit(20, 30)
    pythons.inherit(21, 31)
    assert pythons.why_no_stack(30, 1) == "the stacks of CPython 3.13.0 are not read: free-threaded"
    assert pythons.why_no_stack(31, 1) is None


def test_reapers_that_are_not_followed(
    bpf: FakeBpf, binary: str, running: dict[int, Found]
) -> None:
    running[20] = Interpreter(image(binary), 1, 2)
    running[21] = Unsupported("PyPy 3.9", "PyPy")
    running[0] = running[20]
    pythons = registry(bpf)
    assert pythons.why_unfollowed(20) == pythons.why_unfollowed(21) == "this Python is not followed"
    assert pythons.why_unfollowed(22) is None  # init, a shell
    assert pythons.why_unfollowed(0) is None  # the observer cannot see it
    assert pythons.why_unfollowed(os.getpid()) is None  # attribution knows
    running.clear()
    assert pythons.why_unfollowed(20) == "this Python is not followed"  # asked once


def test_what_it_was_before_it_execed_is_another_matter(
    bpf: FakeBpf, binary: str, running: dict[int, Found]
) -> None:
    running[20] = Interpreter(image(binary), 1, 2)
    pythons = registry(bpf)
    execed = time.monotonic_ns()
    pythons.register(20, since_ns=execed)
    assert pythons.why_no_stack(20, execed - 1) is None  # a shell's fork, say
    assert pythons.why_no_stack(20, execed) == "its interpreter was not known to the probes yet"


def test_what_was_forked_before_its_forker_was_known(
    bpf: FakeBpf, binary: str, running: dict[int, Found]
) -> None:
    """A living child is registered; a dead one, no process of ours, is at least explained."""
    running[20] = running[21] = Interpreter(image(binary), 1, 2)
    dead, not_yet = 2**22 + 1, "its interpreter was not known to the probes yet"
    pythons = registry(bpf)
    ns = time.monotonic_ns()
    pythons.register(20)
    assert pythons.register_fork(20, 21, ns) is True
    assert 21 in set(bpf["pythons"])
    assert pythons.register_fork(20, dead, ns) is True
    assert pythons.why_no_stack(dead, ns) == not_yet
    assert pythons.register_fork(20, 22, time.monotonic_ns()) is False
    pythons.note_exited(30)
    assert pythons.register_fork(30, dead + 1, ns) is True
    for pid in (30, dead + 1):
        why = pythons.why_no_stack(pid, ns)
        assert why == "it ended before it was known whether it was Python"
        assert pythons.why_no_stack(pid, time.monotonic_ns()) is None
