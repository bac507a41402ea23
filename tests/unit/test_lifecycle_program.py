# SPDX-License-Identifier: Apache-2.0
"""Short tables of events -> lives: which program a process runs."""

from __future__ import annotations

import pytest

from tests.unit.event_builders import (
    argv,
    exec_,
    exit_,
    filename,
    fork,
    life_of,
    lives_of,
    plain,
    program,
    start,
)
from zombiebpf.model.events import Event, Text, TextKind
from zombiebpf.model.life import Execution

P = 20


def test_the_program_of_the_forker_is_inherited() -> None:
    events: list[Event] = [
        fork(100, P),
        *program(110, P, b"/usr/bin/python3", b"app.py"),
        fork(200, 30, by=P),
        *plain(300, 40, by=30),
        *program(400, 30, b"/bin/true"),
    ]
    lives = lives_of(events)
    assert lives[40].argv == ("/usr/bin/python3", "app.py")
    assert lives[40].execs == ()
    assert lives[30].argv == ("/bin/true",)
    assert lives[P].argv == ("/usr/bin/python3", "app.py")


def test_a_forker_that_is_not_known_leaves_no_argv() -> None:
    assert life_of([fork(100, P)], P).argv is None


def test_several_execs() -> None:
    events = [
        fork(100, P),
        *program(200, P, b"/usr/bin/env", b"sh"),
        *program(300, P, b"/bin/sh", b"-c", b"exec true"),
        *program(400, P, b"/bin/true"),
    ]
    life = life_of(events, P)
    assert life.execs == (
        Execution(200, "/usr/bin/env"),
        Execution(300, "/bin/sh"),
        Execution(400, "/bin/true"),
    )
    assert (life.comm, life.argv, life.argv_cut) == ("true", ("/bin/true",), False)


@pytest.mark.parametrize(
    ("raw", "arguments"),
    [
        (b"true\0", ("true",)),
        (b"sh\0-c\0echo 1\0", ("sh", "-c", "echo 1")),
        (b"\0", ("",)),
        (b"a\0\0b\0\0", ("a", "", "b", "")),
        (b"no end", ("no end",)),  # setproctitle(3) and the like
        (b"a\0no end", ("a", "no end")),
        (b"\xff\xfe\0\xc3\0", ("\udcff\udcfe", "\udcc3")),
        ("ж".encode() * 60 + b"\0", ("ж" * 60,)),  # a letter lies across two pieces
        (b"x" * 55 + b"\0" + b"y" * 56 + b"\0", ("x" * 55, "y" * 56)),
        (b"x" * 56 * 37, ("x" * 56 * 37,)),
    ],
    ids=range(10),
)
def test_arguments(raw: bytes, arguments: tuple[str, ...]) -> None:
    life = life_of([fork(100, P), exec_(200, P), *argv(200, P, raw)], P)
    assert (life.argv, life.argv_cut) == (arguments, False)


@pytest.mark.parametrize("ends", [True, False])
def test_arguments_longer_than_what_is_sent(ends: bool) -> None:
    sent = (b"cat\0" + b"file\0" * 500)[: 56 * 37]
    events = [fork(100, P), exec_(200, P), *argv(200, P, sent, total=2504)]
    if ends:
        events += plain(300, P)[1:]
    life = life_of(events, P)
    assert life.argv_cut
    assert life.argv is not None
    assert life.argv[:2] == ("cat", "file")
    assert "\0".join(life.argv) == sent.decode().rstrip("\0")


def test_the_next_exec_ends_what_was_cut() -> None:
    events = [
        fork(100, P),
        exec_(200, P),
        *argv(200, P, b"x" * 56, total=5000),
        *program(300, P, b"/bin/true"),
    ]
    life = life_of(events, P)
    assert (life.argv, life.argv_cut) == (("/bin/true",), False)


def test_no_arguments_at_all() -> None:
    none = Text(200, start(P), P, TextKind.ARGV, 0, 0, bytes(56))
    assert life_of([fork(100, P), exec_(200, P), none], P).argv == ()


@pytest.mark.parametrize(
    "name",
    [
        b"/bin/true",
        b"/" + b"d" * 54,
        b"/" + b"d" * 55,
        b"/" + b"long/" * 54,
        b"/tmp/\xff\xfe",
        b"/" + "ж".encode() * 100,  # a letter lies across two pieces
        b"/" + "日".encode() * 80,
    ],
    ids=["short", "one piece", "two pieces", "five pieces", "bytes", "letters", "wide"],
)
def test_file_names(name: bytes) -> None:
    life = life_of([fork(100, P), exec_(200, P), *filename(200, P, name)], P)
    assert life.execs == (Execution(200, name.decode("utf-8", "surrogateescape")),)


def test_the_name_at_its_exit() -> None:
    events: list[Event] = [
        fork(100, P),
        exec_(200, P, comm="before"),
        exit_(300, P, comm="renamed"),
    ]
    assert life_of(events, P).comm == "renamed"


def test_an_exec_whose_texts_are_lost() -> None:
    life = life_of([fork(100, P), exec_(200, P)], P)
    assert (life.argv, life.argv_cut) == (None, False)


def test_arguments_in_pieces_whose_exec_is_lost() -> None:
    raw = b"cat\0" + b"file\0" * 20  # 104 bytes: two pieces
    life = life_of([fork(100, P), *argv(200, P, raw)], P)
    assert life.argv == ("cat", *["file"] * 20)
    assert "exec" in life.unseen
