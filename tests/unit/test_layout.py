# SPDX-License-Identifier: Apache-2.0
"""The C structs written from BTF: every field at the offset that the kernel gives it."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from typing import Optional

import pytest

from tests.unit.btf_blobs import of_structs
from zombiebpf.bpf.btf import Btf
from zombiebpf.errors import ZombiebpfError
from zombiebpf.kernel.layout import (
    OF_MACHINE,
    STRUCTS,
    TRACEPOINTS,
    btf_names,
    from_btf,
    from_headers,
)

MEMBER = re.compile(r"struct \{ (?:char _at_(\w+)\[(\d+)\]; )?(.*) \} __attribute__\(\(packed\)\);")


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def offsets(state: str = "__state", machine: Optional[str] = "x86_64") -> dict[str, dict[str, int]]:
    """A kernel in which no two fields of all structs lie at the same offset but the first's 0."""
    made: dict[str, dict[str, int]] = {}
    number = 0
    for struct, fields in STRUCTS.items():
        made[struct] = {}
        for path in fields:
            made[struct][path] = 8 * number
            number += 1
    if machine is not None:
        own = [(struct, path) for struct, paths in OF_MACHINE[machine].items() for path in paths]
        for at, (struct, path) in enumerate(own):
            made.setdefault(struct, {})[path] = 5000 + 8 * at
    made["task_struct"][state] = 4096
    return made


def kernel(fields: Mapping[str, Mapping[str, int]]) -> Btf:
    return Btf(of_structs(fields), btf_names())


def members(c: str, struct: str) -> list[tuple[int, str]]:
    """(offset, declaration) of each member of a generated struct."""
    found = re.search(rf"^struct {struct} \{{\n\tunion \{{\n(.*?)\n\t\}};\n\}};$", c, re.M | re.S)
    assert found, f"no struct {struct} in {c}"
    result = []
    for line in found[1].splitlines():
        member = MEMBER.fullmatch(line.strip())
        if member is not None:
            result.append((int(member[2] or 0), member[3]))
    return result


def test_each_field_lies_where_the_kernel_has_it() -> None:
    fields = offsets()
    layout = from_btf(kernel(fields))
    seen = 0
    for struct, paths in fields.items():
        declared = members(layout.c, struct)
        assert [offset for offset, _ in declared] == list(paths.values())
        for (_, declaration), path in zip(declared, paths):
            assert re.search(rf"\b{path.rpartition('.')[2]}(\[\d+\])?;", declaration), declaration
        seen += len(declared)
    assert seen == sum(len(paths) for paths in STRUCTS.values()) + 2


def test_the_text_of_each_kind_of_field() -> None:
    fields = offsets()
    fields["task_struct"]["comm"] = 1000
    fields["pid_namespace"]["ns.inum"] = 24
    fields["upid"]["nr"] = 0
    c = from_btf(kernel(fields)).c
    for line in [
        "struct { char _at_comm[1000]; char comm[16]; } __attribute__((packed));",
        "struct { char _at_ns_inum[24]; struct { u32 inum; } ns; } __attribute__((packed));",
        "struct { int nr; } __attribute__((packed));",
        "struct { char _at___state[4096]; u32 __state; } __attribute__((packed));",
        "struct { char _at_thread_fsbase[5000]; struct { u64 fsbase; } thread; } "
        "__attribute__((packed));",
    ]:
        assert line in c


def test_a_struct_met_in_arrays_has_its_real_size() -> None:
    fields = offsets()
    fields["upid"] = {"nr": 0, "ns": 8, "something else": 40}
    assert "char _size[48];" in from_btf(kernel(fields)).c


@pytest.mark.parametrize("name", ["__state", "state"])
def test_the_state_by_either_of_its_names(name: str) -> None:
    layout = from_btf(kernel(offsets(name)))
    assert layout.macros["STATE_FIELD"] == name
    assert (4096, f"u32 {name};") in members(layout.c, "task_struct")


def test_of_two_names_the_first_is_taken() -> None:
    fields = offsets("__state")
    fields["task_struct"]["state"] = 8192
    assert from_btf(kernel(fields)).macros == {"STATE_FIELD": "__state"}


@pytest.mark.parametrize(
    ("machine", "at", "declaration"),
    [
        ("x86_64", 5000, "struct { u64 fsbase; } thread;"),
        ("aarch64", 5040, "u64 robust_list;"),
    ],
)
def test_what_leads_to_a_threads_own_data(
    machine: str, at: int, declaration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert (at, declaration) in members(from_btf(kernel(offsets(machine=machine))).c, "task_struct")


@pytest.mark.parametrize(
    ("machine", "struct", "path"),
    [
        (machine, struct, path)
        for machine, structs in OF_MACHINE.items()
        for struct, paths in structs.items()
        for path in paths
    ],
)
def test_what_is_read_on_one_machine_alone(
    machine: str, struct: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = re.compile(rf"\b{path.rpartition('.')[2]}(\[\d+\])?;")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert not name.search(from_btf(kernel(offsets(machine=None))).c)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    fields = offsets(machine=machine)
    declared = dict(members(from_btf(kernel(fields)).c, struct))
    assert name.search(declared[fields[struct][path]])
    del fields[struct][path]
    with pytest.raises(ZombiebpfError, match=rf"no {struct}\.{re.escape(path)} "):
        from_btf(kernel(fields))


def test_the_registers_on_arm64_have_their_real_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """They end where the thread's kernel stack ends."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    fields = offsets(machine="aarch64")
    fields["pt_regs"]["exit_rcu"] = 5320
    assert "char _size[5328];" in from_btf(kernel(fields)).c


def test_no_state_at_all() -> None:
    fields = offsets()
    del fields["task_struct"]["__state"]
    with pytest.raises(ZombiebpfError, match=r"no task_struct\.__state or state \("):
        from_btf(kernel(fields))


@pytest.mark.parametrize(
    ("struct", "path"), [(struct, path) for struct, paths in STRUCTS.items() for path in paths]
)
def test_a_field_that_is_missing_is_named(struct: str, path: str) -> None:
    fields = offsets()
    del fields[struct][path]
    with pytest.raises(ZombiebpfError) as raised:
        from_btf(kernel(fields))
    assert raised.value.what == f"this kernel's BTF has no {struct}.{path}"
    assert raised.value.fix


def test_a_struct_that_is_missing_is_named() -> None:
    fields = offsets()
    del fields["css_set"]
    with pytest.raises(ZombiebpfError, match=r"no css_set\.dfl_cgrp"):
        from_btf(kernel(fields))


def test_what_must_be_indexed() -> None:
    names = btf_names()
    assert set(STRUCTS) <= set(names)
    assert {f"btf_trace_{name}" for name in TRACEPOINTS} <= set(names)


def test_the_source_is_told() -> None:
    assert from_btf(kernel(offsets())).source == "BTF"
    real = from_headers("/usr/src/linux")
    assert "/usr/src/linux" in real.source
    assert "#include <linux/sched.h>" in real.c
    assert real.macros["STATE_FIELD"] == "__state"
