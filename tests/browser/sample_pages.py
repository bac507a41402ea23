# SPDX-License-Identifier: Apache-2.0
"""The observations that the pages under test are made of."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Optional

from tests.unit.life_builders import (
    APP,
    BEGAN,
    MS,
    US,
    S,
    analysis,
    app,
    crowd,
    ended,
    found_dead,
    life,
)
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import Actor, Life, ReapCall, ReapedBy
from zombiebpf.model.stack import Frame, Stack

APP_PY = "/srv/app/app.py"
LIBRARY = "/usr/lib/python3.11/multiprocessing"

FORKED_AT = Frame("MainProcess.executor", APP_PY, 42)
FORK_STACK = Stack(
    (
        Frame("Popen._launch", f"{LIBRARY}/popen_fork.py", 66),
        Frame("BaseProcess.start", f"{LIBRARY}/process.py", 121),
        FORKED_AT,
        Frame("<module>", APP_PY, 88),
    )
)
ATEXIT_STACK = Stack(
    (
        Frame("Popen.poll", f"{LIBRARY}/popen_fork.py", 27),
        Frame("_cleanup", f"{LIBRARY}/process.py", 62),
        Frame("_exit_function", f"{LIBRARY}/util.py", 360),
    )
)


def unjoined() -> Analysis:
    """The article's child that nobody joins: a zombie for 720 ms, until atexit."""
    reaped = BEGAN + 1040 * MS
    child = ended(
        41231, 20 * MS, ran=300 * MS, latency=720 * MS,
        fork_stack=FORK_STACK, fork_site=FORKED_AT,
        reap_call=ReapCall("wait4", 1, reaped - 3 * US, 3 * US, "atexit", ATEXIT_STACK, None),
    )  # fmt: skip
    return analysis([app(ran=1050 * MS), child], lasted=1100 * MS)


def everything() -> Analysis:
    """Every way to end, joins, adoptions."""
    observed = crowd()
    lives = list(observed.lives[:1])
    for number, each in enumerate(observed.lives[1:]):
        call = each.reap_call and each.reap_call._replace(
            kind=("join", "atexit", "start -> _cleanup")[number % 3], stack=ATEXIT_STACK,
            site=Frame("work", APP_PY, 99),
        )  # fmt: skip
        site = Frame("main", APP_PY, 17 + number % 3)
        lives.append(each._replace(fork_site=site, fork_stack=FORK_STACK, reap_call=call))
    joins = [
        _join(41231, None, S // 2, S + 200 * US, "reaped"),
        _join(41237, 0.5, 2 * S, 2500 * MS, "timeout"),
    ]
    return replace(observed, lives=lives, joins=joins)


def _join(child: int, timeout: Optional[float], began: int, over: int, returned: str) -> Join:
    return Join(
        APP.pid, APP.tid, child, timeout, BEGAN + began, BEGAN + over, returned, "Process.join",
        (Child(child, None),), over - began, None, FORK_STACK, Frame("main", APP_PY, 50),
    )  # fmt: skip


def before() -> Analysis:
    """What `attach` finds: a parent that runs, a zombie that stays, and one that is reaped."""
    parent = life(APP.pid, -60 * S, forker=None, fork_ns=None, parent=Actor(1, 1, "systemd"))
    reaped = found_dead(41232, reap_ns=BEGAN + 2 * S, reaper=APP, reaped_by=ReapedBy.PARENT)
    return analysis([parent, found_dead(41231), reaped], command=["zombiebpf", "attach"])


def many(count: int) -> Analysis:
    """An hour of workers, one in a hundred of them long a zombie."""
    chance = random.Random(1)
    lives: list[Life] = [app(ran=3600 * S)]
    for number in range(count - 1):
        late = chance.random() < 0.01
        dead = int(10 ** (chance.uniform(8, 10.5) if late else chance.uniform(4.5, 6)))
        each = ended(
            50_000 + number, int(number * 3500 * S / count), ran=int(10 ** chance.uniform(7, 10)),
            latency=dead + 44 * US, argv=("python3", "worker.py", "--job", str(number)),
        )  # fmt: skip
        assert each.reap_call is not None
        kind = chance.choice(("join", "atexit", "Pool worker handler"))
        lives.append(
            each._replace(
                fork_site=Frame("spawn", APP_PY, 40 + number % 5),
                fork_stack=FORK_STACK,
                reap_call=each.reap_call._replace(kind=kind, stack=ATEXIT_STACK),
            )
        )
    return analysis(lives, lasted=3610 * S)


def far() -> Analysis:
    """Build instants an hour after the start that differ by a nanosecond."""
    at = 3_599_123_456_789
    child = ended(41231, at, ran=1_001, latency=345)
    child = child._replace(zombie_ns=BEGAN + at + 1_001 + 100)
    return analysis([app(ran=3600 * S), child], lasted=3601 * S)
