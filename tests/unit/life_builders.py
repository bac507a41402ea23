# SPDX-License-Identifier: Apache-2.0
"""Build lives and analyses by hand."""

from __future__ import annotations

import io
import re
import signal
from collections.abc import Iterable, Sequence
from typing import Any

from zombiebpf.model.analysis import Analysis, Meta
from zombiebpf.model.life import (
    Actor,
    AdopterKind,
    Execution,
    Life,
    LifeRow,
    PidNamespace,
    ReapCall,
    ReapedBy,
    Reparenting,
)
from zombiebpf.reports import FORMATS, TextOptions
from zombiebpf.trace import observe

US, MS, S = 1_000, 1_000_000, 1_000_000_000
BEGAN = 86_400 * S
SYSTEMD = Actor(1, 1, "systemd")
APP = Actor(41230, 41230, "python3")


def life(pid: int, at: int = 0, **fields: Any) -> Life:
    """Build a running child of APP, forked `at` ns after BEGAN."""
    given: dict[str, Any] = {
        "comm": "python3",
        "argv": ("python3", "app.py"),
        "pidns": PidNamespace(4026531836, pid),
        "cgroup": "/user.slice",
        "forker": APP,
        "fork_ns": BEGAN + at,
    }
    return Life(pid, BEGAN + at + 7, **{**given, **fields})


def ended(pid: int, at: int = 0, ran: int = S, latency: int = 131 * US, **fields: Any) -> Life:
    """Build a child that exited with 0 and that APP reaped `latency` ns later."""
    exit_ns = BEGAN + at + ran
    given: dict[str, Any] = {
        "exit_ns": exit_ns,
        "zombie_ns": exit_ns + 44 * US,
        "reap_ns": exit_ns + latency,
        "wait_status": 0,
        "reaper": APP,
        "reaped_by": ReapedBy.PARENT,
        "reap_call": ReapCall("wait4", 0, exit_ns - 3 * MS, latency + 3 * MS),
    }
    return life(pid, at, **{**given, **fields})


def zombie(pid: int, at: int = 0, ran: int = S, **fields: Any) -> Life:
    """Build a child that exited and is a zombie still."""
    given: dict[str, Any] = {
        "reap_ns": None,
        "reaper": None,
        "reaped_by": None,
        "reap_call": None,
    }
    return ended(pid, at, ran, **{**given, **fields})


def rows(lives: Iterable[Life]) -> list[LifeRow]:
    return list(map(LifeRow.of, lives))


def found_dead(pid: int, age: int = 60 * S, **fields: Any) -> Life:
    """Build a child of APP that was a zombie before the observation began, and still is."""
    why = "since before we looked"
    unseen = dict.fromkeys(("forker", "fork_ns", "exec", "argv", "exit_ns", "zombie_ns"), why)
    given: dict[str, Any] = {
        "forker": None,
        "fork_ns": None,
        "argv": None,
        "parent": APP,
        "was_zombie": True,
        "wait_status": 0,
        "unseen": unseen,
    }
    return life(pid, -age, **{**given, **fields})


def app(ran: int = 5 * S, **fields: Any) -> Life:
    """Build the root of a `run`, forked and reaped by zombiebpf."""
    watcher = Actor(41229, 41229, "zombiebpf")
    execs = [Execution(BEGAN + MS, "/usr/bin/python3")]
    given = {"forker": watcher, "reaper": watcher, "execs": execs}
    return ended(APP.pid, 0, ran, **{**given, **fields})


def adopted(to: Actor = SYSTEMD, at: int = 0, **fields: Any) -> Reparenting:
    given: dict[str, Any] = {"kind": AdopterKind.INIT, "while_zombie": False, "exact": True}
    return Reparenting(BEGAN + at, APP, to, **{**given, **fields})


def killed(number: int, core: bool = False) -> int:
    """Return the wait status word of a process that a signal killed."""
    return number | (0x80 if core else 0)


def autoreaped(pid: int, at: int = 0, **fields: Any) -> Life:
    """Build a child that the kernel released without it having been a zombie."""
    given: dict[str, Any] = {
        "zombie_ns": None,
        "latency": 40 * US,
        "reaped_by": ReapedBy.KERNEL,
        "reaper": None,
        "reap_call": None,
    }
    return ended(pid, at, **{**given, **fields})


def analysis(lives: Sequence[Life], lasted: int = 6 * S, **fields: Any) -> Analysis:
    given: dict[str, Any] = {
        "version": "0.1.0",
        "kernel": "6.18.0-1-amd64",
        "hooks": {
            "fork": "raw_tracepoint sched_process_fork",
            "exec": "raw_tracepoint sched_process_exec",
            "exit": "raw_tracepoint sched_process_exit",
            "zombie": "raw_tracepoint signal_generate, sched_switch",
            "reparent": "raw_tracepoint signal_generate, sched_switch",
            "reap": "raw_tracepoint kmem_cache_free",
            "wait": "raw_tracepoint sched_process_wait",
        },
        "precision": {
            "fork": "exact",
            "exec": "exact",
            "exit": "exact",
            "zombie": "exact; a late bound where the parent gets no signal",
            "reparent": "exact; a late bound where the parent gets no signal",
            "reap": "exact",
            "wait": "exact",
        },
        "started_ns": BEGAN,
        "ended_ns": BEGAN + lasted,
        "command": ["python3", "app.py"],
    }
    return Analysis(Meta(**{**given, **fields}), lives)


def article() -> Analysis:
    """Build the analysis of a parent that joins its one child."""
    return analysis([app(), ended(41231, 20 * MS, ran=3 * S)])


def crowd() -> Analysis:
    """Build the analysis of 20 processes with every way to end that a report distinguishes."""
    worker = Actor(41233, 41233, "python3")
    thread = Actor(41230, 41236, "python3")
    lives = [
        app(),
        ended(41231, 1 * MS, wait_status=3 << 8),
        ended(41232, 2 * MS, wait_status=killed(signal.SIGKILL), latency=1_284 * US),
        ended(41233, 3 * MS, ran=2 * S, wait_status=killed(signal.SIGSEGV, core=True)),
        ended(41234, 4 * MS, forker=worker, ran=3 * S, reparents=[adopted(at=2 * S)],
              reaper=SYSTEMD, reaped_by=ReapedBy.ADOPTER, latency=3_200 * MS,
              reap_call=ReapCall("waitid", 1 | 4, None, None)),
        zombie(41235, 5 * MS, forker=worker,
               reparents=[adopted(Actor(990, 990, "containerd-shim"), 2 * S, while_zombie=True,
                                  kind=AdopterKind.SUBREAPER)]),
        zombie(41237, 6 * MS, ran=2_800 * MS, comm="sh", argv=("sh", "-c", "exit 1"),
               wait_status=1 << 8),
        autoreaped(41238, 7 * MS),
        ended(41239, 8 * MS, zombie_ns=None, unseen={"zombie_ns": "no hook saw it: exit_signal 0"}),
        ended(41240, 9 * MS, zombie_exact=False),
        ended(41241, 10 * MS, reap_exact=False, reaper=None, reaped_by=ReapedBy.UNSEEN,
              reap_call=None, latency=16 * MS,
              unseen={"reaper": "shares its signal handlers (CLONE_SIGHAND): freed, not reaped",
                      "reap_call": "the reaper was not seen"}),
        life(41242, 11 * MS, argv=("sleep", "infinity"), comm="sleep"),
        ended(41243, 12 * MS, forker=thread,
              reparents=[adopted(APP, 3 * S, kind=AdopterKind.THREAD)]),
        ended(41244, 13 * MS, reaper=Actor(50000, 50000, "strace"), reaped_by=ReapedBy.TRACER),
    ]  # fmt: skip
    lives += [
        ended(41250 + index, 20 * MS + index, latency=(60 + index * index * 30) * US)
        for index in range(6)
    ]
    return analysis(lives)


def rendered(
    observed: Analysis,
    width: int = 80,
    color: bool = False,
    unicode: bool = True,
    format_: str = "text",
) -> str:
    """Return the text of a report."""
    out = io.StringIO()
    with observe(observed) as observation:
        FORMATS[format_](observation, out, TextOptions(width, color, unicode))
    return out.getvalue()


def section(text: str, title: str) -> list[str]:
    """Return the lines of a text report under a title, up to the next empty one."""
    lines = text.splitlines()
    start = lines.index(title) + 1
    return lines[start : lines.index("", start)]


def line_of(text: str, pid: int) -> str:
    """Return the first line about a process in a text report."""
    return next(line for line in text.splitlines() if re.match(rf" *{pid}  .*\S", line))
