# SPDX-License-Identifier: Apache-2.0
"""Captured Python stacks compared with those of `traceback`, for each Python installed here."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Optional

import pytest

from tests.kernel.running import suite
from tests.stacks import compare, pythons

DEADLINE_S = 400
FOUND = [each for each in pythons.installed() if each.unfit is None]


@pytest.fixture(scope="module", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.fail("stacks are captured as root: try `sudo make test-kernel`")


def verify(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The verification program, with the checkout's zombiebpf."""
    return suite("stacks", *arguments, timeout=DEADLINE_S)


def test_a_python_is_found() -> None:
    assert FOUND, [str(each) for each in pythons.installed()]


@pytest.mark.parametrize("python", FOUND, ids=lambda each: ".".join(map(str, each.version)))
def test_every_stack_is_true(python: pythons.Python) -> None:
    done = verify("--only", "--python", python.program)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    captures = re.search(rf"{re.escape(python.program)} +(\d+) +0 ", done.stdout)
    assert captures is not None
    assert int(captures[1]) >= 200


def frame(function: str, line: Optional[int] = 3, file: str = "a.py") -> dict[str, object]:
    return {"function": function, "file": file, "line": line}


TRUTH = [["f", "C.f", "a.py", 3], ["g", "g", "a.py", 3]]
WHOLE = [frame("C.f"), frame("g")]


@pytest.mark.parametrize(
    ("stack", "problem", "flags", "right"),
    [
        (WHOLE, None, [], True),
        (WHOLE, "cut", [], False),
        (WHOLE[:1], None, [], False),
        ([*WHOLE, frame("h")], None, [], False),
        ([frame("C.f", 4), frame("g")], None, [], False),
        ([frame("f"), frame("g")], None, [], False),
        ([frame("C.f", file="b.py"), frame("g")], None, [], False),
        ([frame("C.f", None), frame("g")], None, [], False),
        ([frame("C.f", None), frame("g")], "long", ["table"], True),
        ([frame("C.f", 4), frame("g")], "long", ["table"], False),
        (WHOLE[:1], "unreadable", ["broken", 1], True),
        (WHOLE[:1], "unreadable", ["broken", 2], False),
        (WHOLE[:1], None, ["broken", 1], False),
        ([frame("h")], "unreadable", ["broken", 1], False),
        (None, None, [], False),
    ],
)
def test_the_comparison_can_say_no(
    stack: Optional[list[dict[str, object]]],
    problem: Optional[str],
    flags: list[object],
    right: bool,
) -> None:
    record = {"kind": "fork", "child": 7, "ns": 2, "label": "", "flags": flags, "stack": TRUTH}
    process = {"pid": 7, "fork_ns": 1, "unseen": {}}
    process.update(fork_stack=stack, fork_stack_problem=problem)
    (verdict,) = compare.compare([record], [process])
    assert (verdict.difference is None) is right


def test_more_frames_than_captured_must_be_marked() -> None:
    truth = [["f", None, "a.py", 3]] * 70
    record = {"kind": "fork", "child": 7, "ns": 2, "label": "", "flags": ["deep"], "stack": truth}
    process = {"pid": 7, "fork_ns": 1, "unseen": {}, "fork_stack_problem": None}
    process["fork_stack"] = [frame("f")] * compare.LIMIT
    assert compare.compare([record], [process])[0].difference is not None
    process["fork_stack_problem"] = "cut"
    assert compare.compare([record], [process])[0].difference is None
