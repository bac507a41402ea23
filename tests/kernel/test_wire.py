# SPDX-License-Identifier: Apache-2.0
"""The compiler that compiles the probes lays their records out as Python reads them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from zombiebpf.bpf.headers import write_stubs
from zombiebpf.bpf.locate_bcc import import_bcc
from zombiebpf.kernel.program import probes_directory
from zombiebpf.model import wire
from zombiebpf.model.events import (
    ReapFlags,
    ReparentFlags,
    SnapshotFlags,
    StackKind,
    StackProblem,
    ZombieHook,
)
from zombiebpf.python import offsets, stacks

NAMES = {
    wire.FORK: "fork",
    wire.EXEC: "exec",
    wire.TEXT: "text",
    wire.EXIT: "exit",
    wire.ZOMBIE: "zombie",
    wire.REPARENT: "reparent",
    wire.WAIT: "wait",
    wire.REAP: "reap",
    wire.FREED: "freed",
    wire.STACK: "stack",
    wire.BLOCK: "block",
    wire.SNAPSHOT: "snapshot",
}
HEAD = ("ns", "start_ns", "pid")


def header(name: str = "wire.h") -> str:
    return (probes_directory() / name).read_text(encoding="utf-8")


def declared(struct: str, text: str) -> list[tuple[str, str, str]]:
    """(type, name, count of an array) of each member of a struct, in their order."""
    body = re.search(rf"^struct {struct} \{{\n(.*?)^\}};", text, re.M | re.S)
    assert body, struct
    return re.findall(r"^\t((?:struct )?\w+) (\w+)(?:\[(\w+)\])?;", body[1], re.M)


def members(name: str) -> list[str]:
    """The values in one struct of wire.h that carry something; of an array each."""
    found = []
    for c_type, member, count in declared(f"zb_{name}", header()):
        if count and c_type != "char":
            size = re.search(rf"^#define {count} (\d+)$", header(), re.M)
            assert size, count
            found += [f"{member}[{index}]" for index in range(int(size[1]))]
        elif member != "unused":
            found.append(member)
    return found


def items(form: str) -> list[tuple[int, str]]:
    """(offset, format) of each value that a struct format unpacks."""
    found, before = [], "<"
    for count, code in re.findall(r"(\d*)([a-zA-Z])", form):
        each = [count + code] if code in "sx" else [code] * int(count or 1)
        for item in each:
            if code != "x":
                found.append((struct.calcsize(before), item))
            before += item
    return found


def expected(kind: int) -> dict[str, tuple[int, str]]:
    """Member of zb_record -> where wire.py reads it, and as what."""
    where = items(wire.FORMATS[kind])
    names = [*HEAD, *(f"{NAMES[kind]}.{member}" for member in members(NAMES[kind]))]
    assert len(names) == len(where), (names, where)
    return dict(zip(names, where))


def assertion(condition: str) -> str:
    return f'_Static_assert({condition}, "{condition}");\n'


def about(member: str, offset: int, item: str, struct_: str = "zb_record") -> str:
    value = f"((struct {struct_} *)0)->{member}"
    text = assertion(f"__builtin_offsetof(struct {struct_}, {member}) == {offset}")
    text += assertion(f"sizeof({value}) == {struct.calcsize('<' + item)}")
    if not item.endswith("s"):
        sign = "<" if item.islower() else ">"
        text += assertion(f"(__typeof__({value}))-1 {sign} 0")
    return text


@pytest.fixture(scope="module", autouse=True)
def kernel_source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    directory: Path = tmp_path_factory.mktemp("headers")
    write_stubs(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BCC_KERNEL_SOURCE", str(directory))
        yield


def errors_of(assertions: str, capfd: pytest.CaptureFixture[str]) -> str:
    """What bcc's clang says of the headers with these assertions behind them; "" is nothing."""
    bcc = import_bcc()
    text = "".join(f'#line 1 "{name}"\n{header(name)}\n' for name in ("wire.h", "pywire.h"))
    text += f'#line 1 "assertions"\n{assertions}'
    capfd.readouterr()
    try:
        bcc.BPF(text=text.encode()).cleanup()
    except Exception as error:  # bcc raises nothing more precise
        return f"{error}\n{capfd.readouterr().err}"
    return ""


def test_each_member_lies_where_it_is_read(capfd: pytest.CaptureFixture[str]) -> None:
    assertions = assertion(f"sizeof(struct zb_record) == {wire.RECORD_BYTES}")
    assertions += about("type", wire.TYPE_AT, "H")
    seen = set()
    for kind in wire.FORMATS:
        assertions += assertion(f"ZB_{NAMES[kind].upper()} == {kind}")
        for member, (offset, item) in expected(kind).items():
            assertions += about(member, offset, item)
            seen.add(member)
    assert len(seen) > 70
    assert errors_of(assertions, capfd) == ""


def test_flags_and_causes(capfd: pytest.CaptureFixture[str]) -> None:
    assertions = assertion(f"ZB_LOST_CAUSES == {len(wire.LOST_CAUSES)}")
    for adoption in ReparentFlags:
        assertions += assertion(f"ZB_REPARENT_{adoption.name} == {adoption.value}")
    for flag in ReapFlags:
        assertions += assertion(f"ZB_REAP_{flag.name} == {flag.value}")
    for snapshot in SnapshotFlags:
        assertions += assertion(f"ZB_SNAPSHOT_{snapshot.name} == {snapshot.value}")
    assertions += assertion(f"ZB_ZOMBIE_LATE == {ZombieHook.LATE.value}")
    for kind in StackKind:
        assertions += assertion(f"ZB_OF_{kind.name} == {kind.value}")
    for problem in StackProblem:
        name = "WHOLE" if problem is StackProblem.NONE else problem.name
        assertions += assertion(f"ZB_STACK_{name} == {problem.value}")
    assert errors_of(assertions, capfd) == ""


# Python's stacks: what is written into `layouts`, and the records of the second ring


def test_an_interpreters_offsets_lie_where_they_are_written(
    capfd: pytest.CaptureFixture[str],
) -> None:
    in_c = declared("py_layout", header("pywire.h"))
    assert [(c_type, name) for c_type, name, _ in in_c] == [
        ("u16", name) for name in offsets.Offsets._fields
    ]
    assertions = assertion(f"sizeof(struct py_layout) == {2 * len(in_c)}")
    assertions += assertion(f"ZB_PY_ABSENT == {offsets.ABSENT}")
    for index, name in enumerate(offsets.Offsets._fields):
        assertions += about(name, 2 * index, "H", "py_layout")
    assert errors_of(assertions, capfd) == ""


PY_HEADS = {
    "zb_py_stack": (stacks._STACK_HEAD, "frames"),
    "zb_frame": (stacks._FRAME, None),
    "zb_py_code": (stacks._CODE_HEAD, "name"),
}


@pytest.mark.parametrize("struct_name", PY_HEADS)
def test_records_of_stacks_lie_where_they_are_read(
    struct_name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    head, behind = PY_HEADS[struct_name]
    names = [name for _, name, count in declared(struct_name, header("pywire.h")) if not count]
    where = items(head.format)
    assert len(names) == len(where)
    assertions = ""
    for name, (offset, item) in zip(names, where):
        assertions += about(name, offset, item, struct_name)
    if behind is None:
        assertions += assertion(f"sizeof(struct {struct_name}) == {head.size}")
    else:
        assertions += assertion(
            f"__builtin_offsetof(struct {struct_name}, {behind}) == {head.size}"
        )
    assert errors_of(assertions, capfd) == ""


def test_what_follows_the_heads_of_stacks(capfd: pytest.CaptureFixture[str]) -> None:
    at = stacks._CODE_HEAD.size
    assertions = about("name", at, f"{stacks.NAME_BYTES}s", "zb_py_code")
    at += stacks.NAME_BYTES
    assertions += about("file", at, f"{stacks.FILE_BYTES}s", "zb_py_code")
    at += stacks.FILE_BYTES
    assertions += assertion(f"__builtin_offsetof(struct zb_py_code, table) == {at}")
    assertions += assertion(f"ZB_PY_FRAMES == {stacks.MAX_FRAMES}")
    assertions += assertion(f"ZB_PY_STACK == {stacks.STACK}")
    assertions += assertion(f"ZB_PY_CODE == {stacks.CODE}")
    # a fork's selves come in two records, of which the second has the rest
    assertions += assertion("ZB_PY_SELVES == 2 * ZB_STACK_SELVES")
    # masks of the walk: frames[depth & (ZB_PY_FRAMES - 1)], the table's sent bytes
    assertions += assertion("(ZB_PY_FRAMES & (ZB_PY_FRAMES - 1)) == 0")
    assertions += assertion("(ZB_PY_TABLE & (ZB_PY_TABLE - 1)) == 0")
    assert errors_of(assertions, capfd) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        assertion(f"sizeof(struct zb_record) == {wire.RECORD_BYTES - 8}"),
        about("fork.comm", 64, "16s"),
        about("reap.syscall", 68, "I"),
        about("exit.code", 32, "Q"),
        about("stack.selves[5]", 72, "Q"),
        about("minor", 44, "H", "py_layout"),
    ],
)
def test_a_wrong_assertion_is_noticed(wrong: str, capfd: pytest.CaptureFixture[str]) -> None:
    errors = errors_of(wrong, capfd)
    assert re.search(r"^assertions:\d+:\d+: error: static[_ ]assert(ion)? failed", errors, re.M)
