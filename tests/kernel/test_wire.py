# SPDX-License-Identifier: Apache-2.0
"""The compiler that compiles the probes lays probes/wire.h out as wire.py reads it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from zombiebpf import wire
from zombiebpf.events import ReapFlags, ZombieHook
from zombiebpf.kernel.headers import write_stubs
from zombiebpf.kernel.locate import import_bcc
from zombiebpf.kernel.program import probes_directory

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
}
HEAD = ("ns", "start_ns", "pid")


def header() -> str:
    return (probes_directory() / "wire.h").read_text(encoding="utf-8")


def members(name: str) -> list[str]:
    """The members of one struct of wire.h that carry something, in their order."""
    body = re.search(rf"^struct zb_{name} \{{\n(.*?)^\}};", header(), re.M | re.S)
    assert body, name
    found = re.findall(r"^\t\w+ (\w+)(?:\[\w+\])?;", body[1], re.M)
    return [each for each in found if each != "unused"]


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


def about(member: str, offset: int, item: str) -> str:
    value = f"((struct zb_record *)0)->{member}"
    text = assertion(f"__builtin_offsetof(struct zb_record, {member}) == {offset}")
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
    """What bcc's clang says of wire.h with these assertions behind it; "" is nothing."""
    bcc = import_bcc()
    text = f'#line 1 "wire.h"\n{header()}\n#line 1 "assertions"\n{assertions}'
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
    assert len(seen) > 40
    assert errors_of(assertions, capfd) == ""


def test_flags_and_causes(capfd: pytest.CaptureFixture[str]) -> None:
    assertions = assertion(f"ZB_LOST_CAUSES == {len(wire.LOST_CAUSES)}")
    for name in ("REPARENT_INIT", "REPARENT_RESOLVED", "REPARENT_EXACT"):
        assertions += assertion(f"ZB_{name} == {getattr(wire, name)}")
    for flag in ReapFlags:
        assertions += assertion(f"ZB_REAP_{flag.name} == {flag.value}")
    assertions += assertion(f"ZB_ZOMBIE_LATE == {ZombieHook.SCHED_SWITCH.value}")
    assert errors_of(assertions, capfd) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        assertion(f"sizeof(struct zb_record) == {wire.RECORD_BYTES - 8}"),
        about("fork.comm", 64, "16s"),
        about("reap.syscall", 68, "I"),
        about("exit.code", 32, "Q"),
    ],
)
def test_a_wrong_assertion_is_noticed(wrong: str, capfd: pytest.CaptureFixture[str]) -> None:
    errors = errors_of(wrong, capfd)
    assert re.search(r"^assertions:\d+:\d+: error: static[_ ]assert(ion)? failed", errors, re.M)
