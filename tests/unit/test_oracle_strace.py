# SPDX-License-Identifier: Apache-2.0
"""What strace prints, in the orders that it does."""

from __future__ import annotations

import pytest

from tests.oracle import strace

THREAD = "clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88) = 30"
LINES = [
    '10 execve("/usr/bin/python3", ["python3"], 0x7ffd /* 9 vars */) = 0',
    "10 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>",
    f"20 {THREAD}",
    "10 <... resumed>)          = 20",
    "30 clone(child_stack=NULL, flags=SIGCHLD) = 40",
    "40 +++ exited with 3 +++",
    "30 wait4(40, [{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL) = 40",
]


def test_a_childs_lines_may_precede_its_makers() -> None:
    """20 makes a thread before the line that tells of 20 is whole."""
    for lines in (LINES, [*LINES[:2], LINES[4], *LINES[2:4], *LINES[5:]]):
        lives = {life.pid: life for life in strace.parse("\n".join(lines) + "\n")}
        assert {pid: life.forker_tid for pid, life in lives.items()} == {10: None, 20: 10, 40: 30}
        assert (lives[40].end, lives[40].waiter_tid, lives[40].waited) == ((3, None), 30, (3, None))


def test_a_number_that_came_again_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="PID 30 was used twice"):
        strace.parse("\n".join([*LINES[:3], f"20 {THREAD}"]) + "\n")
