# SPDX-License-Identifier: Apache-2.0
"""What is kept of interpreters' files: if it is wrong, no stack and no program is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.running import Observing
from tests.stacks import pythons
from zombiebpf.kernel import cache, image_cache
from zombiebpf.python.image import Image

FIELDS = [each for each in Image._fields if each not in ("path", "offsets")]
PYTHONS = [each for each in pythons.installed() if each.unfit is None]
APP = """
import os

def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(37)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

fork()
"""
STACK = [{"function": "fork", "line": 5}, {"function": "<module>", "line": 10}]


@pytest.fixture(scope="module", autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.fail("stacks are captured as root: try `sudo make test-kernel`")


def observe(python: str, directory: Path) -> dict[str, Any]:
    """Return the record of the child that APP forks."""
    app = directory / "app.py"
    app.write_text(APP, encoding="utf-8")
    seen = Observing([python, str(app)], [], directory / "report.json").finish()
    assert (seen.returncode, seen.stdout) == (0, "37\n"), seen.stderr
    (child,) = (each for each in seen.document["processes"] if each["exit_status"] == 37)
    found: dict[str, Any] = child
    return found


def wrong(field: str, value: Any) -> Any:
    """Return another value of the type of `value`, as a file of JSON has it."""
    if field == "problem":
        return "a problem that it does not have"
    if field == "init_bytes":
        return "00" + value[2:]
    if field == "version":
        return [3, 12 if value[1] == 11 else 11, 1]
    return 8 if value is None else value + 8


@pytest.mark.parametrize("field", FIELDS)
def test_a_wrong_fact_shows_no_wrong_stack(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stack is right or says what is missing; the program is never harmed."""
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "cache"))
    python = next(each for each in PYTHONS if each.version >= (3, 9)).program
    child = observe(python, tmp_path)
    frames = [{**each, "file": str(tmp_path / "app.py")} for each in STACK]
    assert child["fork_stack"] == frames
    kept = json.loads(cache.find(image_cache._name()) or b"")
    assert any(values for values, _, _ in kept.values())
    for values, _, _ in kept.values():
        if values is not None:
            at = Image._fields.index(field) - 1
            values[at] = wrong(field, values[at])
    cache.keep(image_cache._name(), json.dumps(kept).encode())
    child = observe(python, tmp_path)
    if child["fork_stack"] != frames:
        assert child["fork_stack_problem"] or child["unseen"]["fork_stack"]
        assert all(each in frames for each in child["fork_stack"] or [])
