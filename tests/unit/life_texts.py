# SPDX-License-Identifier: Apache-2.0
"""Write a process record or a join as one line of text, with every field that 0.1 had."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any

from zombiebpf.model.join import Join
from zombiebpf.model.life import Life
from zombiebpf.model.stack import Frame, Stack

LIFE_FIELDS = (
    "pid", "start_ns", "comm", "argv", "argv_cut", "pidns", "cgroup", "forker", "fork_ns",
    "fork_stack", "fork_site", "execs", "exit_ns", "zombie_ns", "zombie_exact", "reap_ns",
    "reap_exact", "wait_status", "reparents", "reaper", "reaped_by", "reap_call", "parent",
    "was_zombie", "meanwhile", "unseen",
)  # fmt: skip
JOIN_FIELDS = (
    "pid", "tid", "child_pid", "timeout_s", "began_ns", "ended_ns", "returned", "kind",
    "children", "blocked_ns", "by", "stack", "site",
)  # fmt: skip

_life_values, _join_values = attrgetter(*LIFE_FIELDS), attrgetter(*JOIN_FIELDS)
_AS_IT_IS = frozenset({int, str, float, bool, type(None)})


def life_text(life: Life) -> str:
    """Return the fields of a process record in ASCII."""
    return ascii(_plain(_life_values(life)))


def join_text(join: Join) -> str:
    """Return the fields of a join in ASCII."""
    return ascii(_plain(_join_values(join)))


def _plain(value: Any) -> Any:
    """Return a value as numbers, strings and tuples: every Python version prints them alike."""
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if kind is Stack:
        return _stack(value)
    if kind is Frame:
        return _frame(value)
    if isinstance(value, (tuple, list)):
        return tuple(map(_plain, value))
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return tuple(sorted(value.items()))
    raise TypeError(kind)


@lru_cache(10_000)
def _stack(stack: Stack) -> str:
    return " < ".join([*map(_frame, stack.frames), f"({stack.problem})"])


def _frame(frame: Frame) -> str:
    return f"{frame.function} {frame.file}:{frame.line}"
