# SPDX-License-Identifier: Apache-2.0
"""Interpreters that nobody expected are found among the programs that are executed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Optional, cast

import pytest

from tests.unit.encoded_records import records
from tests.unit.event_builders import argv, filename, fork
from tests.unit.interpreter_images import image
from zombiebpf.kernel.interpreters import InterpreterDiscovery, InterpreterRegistry
from zombiebpf.model.events import Event, TextKind
from zombiebpf.python.image import Image


@pytest.fixture
def binary(tmp_path: Path) -> str:
    path = tmp_path / "python3.11"
    path.write_bytes(b"")
    return str(path)


class Registered:
    """A registry that only notes. What `late` counts is found after so many tries."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.exited: list[int] = []
        self.late = 0

    def register(self, pid: int, since_ns: int = 0) -> bool:
        self.pids.append(pid)
        self.late -= 1
        return self.late < 0

    def note_exited(self, pid: int) -> None:
        self.exited.append(pid)


class Newcomer:
    """A discovery and what it asked for; `python` is the only path with an interpreter."""

    def __init__(self, python: Optional[str] = None) -> None:
        self.python = python
        self.asked: list[str] = []
        self.registered = Registered()
        registry = cast(InterpreterRegistry, self.registered)
        self._discovery = InterpreterDiscovery(registry, self._image_of)

    def look(self, events: Iterable[Event]) -> None:
        self._discovery.look(records(events))

    def _image_of(self, path: str) -> Optional[Image]:
        self.asked.append(path)
        return image(path) if path == self.python else None


def long_path(tmp_path: Path) -> str:
    directory = tmp_path / ("d" * 90)
    directory.mkdir()
    path = directory / "python3.11"
    path.write_bytes(b"")
    assert 2 * 55 < len(str(path)) < 5 * 55  # three pieces or more
    return str(path)


def test_a_name_in_pieces(tmp_path: Path) -> None:
    path = long_path(tmp_path)
    newcomer = Newcomer(path)
    pieces = filename(100, 20, os.fsencode(path))
    assert len(pieces) > 2
    newcomer.look([fork(90, 20), *pieces])
    assert newcomer.asked == []  # more of it may come
    newcomer.look(argv(100, 20, b"python3.11\0-c\0pass\0" * 9))
    assert newcomer.asked == [path]
    assert newcomer.registered.pids == [20]


def test_names_whose_pieces_mingle(tmp_path: Path) -> None:
    path = long_path(tmp_path)
    newcomer = Newcomer(path)
    events = []
    for one, other in zip(filename(100, 20, path.encode()), filename(101, 21, path.encode())):
        events += [one, other]
    for each in events:  # each in a batch of its own
        newcomer.look([each])
    newcomer.look([*argv(101, 21, b"python\0"), *argv(100, 20, b"python\0")])
    assert newcomer.registered.pids == [21, 20]


def test_a_program_that_is_no_python_is_looked_at_once(binary: str) -> None:
    newcomer = Newcomer()
    for pid in (20, 21, 22):
        newcomer.look([*filename(100, pid, binary.encode()), *argv(100, pid, b"x\0")])
    assert newcomer.asked == [binary]
    assert newcomer.registered.pids == []


def test_a_python_registers_each_of_its_processes(binary: str) -> None:
    newcomer = Newcomer(binary)
    for pid in (20, 21, 22):
        newcomer.look([*filename(100, pid, binary.encode()), *argv(100, pid, b"x\0")])
    assert newcomer.asked == [binary]
    assert newcomer.registered.pids == [20, 21, 22]


def test_a_path_that_is_not_ours_is_looked_at_in_the_process() -> None:
    newcomer = Newcomer()
    newcomer.look([*filename(100, 20, b"/no/such/program"), *argv(100, 20, b"x\0")])
    assert newcomer.registered.pids == [20]


def test_a_relative_path_is_looked_at_in_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tool").write_bytes(b"")
    monkeypatch.chdir(tmp_path)  # ours has that name too, and says nothing of theirs
    newcomer = Newcomer()
    newcomer.look([*filename(100, 20, b"./tool"), *argv(100, 20, b"x\0")])
    assert newcomer.asked == []
    assert newcomer.registered.pids == [20]


@pytest.mark.parametrize(("late", "tries"), [(0, 1), (1, 2), (4, 5), (5, 5), (99, 5)])
def test_a_library_that_is_still_on_its_way(binary: str, late: int, tries: int) -> None:
    """libpython is mapped by the dynamic linker, a moment after the exec."""
    newcomer = Newcomer(binary)
    newcomer.registered.late = late
    newcomer.look([*filename(100, 20, binary.encode()), *argv(100, 20, b"x\0")])
    for _ in range(9):
        newcomer.look([])
    assert newcomer.registered.pids == [20] * tries


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/pyth\xffn"
    Path(os.fsdecode(raw)).write_bytes(b"")
    newcomer = Newcomer(os.fsdecode(raw))
    newcomer.look([*filename(100, 20, raw), *argv(100, 20, b"x\0")])
    assert newcomer.registered.pids == [20]


def test_an_exec_without_arguments_does_not_spoil_the_next(binary: str) -> None:
    newcomer = Newcomer(binary)
    newcomer.look(filename(100, 20, b"/bin/first"))
    newcomer.look([*filename(200, 20, binary.encode()), *argv(200, 20, b"x\0")])
    assert newcomer.asked == [binary]
    assert newcomer.registered.pids == [20]


def test_arguments_whose_name_was_lost(binary: str) -> None:
    newcomer = Newcomer(binary)
    newcomer.look(argv(100, 20, b"x\0"))
    newcomer.look([*filename(100, 21, binary.encode()), *argv(150, 21, b"x\0")])
    assert newcomer.registered.pids == []
    assert {kind.name for kind in TextKind} == {"FILENAME", "ARGV"}


def test_a_python_that_ended_before_it_was_looked_at(binary: str) -> None:
    newcomer = Newcomer(binary)
    newcomer.registered.late = 99
    gone, here = 1 << 30, os.getpid()
    for pid in (gone, here):
        newcomer.look([*filename(100, pid, binary.encode()), *argv(100, pid, b"x\0")])
    assert set(newcomer.registered.exited) == {gone}
