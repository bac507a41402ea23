# SPDX-License-Identifier: Apache-2.0
"""Whether a function of the kernel can be hooked is tried; what is loaded there, and undone."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Callable, Optional, cast

import pytest

from tests.unit.btf_blobs import of_structs
from zombiebpf.bpf import functions, perf_events, syscall
from zombiebpf.bpf.btf import Btf
from zombiebpf.bpf.compiled import with_maps
from zombiebpf.bpf.functions import FENTRY, KPROBE, Probe, Trial
from zombiebpf.bpf.loaded import Probes
from zombiebpf.bpf.syscall import ProgramError
from zombiebpf.errors import PrivilegeError, ZombiebpfError
from zombiebpf.kernel import program

FUNCTION = "release_task"
CALLERS = {"wake_up_new_task", "do_wait", FUNCTION}  # whose programs call the stages


class FakeKernel:
    """bpf(2) and perf_event_open(2): what they are asked for, descriptors that are still open."""

    def __init__(self) -> None:
        self.fails: dict[str, OSError] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.open: set[int] = set()
        self._next = 100

    def _descriptor(self, call: str, *arguments: object) -> int:
        self.calls.append((call, *arguments))
        if call in self.fails:
            raise self.fails[call]
        self._next += 1
        self.open.add(self._next)
        return self._next

    def load(
        self,
        name: str,
        kind: int,
        code: bytes,
        attach_type: int = 0,
        btf_id: int = 0,
        with_log: bool = True,
    ) -> int:
        assert attach_type == (24 if kind == 26 else 0)
        assert with_log == (name != FUNCTION and name != "another")  # a trial only asks whether
        return self._descriptor("load", code, name, kind, btf_id)

    def open_program(self, program: int) -> int:
        assert program in self.open
        return self._descriptor("open", program)

    def open_event(self, kind: str, name: str, offset: int) -> int:
        return self._descriptor("event", kind, name, offset)

    def attach_kprobe(self, program: int, function: str) -> int:
        assert program in self.open
        return self._descriptor("kprobe", program, function)

    def close(self, descriptor: int) -> None:
        self.open.remove(descriptor)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    monkeypatch.setattr(syscall, "load_program", fake.load)
    monkeypatch.setattr(syscall, "open_fentry", fake.open_program)
    monkeypatch.setattr(perf_events, "open_event", fake.open_event)
    monkeypatch.setattr(perf_events, "attach_kprobe", fake.attach_kprobe)
    monkeypatch.setattr(os, "close", fake.close)
    return fake


def btf(*names: str) -> Btf:
    return Btf(of_structs({}, {}, names), names)


def os_error(number: int, name: Optional[str] = None) -> OSError:
    return OSError(number, os.strerror(number), *([name] if name else []))


def test_each_attach_kind_is_tried_once_and_nothing_of_it_stays(kernel: FakeKernel) -> None:
    trial = Trial(btf("another", FUNCTION))
    for _ in range(2):
        assert trial.refusal(FENTRY, FUNCTION) is None
        assert trial.refusal(KPROBE, FUNCTION) is None
    assert [call[0] for call in kernel.calls] == ["load", "open", "event"]
    load, _, event = kernel.calls
    assert load[2:] == (FUNCTION, 26, btf("another", FUNCTION).function(FUNCTION))
    assert event[1:] == ("kprobe", FUNCTION, 0)
    assert kernel.open == set()


def test_fentry_is_attached_once_and_each_program_loaded(kernel: FakeKernel) -> None:
    """To detach takes long."""
    trial = Trial(btf(FUNCTION, "another"))
    assert trial.refusal(FENTRY, FUNCTION) is None
    assert trial.refusal(FENTRY, "another") is None
    assert [call[0] for call in kernel.calls] == ["load", "open", "load"]
    kernel.fails["load"] = os_error(errno.EINVAL)
    assert Trial(btf(FUNCTION)).refusal(FENTRY, FUNCTION) == "Invalid argument"


def test_fentry_that_was_refused_is_tried_for_the_next(kernel: FakeKernel) -> None:
    trial = Trial(btf(FUNCTION, "another"))
    kernel.fails["open"] = os_error(errno.EBUSY)
    assert trial.refusal(FENTRY, FUNCTION) == "Device or resource busy"
    del kernel.fails["open"]
    assert trial.refusal(FENTRY, "another") is None
    assert kernel.open == set()


@pytest.mark.parametrize(
    ("call", "attach_kind", "error", "why"),
    [
        ("load", FENTRY, ProgramError(errno.EPERM, ""), "Operation not permitted"),
        ("open", FENTRY, os_error(errno.EBUSY), "Device or resource busy"),
        ("open", FENTRY, os_error(524), "not supported"),  # arm64 before 6.4
        ("event", KPROBE, os_error(errno.EACCES, FUNCTION), "Permission denied"),
        ("event", KPROBE, os_error(errno.ENOENT, FUNCTION), "no such function"),
        ("event", KPROBE, os_error(errno.ENOENT, "/sys/.../type"), "this kernel has none"),
    ],
)
def test_a_refusal_says_why(
    kernel: FakeKernel, call: str, attach_kind: str, error: OSError, why: str
) -> None:
    kernel.fails[call] = error
    assert Trial(btf(FUNCTION)).refusal(attach_kind, FUNCTION) == why
    assert kernel.open == set()


@pytest.mark.parametrize("there", [btf("another"), None])
def test_fentry_needs_the_function_in_btf(kernel: FakeKernel, there: Optional[Btf]) -> None:
    assert "BTF" in (Trial(there).refusal(FENTRY, FUNCTION) or "")
    assert Trial(there).refusal(KPROBE, FUNCTION) is None
    assert [call[0] for call in kernel.calls] == ["event"]


def load_map(register: int, descriptor: int, source: int = 1) -> bytes:
    """Two instructions' places: lddw register, map."""
    return struct.pack("<BBhi", 0x18, source << 4 | register, 0, descriptor) + bytes(8)


class Table(dict[int, int]):
    """A map."""

    Key = Leaf = int

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.map_fd = descriptor


class Loaded:
    """The probes: each program loads the map `stages` and another, and a number that is no map."""

    def __init__(self) -> None:
        self.tables = {
            "stages": Table(7), "fentry_stages": Table(8), "kprobe_stages": Table(8),
        }  # fmt: skip
        self.adopted: dict[str, int] = {}

    def __getitem__(self, name: str) -> Table:
        return self.tables[name]

    def adopt(self, name: str, program: int) -> None:
        self.adopted[name] = program

    def load_again(
        self, name: str, kind: int, others: Mapping[int, int], attach_type: int = 0, btf_id: int = 0
    ) -> int:
        code = with_maps(load_map(1, 7) + load_map(2, 9) + load_map(3, 7, source=0), others)
        return syscall.load_program(f"shown_{name}", kind, code, attach_type, btf_id)


def maps(code: bytes) -> list[int]:
    return [struct.unpack_from("<BBhi", code, at)[3] for at in range(0, len(code), 16)]


def attach(probes: Loaded, wanted: list[Probe], stages: list[str]) -> Iterator[int]:
    return functions.attach(cast(Probes, probes), wanted, stages, CALLERS)


@pytest.mark.parametrize(("attach_kind", "program_type"), [(FENTRY, 26), (KPROBE, 2)])
def test_the_stages_of_stacks_are_loaded_once_more(
    kernel: FakeKernel, attach_kind: str, program_type: int
) -> None:
    probes = Loaded()
    number = 5 if attach_kind == FENTRY else 0
    wanted = [Probe(FUNCTION, attach_kind, 5)]
    opened = list(attach(probes, wanted, ["first", "second"]))
    loads = [call for call in kernel.calls if call[0] == "load"]
    assert [load[2:] for load in loads] == [
        (f"shown_{name}", program_type, number) for name in ("first", "second", f"on_{FUNCTION}")
    ]
    for load in loads:
        assert maps(load[1]) == [8, 9, 7]
    assert probes[f"{attach_kind}_stages"] == {0: opened[0], 1: opened[1]}
    assert list(probes.adopted) == [f"on_{FUNCTION}"]
    assert kernel.open == {*opened, *probes.adopted.values()}
    functions.close(opened)
    assert kernel.open == set(probes.adopted.values())


def test_others_have_their_own_maps_and_no_stages(kernel: FakeKernel) -> None:
    probes = Loaded()
    wanted = [Probe("proc_exit_connector", KPROBE, 0)]
    (opened,) = attach(probes, wanted, ["first"])
    load, kprobe = kernel.calls
    assert load[2:] == ("shown_on_proc_exit_connector", 2, 0)
    assert maps(load[1]) == [7, 9, 7]
    assert kprobe == ("kprobe", opened - 1, "proc_exit_connector")
    assert probes.adopted == {"on_proc_exit_connector": opened - 1}
    assert kernel.open == {opened, opened - 1}


@pytest.mark.parametrize(
    ("attach_kind", "call"), [(FENTRY, "open"), (KPROBE, "kprobe"), (FENTRY, "load")]
)
def test_what_was_opened_before_a_failure_is_closed(
    kernel: FakeKernel, attach_kind: str, call: str
) -> None:
    kernel.fails[call] = os_error(errno.EPERM)
    probes = Loaded()
    with pytest.raises(PrivilegeError, match="not permitted"):
        attach_functions([Probe(FUNCTION, attach_kind, 5)], probes)()
    assert kernel.open == set(probes.adopted.values())  # for the probes to close


def test_kprobes_share_the_stages(kernel: FakeKernel) -> None:
    probes = Loaded()
    wanted = [Probe(name, KPROBE, 0) for name in ("do_wait", FUNCTION, "proc_exit_connector")]
    for _ in attach(probes, wanted, ["first"]):
        pass
    loads = [call[2] for call in kernel.calls if call[0] == "load"]
    names = ["first", "on_do_wait", f"on_{FUNCTION}", "on_proc_exit_connector"]
    assert loads == [f"shown_{name}" for name in names]
    assert probes["fentry_stages"] == {}


def attach_functions(wanted: list[Probe], probes: Loaded) -> Callable[[], object]:
    return lambda: program.attach_functions(cast(Probes, probes), wanted)


def test_a_failure_is_one_line_and_closes_the_others(kernel: FakeKernel) -> None:
    kernel.fails["kprobe"] = os_error(errno.EPERM)
    probes = Loaded()
    attach = attach_functions(
        [Probe(FUNCTION, FENTRY, 5), Probe("proc_exit_connector", KPROBE, 0)], probes
    )
    with pytest.raises(PrivilegeError, match="the probe of proc_exit_connector: Operation not"):
        attach()
    assert kernel.open == set(probes.adopted.values())
    log = "0: R1=ctx()\ninvalid access to memory\nprocessed 3 insns (limit 1000000)\n"
    kernel.fails["load"] = ProgramError(errno.EACCES, log)
    with pytest.raises(ZombiebpfError, match="refuses the probe of release_task: invalid access"):
        attach()
