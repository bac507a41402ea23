# SPDX-License-Identifier: Apache-2.0
"""What a life says of itself."""

from __future__ import annotations

import os
import signal
from typing import Any, Optional

import pytest

from zombiebpf.life import (
    Actor,
    AdopterKind,
    Life,
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


def test_lives_do_not_share_their_reasons() -> None:
    assert life().unseen == {}
    assert life().unseen is not life().unseen
