# SPDX-License-Identifier: Apache-2.0
"""What a life says of itself."""

from __future__ import annotations

import os
import signal
from typing import Any, Optional, get_type_hints

import pytest

from tests.unit.life_builders import crowd
from zombiebpf.lifecycle.builder import LifeBuilder
from zombiebpf.model.life import (
    Actor,
    AdopterKind,
    Life,
    LifeRow,
    ReapCall,
    ReapedBy,
    Reparenting,
    State,
    signal_name,
)


def life(**fields: Any) -> Life:
    return Life(pid=20, start_ns=7, **fields)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, State.RUNNING),
        ({"fork_ns": 1}, State.RUNNING),
        ({"exit_ns": 5}, State.RUNNING),  # it is dying: not yet a zombie
        ({"exit_ns": 5, "zombie_ns": 6}, State.ZOMBIE),
        ({"exit_ns": 5, "zombie_ns": 6, "reap_ns": 7}, State.REAPED),
        ({"exit_ns": 5, "reap_ns": 7}, State.REAPED),
        ({"zombie_ns": 0}, State.ZOMBIE),  # 0 is a time
        ({"reap_ns": 0}, State.REAPED),
    ],
)
def test_states(fields: dict[str, int], state: State) -> None:
    assert life(**fields).state is state


@pytest.mark.parametrize(
    ("exit_ns", "zombie_ns", "reap_ns", "interval", "latency"),
    [
        (100, 130, 200, 70, 100),
        (100, None, 200, None, 100),  # released by the kernel itself
        (None, 130, 200, 70, None),
        (100, 130, None, None, None),
        (0, 0, 0, 0, 0),
        (100, 210, 200, -10, 100),  # a late bound of the zombie
        (None, None, None, None, None),
    ],
)
def test_intervals(
    exit_ns: Optional[int],
    zombie_ns: Optional[int],
    reap_ns: Optional[int],
    interval: Optional[int],
    latency: Optional[int],
) -> None:
    seen = life(exit_ns=exit_ns, zombie_ns=zombie_ns, reap_ns=reap_ns)
    assert (seen.zombie_interval_ns, seen.reap_latency_ns) == (interval, latency)


@pytest.mark.parametrize(
    ("status", "exit_status", "killed_by", "core_dumped"),
    [
        (None, None, None, None),
        (0, 0, None, False),
        (1 << 8, 1, None, False),
        (255 << 8, 255, None, False),
        (127 << 8, 127, None, False),
        (9, None, 9, False),
        (15, None, 15, False),
        (11 | 0x80, None, 11, True),
        (6 | 0x80, None, 6, True),
        (35, None, 35, False),
        (64, None, 64, False),
    ],
)
def test_wait_statuses(
    status: Optional[int],
    exit_status: Optional[int],
    killed_by: Optional[int],
    core_dumped: Optional[bool],
) -> None:
    seen = life(wait_status=status)
    assert seen.exit_status == exit_status
    assert seen.signal == killed_by
    assert seen.core_dumped is core_dumped


def test_each_wait_status_of_an_exit_or_a_kill() -> None:
    for code in range(256):
        assert (life(wait_status=code << 8).exit_status, life(wait_status=code << 8).signal) == (
            code,
            None,
        )
    for number in range(1, 65):
        for core in (0, 0x80):
            seen = life(wait_status=number | core)
            assert (seen.exit_status, seen.signal) == (None, number)
            assert seen.core_dumped is bool(core)


def test_a_status_as_the_kernel_gives_it() -> None:
    pid = os.fork()
    if not pid:
        os._exit(23)
    _, status = os.waitpid(pid, 0)
    assert life(wait_status=status).exit_status == 23
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert life(wait_status=status).signal == signal.SIGTERM


@pytest.mark.parametrize(
    ("kinds", "orphaned"),
    [
        ([], False),
        ([AdopterKind.THREAD], False),
        ([AdopterKind.THREAD, AdopterKind.THREAD], False),
        ([AdopterKind.SUBREAPER], True),
        ([AdopterKind.INIT], True),
        ([AdopterKind.THREAD, AdopterKind.INIT], True),
        ([AdopterKind.SUBREAPER, AdopterKind.THREAD], True),
    ],
)
def test_orphans(kinds: list[AdopterKind], orphaned: bool) -> None:
    someone = Actor(1, 1, "init")
    reparents = [Reparenting(1, someone, someone, kind, False, True) for kind in kinds]
    assert life(reparents=reparents).orphaned is orphaned


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (1, "SIGHUP"),
        (9, "SIGKILL"),
        (15, "SIGTERM"),
        (31, "SIGSYS"),
        (32, "signal 32"),  # glibc keeps 32 and 33 to itself
        (33, "signal 33"),
        (34, "SIGRTMIN"),
        (35, "SIGRTMIN+1"),
        (50, "SIGRTMIN+16"),
        (63, "SIGRTMIN+29"),
        (64, "SIGRTMAX"),
        (65, "signal 65"),
        (0, "signal 0"),
        (-1, "signal -1"),
    ],
)
def test_names_of_signals(number: int, name: str) -> None:
    assert signal_name(number) == name


@pytest.mark.parametrize(
    ("fields", "already", "duration"),
    [
        ({}, False, None),
        ({"exit_ns": 200, "zombie_ns": 210}, False, 790),  # up to the end
        ({"exit_ns": 200, "zombie_ns": 210, "reap_ns": 250}, False, 40),
        ({"exit_ns": 200, "reap_ns": 250}, False, None),  # the kernel released it
        ({"zombie_ns": 260, "reap_ns": 250}, False, 0),  # a late zombie instant
        ({"zombie_ns": 1010}, False, 0),  # after the last event
        ({"was_zombie": True}, True, 900),  # from the beginning to the end
        ({"was_zombie": True, "reap_ns": 250}, True, 150),
        ({"was_zombie": True, "zombie_ns": 210}, False, 790),  # during the attach scan
        ({"was_zombie": True, "exit_ns": 210, "reap_ns": 250}, False, None),
    ],
)
def test_how_long_it_was_a_zombie_within_an_observation(
    fields: dict[str, Any], already: bool, duration: Optional[int]
) -> None:
    seen = life(**fields)
    assert seen.already_zombie is already
    assert seen.zombie_duration_ns(started_ns=100, ended_ns=1000) == duration


CALL = ReapCall("wait4", 0, None, None, "join")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, None),
        ({"reaped_by": ReapedBy.PARENT, "reap_call": CALL}, None),  # not reaped
        ({"reap_ns": 5, "reaped_by": ReapedBy.KERNEL, "reap_call": CALL}, "kernel"),
        ({"reap_ns": 5, "reaper": Actor(1, 1, None), "reap_call": CALL}, "join"),
        ({"reap_ns": 5, "reaper": Actor(1, 1, None), "reap_call": CALL._replace(kind=None)},
         "wait4"),
        ({"reap_ns": 5, "reaper": Actor(1, 1, None),
          "reap_call": CALL._replace(kind=None, syscall=None)}, "unseen"),
        ({"reap_ns": 5, "reaper": Actor(1, 1, None)}, "unseen"),
        ({"reap_ns": 5, "reap_call": CALL}, "unseen"),
    ],
)  # fmt: skip
def test_reap_kind(fields: dict[str, Any], kind: Optional[str]) -> None:
    assert life(**fields).reap_kind == kind


def test_a_builder_has_the_fields_of_a_row_and_the_defaults_of_a_record() -> None:
    hints, defaults = get_type_hints(LifeBuilder), vars(LifeBuilder)
    assert {name: hints.get(name) for name in LifeRow._fields} == get_type_hints(LifeRow)
    same = [name for name in Life._fields if name in LifeRow._fields]
    assert {name: defaults[name] for name in same if name in defaults} == {
        name: default
        for name, default in Life._field_defaults.items()
        if name in LifeRow._fields and name != "pidns"
    } | {"pidns": None}


@pytest.mark.parametrize("whole", [life(), *crowd().lives])
def test_a_row_becomes_the_record_that_it_was(whole: Life) -> None:
    assert LifeRow.of(whole).life() == whole


def test_a_record_is_immutable() -> None:
    with pytest.raises(AttributeError):
        life().reap_ns = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        life().unseen["argv"] = "lost"  # type: ignore[index]
