# SPDX-License-Identifier: Apache-2.0
"""Make process records and joins of a recording, as the pipeline does.

`python -m tests.unit.lives_of_records SEED` prints them, one a line, to compare two commits.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from tests.unit.life_texts import join_text, life_text
from tests.unit.random_records import HEADER_BYTES, OBSERVER, SYSCALLS, Recording, recording
from zombiebpf.attribution.attribution import Attribution
from zombiebpf.attribution.joins.joins import Joins
from zombiebpf.attribution.rules.matching import Rules
from zombiebpf.attribution.rules.parse import parse
from zombiebpf.lifecycle.lifecycle import LATE_EVENT_NS, Lifecycle
from zombiebpf.model.events import Snapshot
from zombiebpf.model.join import Join
from zombiebpf.model.life import LATE_NS, Activity, Actor, LifeRow
from zombiebpf.model.stack import Stack
from zombiebpf.model.wire import RECORD_BYTES, Records
from zombiebpf.python.stacks import Stacks

FORKS = 5_000  # of each recording
NEVER_NS = 1 << 62
STRIDE = HEADER_BYTES + RECORD_BYTES
_DATA = Path(__file__).parent / "data"
_RULES = "rules-0.1.yaml"


class Made(NamedTuple):
    """The process records and joins that one read completes."""

    lives: Sequence[LifeRow]
    joins: Sequence[Join]


def rules() -> Rules:
    parsed = parse((_DATA / _RULES).read_text(encoding="utf-8"), _RULES)
    return Rules(parsed.rules, parsed.objects)


def stack_of(stacks: Mapping[int, Stack]) -> Callable[[int, int], Optional[Stack]]:
    """Return a function that returns the stack for the id and problem of an event."""
    without_id = Stacks().get
    return lambda number, problem: stacks.get(number) or without_id(number, problem)


def cgroup_path(number: int) -> Optional[str]:
    return f"/slice/{number}" if number else None


def why_unfollowed(pid: int) -> Optional[str]:
    return "this Python is not followed" if pid % 2 else None


def completed(event: Snapshot) -> Snapshot:
    """Return a snapshot with what is added from /proc."""
    if event.pid % 3 == 0:
        return event
    return event._replace(parent_comm="parent", argv=("program", str(event.pid)))


def made_of(recorded: Recording, timed: bool = True) -> list[Made]:
    """Return what each read completes, and last what the end of the observation completes.

    Without `timed`, nothing depends on the time at which a read ends: no missing record is given
    up after a second, and no parent of a zombie is sampled.
    """
    joins = Joins(rules(), stack_of(recorded.stacks), SYSCALLS)
    lifecycle = Lifecycle(
        SYSCALLS,
        cgroup_path,
        late_event_ns=LATE_EVENT_NS if timed else NEVER_NS,
        stack=stack_of(recorded.stacks),
        outsider=why_unfollowed,
        complete=Attribution(rules(), joins.had_timeout, OBSERVER).complete,
        watcher=joins,
        completed=completed,
    )
    made = []
    for read in recorded.reads:
        records = Records(read, STRIDE, HEADER_BYTES)
        now = records.ns(-1) if timed else 0
        made.append(Made(lifecycle.feed(records), joins.ended(now)))
        for life in lifecycle.zombies_since(now - LATE_NS):
            thread = Actor(life.parent_pid, life.parent_tid, None)
            life.set_meanwhile(Activity(now, thread, None, None, None, None))
    made.append(Made(lifecycle.finish(), joins.finish()))
    return made


def texts(made: Iterable[Made]) -> list[str]:
    """Return the process records and joins, one a line, in the order of completion."""
    found = []
    for lives, joins in made:
        found += ["life " + life_text(life.life()) for life in lives]
        found += ["join " + join_text(join) for join in joins]
    return found


def read_in(recorded: Recording, count: int) -> Recording:
    """Return the recording with `count` records a read."""
    whole, size = b"".join(recorded.reads), count * STRIDE
    reads = [whole[at : at + size] for at in range(0, len(whole), size)]
    return recorded._replace(reads=reads)


def digest(lines: Sequence[str]) -> str:
    """Return the number of processes, that of joins, and the SHA-256 of the lines."""
    lives = sum(line.startswith("life ") for line in lines)
    whole = "".join(f"{line}\n" for line in lines).encode("ascii")
    return f"{lives} {len(lines) - lives} {hashlib.sha256(whole).hexdigest()}"


if __name__ == "__main__":
    print(*texts(made_of(recording(int(sys.argv[1]), FORKS))), sep="\n")
