# SPDX-License-Identifier: Apache-2.0
"""What the compiling process may answer, without bcc."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from zombiebpf.bpf.compiled import Compiled, Map
from zombiebpf.bpf.syscall import MapShape
from zombiebpf.errors import ZombiebpfError
from zombiebpf.kernel.compiler import CompileError, compile_probes
from zombiebpf.kernel.layout import Layout

COMPILED = Compiled({"lives": Map(MapShape(1, 4, 24, 8, 0), '"int"', '"int"')}, {"on_x": bytes(16)})
LAYOUT = Layout("", {}, "BTF")


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the process writes, whatever it is asked for."""
    program, file = tmp_path / "python", tmp_path / "answer"
    program.write_text(f"#!/bin/sh\ncat >{tmp_path}/asked\necho complaint >&2\ncat {file}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return file


def test_it_compiles(answer: Path) -> None:
    answer.write_bytes(b"compiled\n" + COMPILED.to_bytes())
    before = dict(os.environ)
    assert compile_probes("int x;", LAYOUT) == COMPILED
    assert (answer.parent / "asked").read_text() == "int x;"
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("said", "raised"),
    [
        (b"refused\nFailed to compile", "Failed to compile"),
        (b"compiled\n" + COMPILED.to_bytes()[:-1], "cut off"),
        (b"", "the compiler ended with 0"),
    ],
)
def test_it_does_not(answer: Path, said: bytes, raised: str) -> None:
    answer.write_bytes(said)
    with pytest.raises(CompileError, match=raised) as caught:
        compile_probes("", LAYOUT)
    assert caught.value.printed == "complaint\n"


def test_bcc_cannot_be_used(answer: Path) -> None:
    answer.write_bytes(b'unusable\n["bcc does not import", "install it"]')
    with pytest.raises(ZombiebpfError) as caught:
        compile_probes("", LAYOUT)
    assert (caught.value.what, caught.value.fix) == ("bcc does not import", "install it")
