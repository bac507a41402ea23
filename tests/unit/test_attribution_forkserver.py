# SPDX-License-Identifier: Apache-2.0
"""Joins under a fork server: the child by the pipe that start() has read, or not at all."""

from __future__ import annotations

from typing import Optional

import pytest

from tests.unit.join_events import APP, SYSCALLS, JoinEvents, in_ms
from tests.unit.stack_builders import CONNECTION_WAIT, JOIN, MP_WAIT, SELECT
from zombiebpf.attribution.joins import forkserver
from zombiebpf.model.join import Join
from zombiebpf.model.life import Actor

SERVER = 50
SERVING = ("multiprocessing.forkserver:main", "/<string>:<module>:1")
LAUNCHING = (
    "multiprocessing.popen_forkserver:Popen._launch",
    "multiprocessing.popen_forkserver:Popen.__init__",
    "multiprocessing.context:ForkServerContext._Popen",
    "multiprocessing.process:BaseProcess.start",
    "main:5",
)
SERVER_STARTING = ("multiprocessing.util:spawnv_passfds",
                   "multiprocessing.forkserver:ForkServer.ensure_running", *LAUNCHING)  # fmt: skip
READING = ("multiprocessing.forkserver:read_signed", *LAUNCHING)
POLLING = (SELECT, CONNECTION_WAIT, "multiprocessing.popen_forkserver:Popen.poll", MP_WAIT, JOIN,
           "main:9")  # fmt: skip
assert SYSCALLS[0] == "read"


class Served(JoinEvents):
    """A program whose server runs."""

    def __init__(self) -> None:
        super().__init__()
        self.fork(1, SERVER, SERVER_STARTING)

    def serve(self, at: float, child: int, server: int = SERVER) -> None:
        self.fork(at, child, SERVING, pid=server)

    def reads(self, at: float, until: float, pipe: int, tid: int = 0, pid: int = APP) -> None:
        self.block(at, until, "read", READING, pipe=pipe, tid=tid, pid=pid)

    def polls(
        self, at: float, until: float, pipe: int, timeout: float = -1, pid: int = APP
    ) -> None:
        self.block(at, until, "poll", POLLING, timeout=timeout, pipe=pipe, pid=pid)

    def dies(self, at: float, child: int) -> None:
        self.exit(at, child)
        self.reap(at + 0.1, child, SERVING, options=1, pid=SERVER)

    def children(self) -> list[Optional[int]]:
        return [join.child_pid for join in self.joins()]

    def one(self) -> Join:
        (join,) = self.joins()
        return join


@pytest.fixture
def it() -> Served:
    return Served()


def test_each_join_is_for_the_child_whose_start_read_of_its_pipe(it: Served) -> None:
    for index in range(3):
        it.serve(10 + index, 7 + index)
        it.reads(9.8 + index, 10.3 + index, pipe=4000 + index)
    for index in (1, 0, 2):
        it.polls(20 + index, 30 + index, 4000 + index, timeout=10)
    joins = sorted(it.joins(), key=lambda join: join.child_pid or 0)
    assert [in_ms(join)[1:] for join in joins] == [
        (7, 20, 30, "timeout"), (8, 21, 31, "timeout"), (9, 22, 32, "timeout")
    ]  # fmt: skip


def test_a_joiner_learns_of_the_servers_reap(it: Served) -> None:
    """It never waits for the child itself."""
    for child in (7, 8):
        it.serve(child, child)
        it.reads(child - 0.1, child + 0.2, pipe=4000 + child)
    it.dies(59, 8)
    it.dies(59.5, 7)  # both within what the joiner was asleep for
    it.polls(10, 60, 4007)
    join = it.one()
    assert in_ms(join) == ("Process.join", 7, 10, 60, "reaped")
    assert join.by == Actor(SERVER, SERVER, "python3")


def test_the_first_start_waits_for_the_server_too(it: Served) -> None:
    it.serve(60, 7)
    it.reads(2, 60.2, pipe=4007)
    it.serve(61, 8)
    it.reads(60.9, 61.2, pipe=4008)
    it.polls(62, 72, 4007, timeout=10)
    assert it.children() == [7]


def test_who_did_not_sleep_in_start_is_known_if_all_others_are(it: Served) -> None:
    it.serve(10, 7)
    it.serve(12, 8)
    it.reads(11.9, 12.2, pipe=4008)
    it.polls(20, 30, 4007, timeout=10)
    assert it.children() == [7]


def test_of_two_left_neither_is_taken(it: Served) -> None:
    it.serve(10, 7)
    it.serve(12, 8)
    it.dies(29, 7)
    it.polls(20, 30, 4007)
    assert in_ms(it.one())[1:] == (None, 20, 30, None)


def test_who_had_died_before_is_not_among_those_left(it: Served) -> None:
    it.serve(10, 7)
    it.dies(20, 7)
    it.serve(100, 8)
    it.polls(110, 130, 4008, timeout=20)
    assert it.children() == [8]


def test_starts_of_two_threads_at_once_are_not_guessed_between(it: Served) -> None:
    it.reads(2, 3, pipe=4000, tid=101)  # another thread starts some, too
    it.serve(10, 7)
    it.serve(10.5, 8)
    it.reads(9.8, 10.6, pipe=4007)
    it.reads(9.9, 10.7, pipe=4008, tid=101)
    it.polls(20, 30, 4007, timeout=10)
    assert it.children() == [None]


def test_two_forks_within_one_read_are_not_guessed_between(it: Served) -> None:
    it.serve(10, 7)
    it.serve(10.5, 8)  # another's, which did not sleep
    it.reads(9.8, 10.6, pipe=4007)
    it.polls(20, 30, 4007, timeout=10)
    assert it.children() == [None]


def test_a_fork_just_before_the_read_may_be_its_own(it: Served) -> None:
    """The server forked 7, was preempted, told of it when this one slept already; then forked 8
    for another thread, which did not sleep."""
    it.reads(2, 3, pipe=4000, tid=101)
    it.serve(9.7, 7)
    it.serve(10.2, 8)
    it.reads(9.8, 10.3, pipe=4007)
    it.polls(20, 30, 4007, timeout=10)
    assert it.children() == [None]


def test_a_child_that_two_pipes_claim_is_neithers(it: Served) -> None:
    it.serve(10, 7)
    it.reads(9.8, 10.3, pipe=4007)
    it.reads(9.9, 10.4, pipe=4008, tid=101)
    it.serve(15, 9)
    it.polls(20, 30, 4007, timeout=10)
    it.polls(31, 41, 4008, timeout=10)
    assert it.children() == [None, None]


def test_other_programs_servers_fork_meanwhile(it: Served) -> None:
    it.fork(2, 60, SERVER_STARTING, pid=200)
    it.serve(10, 7)
    it.serve(10.1, 9, server=60)
    it.serve(12, 8)
    it.reads(9.8, 10.3, pipe=4007)
    it.polls(20, 30, 4007, timeout=10)
    assert it.children() == [7]


def test_a_child_of_the_server_uses_it_too(it: Served) -> None:
    it.serve(10, 7)
    it.reads(9.8, 10.3, pipe=4007)
    it.serve(20, 8)
    it.reads(19.8, 20.3, pipe=5008, pid=7)
    it.polls(30, 40, 5008, timeout=10, pid=7)
    (join,) = it.joins()
    assert (join.pid, join.child_pid) == (7, 8)


def test_a_read_elsewhere_tells_of_no_child(it: Served) -> None:
    it.serve(10, 7)
    it.serve(11, 8)
    it.block(9.8, 10.3, "read", ("multiprocessing.forkserver:read_signed", "main:5"), pipe=4007)
    it.polls(20, 30, 4007, timeout=10)
    assert it.children() == [None]


def test_a_join_may_be_for_a_child_from_before_anybody_looked(it: Served) -> None:
    """Of the program's own; nothing tells its pipe from one of the server's."""
    it.existing(6)
    it.serve(10, 7)
    it.polls(20, 30, 4007, timeout=10)
    assert it.children() == [None]
    seen = Served()
    seen.serve(10, 7)
    seen.polls(20, 30, 4007, timeout=10)
    assert seen.children() == [7]


def test_a_fork_whose_stack_has_not_come_may_be_meant(it: Served) -> None:
    it.serve(10, 7)
    it.serve(11, 8)
    it.events.pop()  # its stack
    it.polls(20, 30, 4007, timeout=10)
    assert it.children() == [None]


def test_the_number_of_a_pipe_comes_again(it: Served) -> None:
    it.serve(10, 7)
    it.reads(9.8, 10.3, pipe=4007)
    it.polls(20, 30, 4007, timeout=10)
    it.serve(40, 8)
    it.reads(39.8, 40.3, pipe=4007)
    it.polls(50, 60, 4007, timeout=10)
    assert it.children() == [7, 8]


def test_the_oldest_pipes_are_forgotten(it: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver, "MAX_PIPES", 2)
    for index in range(4):
        it.serve(10 + index, 7 + index)
        it.reads(9.8 + index, 10.3 + index, pipe=4000 + index)
    for index in range(4):
        it.polls(20 + 20 * index, 30 + 20 * index, 4000 + index, timeout=10)
    assert it.children() == [None, None, 9, 10]


@pytest.mark.parametrize(("earlier", "child"), [(9.9, None), (9.8, 8)])
def test_a_preempted_server_reports_a_fork_within_100_ms(
    it: Served, earlier: float, child: Optional[int]
) -> None:
    it.reads(2, 3, pipe=4000, tid=105)  # so that two threads ask
    it.serve(earlier, 7)
    it.serve(110, 8)
    it.reads(109.8, 110.3, pipe=4008)
    it.polls(200, 210, 4008, timeout=10)
    assert it.children() == [child]


@pytest.mark.parametrize(("began", "child"), [(50.1, 7), (50.2, None)])
def test_a_preempted_server_reports_an_exit_within_20_ms(
    it: Served, began: float, child: Optional[int]
) -> None:
    it.serve(10, 7)
    it.dies(30, 7)  # reaped at 30.1
    it.polls(began, began + 10, 4007, timeout=10)
    assert it.children() == [child]


def test_a_join_is_not_for_the_server_that_start_has_started(it: Served) -> None:
    it.fork(4, 60, SERVER_STARTING, (0, 0, 0xA, 0xA, 0, 0xB))
    it.serve(10, 7)
    it.reads(9.8, 10.3, pipe=4007)
    it.block(20, 30, "poll", POLLING, (0, 0, 0xA), timeout=10, pipe=4007)
    assert it.children() == [7]


def test_other_programs_children_are_not_among_those_left(it: Served) -> None:
    it.fork(2, 60, SERVER_STARTING, pid=200)
    it.serve(10, 7)
    it.serve(10.1, 9, server=60)
    it.polls(20, 30, 4007, timeout=10)
    assert it.children() == [7]


def test_children_of_its_own_are_not_among_those_left(it: Served) -> None:
    it.start(5, 30, popen=0xA)
    it.serve(10, 7)
    it.polls(20, 30, 4007, timeout=10)
    assert it.children() == [7]


def test_a_server_may_have_existed_before_the_observation() -> None:
    it = Served()
    it.events.clear()
    it.existing(SERVER)
    it.serve(10, 7)
    it.polls(20, 30, 4007, timeout=10)
    assert it.children() == [7]


def test_another_programs_fork_whose_stack_has_not_come_does_not_matter(it: Served) -> None:
    it.serve(10, 7)
    it.fork(11, 30, pid=200)
    it.events.pop()  # its stack
    it.polls(20, 30, 4007, timeout=10)
    assert it.children() == [7]


def test_a_sibling_of_the_server_uses_it_too(it: Served) -> None:
    it.fork(2, 30)
    it.serve(10, 7)
    it.reads(9.8, 10.3, pipe=4007, pid=30)
    it.polls(20, 30, 4007, timeout=10, pid=30)
    assert it.children() == [7]


def test_what_the_parent_forks_meanwhile_is_not_the_servers(it: Served) -> None:
    it.fork(2, 30)
    it.serve(10, 7)
    it.fork(10.1, 31)
    it.serve(12, 8)
    it.reads(9.8, 10.3, pipe=4007, pid=30)
    it.polls(20, 30, 4007, timeout=10, pid=30)
    assert it.children() == [7]


def test_a_fork_whose_stack_comes_in_two_pieces_is_one(it: Served) -> None:
    it.fork(10, 7, SERVING, (0,) * 7, pid=SERVER)
    it.serve(12, 8)
    it.reads(9.8, 10.3, pipe=4007)
    it.polls(20, 30, 4007, timeout=10)
    assert it.children() == [7]


def test_a_join_without_a_pipe_is_not_for_a_servers_child(it: Served) -> None:
    it.serve(10, 7)
    it.join_polls(20, 30, timeout=10)
    assert it.children() == [None]


def test_join_0_of_a_servers_child(it: Served) -> None:
    it.serve(10, 7)
    it.reads(9.8, 10.3, pipe=4007)
    it.polls(20, 20.1, 4007, timeout=0)
    join = it.one()
    assert in_ms(join) == ("Process.join(timeout)", 7, 20, 20.1, "timeout")
    assert join.timeout_s == 0


def test_pool_join_polls_the_pipe_of_a_worker(it: Served) -> None:
    it.serve(10, 7)
    it.reads(9.8, 10.3, pipe=4007)
    it.block(20, 30, "poll", (*POLLING[:-1], "multiprocessing.pool:Pool.join", "main:9"), pipe=4007)
    assert in_ms(it.one()) == ("Pool.join", None, 20, 30, None)


@pytest.mark.parametrize(("died", "returned"), [(15, "already_reaped"), (25, "reaped")])
def test_a_join_of_a_child_that_the_server_has_reaped(
    it: Served, died: float, returned: str
) -> None:
    it.serve(10, 7)
    it.reads(9.8, 10.3, pipe=4007)
    it.dies(died, 7)
    it.polls(20, 30, 4007)
    assert it.one().returned == returned


def test_the_kernel_released_a_servers_child(it: Served) -> None:
    """Nobody has its status."""
    it.serve(10, 7)
    it.reads(9.8, 10.3, pipe=4007)
    it.reap(25, 7, pid=7, kernel=True)
    it.polls(20, 30, 4007)
    join = it.one()
    assert (join.returned, join.by) == ("stolen", None)


def test_a_forgotten_pipe_is_known_if_all_others_are(
    it: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forkserver, "MAX_PIPES", 1)
    for index in range(2):
        it.serve(10 + index, 7 + index)
        it.reads(9.8 + index, 10.3 + index, pipe=4000 + index)
    it.polls(20, 30, 4000, timeout=10)
    assert it.children() == [7]


def test_a_number_of_a_pipe_that_comes_again_is_not_the_oldest(
    it: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forkserver, "MAX_PIPES", 2)
    for index, pipe in enumerate((4000, 4001, 4000, 4002)):
        it.serve(10 + index, 7 + index)
        it.reads(9.8 + index, 10.3 + index, pipe=pipe)
    it.serve(15, 11)
    it.polls(20, 30, 4000, timeout=10)
    assert it.children() == [9]


def test_the_children_of_the_oldest_servers_are_forgotten(
    it: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forkserver, "MAX_SERVERS", 2)
    for index, server in enumerate((SERVER, 60, 70)):
        it.fork(2 + index, server, SERVER_STARTING)
        it.serve(10 + index, 7 + index, server=server)
    for index in range(3):
        it.reads(9.8 + index, 10.3 + index, pipe=4000 + index)
        it.polls(20 + 20 * index, 30 + 20 * index, 4000 + index, timeout=10)
    assert it.children() == [None, 8, 9]


def test_the_latest_disputes_are_remembered(it: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver, "MAX_FORKS", 2)
    for index, at in enumerate((200, 400, 600)):
        it.serve(at, 7 + index)
        it.reads(at - 0.1, at + 0.1, pipe=4000 + index)
        it.reads(at - 0.1, at + 0.2, pipe=5000 + index, tid=101)
    it.reads(399.9, 400.3, pipe=6001, tid=102)  # a third pipe for the child of a dispute
    it.polls(700, 710, 6001, timeout=10)
    it.polls(720, 730, 4002, timeout=10)
    assert it.children() == [None, None]
