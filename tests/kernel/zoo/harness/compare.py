# SPDX-License-Identifier: Apache-2.0
"""What differs between a workload's own knowledge and what the observer says of it.

Whatever a workload states must be in the document, and exactly so. A time must lie in the
workload's bracket; where the observer calls its stamp a late bound the upper side is the
reap, and it may call it so only where the workload says that nothing better can be had.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, Optional

Facts = dict[str, Any]
Bracket = list[Optional[int]]


def of_life(truth: Facts, process: Facts) -> list[str]:
    """The differences, a line each; none: all agrees."""
    checks = (_identity, _program, _death, _reap, _reparents)
    return [f"{truth['role']}: {each}" for check in checks for each in check(truth, process)]


def find(truth: Facts, processes: list[Facts]) -> list[Facts]:
    """The processes that can be the one meant: by PID and by the time of the fork."""
    return [
        process
        for process in processes
        if process["pid"] == truth["pid"]
        and process["fork_ns"] is not None
        and not _outside(process["fork_ns"], truth["fork"])
    ]


def portable(text: str) -> str:
    r"""As the contract writes bytes that are not UTF-8: `\xNN`."""
    return re.sub("[\udc80-\udcff]", lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)


def _outside(ns: Optional[int], bracket: Bracket) -> bool:
    low, high = bracket
    return ns is None or (low is not None and ns < low) or (high is not None and ns > high)


def _bracketed(name: str, ns: Optional[int], bracket: Bracket) -> Iterator[str]:
    if _outside(ns, bracket):
        low, high = bracket
        if ns is None:
            yield f"{name} is null, should be in {bracket}"
        elif low is not None and ns < low:
            yield f"{name} is {low - ns} ns before {bracket}"
        elif high is not None:
            yield f"{name} is {ns - high} ns after {bracket}"


def _same(name: str, seen: object, true: object) -> Iterator[str]:
    if seen != true:
        yield f"{name} is {seen!r}, should be {true!r}"


def _identity(truth: Facts, process: Facts) -> Iterator[str]:
    for part, true in truth["forker"].items():
        yield from _same(f"forker {part}", (process["forker"] or {}).get(part), true)
    for name in ("pidns", "cgroup", "comm"):
        if name in truth:
            yield from _same(name, process[name], truth[name])
    if "start_ticks" in truth:
        ticks = process["start_ns"] * os.sysconf("SC_CLK_TCK") // 10**9
        yield from _same("start time in ticks", ticks, truth["start_ticks"])
    unexpected = set(process["unseen"]) - set(truth.get("may_be_unseen", ()))
    yield from _same("fields said to be unseen", sorted(unexpected), [])


def _program(truth: Facts, process: Facts) -> Iterator[str]:
    programs = truth.get("exec", [])
    names = [each["filename"] for each in process["exec"]]
    yield from _same("exec'ed", names, [each["filename"] for each in programs])
    for seen, true in zip(process["exec"], programs):
        yield from _bracketed(f"exec of {true['filename']}", seen["ns"], true["ns"])
    if "argv" not in truth:
        return
    argv, true_argv = process["argv"], [portable(each) for each in truth["argv"]]
    if process["argv_cut"]:
        shown, whole = "\0".join(argv or ()), "\0".join(true_argv)
        if not whole.startswith(shown) or len(shown) >= len(whole):
            yield f"cut argv of {len(shown)} bytes is no beginning of the true {len(whole)}"
        if len(shown) < 1024:
            yield f"argv was cut to {len(shown)} bytes"
    elif argv != true_argv:
        yield f"argv is {argv!s:.300}, should be {true_argv!s:.300}"


def _death(truth: Facts, process: Facts) -> Iterator[str]:
    if "death" not in truth:
        for name in ("exit_ns", "zombie_ns", "exit_status", "signal", "core_dumped"):
            yield from _same(name, process[name], None)
        return
    status, death = truth["status"], truth["death"]
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    yield from _same("exit_status", process["exit_status"], code)
    yield from _same("signal", process["signal"], number)
    yield from _same("core_dumped", process["core_dumped"], os.WCOREDUMP(status))
    yield from _bracketed("exit", process["exit_ns"], death)
    if not truth.get("zombie", True):
        yield from _same("zombie_ns", process["zombie_ns"], None)
        yield from _same("zombie_interval_ns", process["zombie_interval_ns"], None)
        return
    if process["zombie_ns"] is None and "zombie_ns" in truth.get("may_be_unseen", ()):
        yield from _same("zombie_ns said to be unseen", "zombie_ns" in process["unseen"], True)
        return
    low = death[0] if process["exit_ns"] is None else process["exit_ns"]
    if process["zombie_exact"] is False and truth.get("zombie_may_be_late"):
        death = truth["reap"]
    else:
        yield from _same("zombie_exact", process["zombie_exact"], True)
    yield from _bracketed("zombie", process["zombie_ns"], [low, death[1]])


def _reap(truth: Facts, process: Facts) -> Iterator[str]:
    yield from _same("state", process["state"], truth["state"])
    if truth["state"] != "reaped":
        for name in ("reap_ns", "reaper", "reaped_by", "reap_call", "zombie_interval_ns"):
            yield from _same(name, process[name], None)
        return
    if "reaper" in truth.get("may_be_unseen", ()) and process["reaped_by"] == "unseen":
        return (yield from _unseen_reap(truth, process))
    lows = [each for each in (truth["reap"][0], truth["death"][0]) if each is not None]
    bracket = [max(lows, default=None), truth["reap"][1]]
    yield from _bracketed("reap", process["reap_ns"], bracket)
    if process["reap_exact"] or not truth.get("reap_may_be_late"):
        yield from _same("reap_exact", process["reap_exact"], True)
    yield from _same("reaped_by", process["reaped_by"], truth["reaped_by"])
    if truth["reaped_by"] == "kernel":
        for name in ("reaper", "reap_call"):  # nobody waited
            yield from _same(name, process[name], None)
    yield from _reaper(truth, process)
    for name, since in (("zombie_interval_ns", "zombie_ns"), ("reap_latency_ns", "exit_ns")):
        if process[since] is not None and process["reap_ns"] is not None:
            yield from _same(name, process[name], process["reap_ns"] - process[since])
    lasted = process["zombie_interval_ns"]
    if lasted is not None and lasted <= 0:
        yield f"the zombie lasted {lasted} ns"


def _unseen_reap(truth: Facts, process: Facts) -> Iterator[str]:
    """The reaper may be unknown, if that is said, and the time a late bound."""
    yield from _same("reap_exact", process["reap_exact"], False)
    yield from _same("reaper", process["reaper"], None)
    yield from _same("fields said to be unseen", sorted(process["unseen"]), ["reap_call", "reaper"])
    yield from _bracketed("reap", process["reap_ns"], [truth["reap"][0], None])


def _reaper(truth: Facts, process: Facts) -> Iterator[str]:
    reaper, call = process["reaper"] or {}, process["reap_call"] or {}
    for part, true in truth.get("reaper", {}).items():
        if part == "not_tid":
            if reaper.get("tid") in (true, None):
                yield f"reaper tid is {reaper.get('tid')}, should be another thread's"
        else:
            yield from _same(f"reaper {part}", reaper.get(part), true)
    if "reap_call" in truth:
        yield from _same("reap_call syscall", call.get("syscall"), truth["reap_call"]["syscall"])
        options, true = call.get("options"), truth["reap_call"]["options"]
        if None in (options, true) or (options - true) % (1 << 32):  # signed or not
            yield from _same("reap_call options", options, true)
    blocked = call.get("blocked_ns")
    if blocked is None and call.get("syscall") in truth.get("waits_timed", ("wait4", "waitid")):
        yield "blocked_ns is null: the begin of each followed process's wait is seen"
    if truth.get("blocked"):
        latency = process["reap_latency_ns"]
        if blocked is None or latency is None or blocked < latency:
            yield f"blocked for {blocked} ns: the wait began before the death"
    if blocked is not None and truth["reap"][0] is not None:
        longest = truth["reap"][1] - truth["reap"][0]
        yield from _bracketed("blocked_ns", blocked, [0, longest])


def _reparents(truth: Facts, process: Facts) -> Iterator[str]:
    seen, true = process["reparents"], truth.get("reparents", [])
    if truth.get("thread_reparents") == "any":  # to sibling threads of the forker, first
        here = truth["forker"]["pid"]
        while len(seen) > 1 and seen[0]["kind"] == "thread":
            ends = (seen[0]["from"]["pid"], seen[0]["to"]["pid"], seen[0]["while_zombie"])
            yield from _same("reparenting from thread to thread", ends, (here, here, False))
            yield from _bracketed("reparenting", seen[0]["ns"], [truth["fork"][0], None])
            seen = seen[1:]
    reported = [
        (each["from"]["pid"], each["to"]["pid"], each["kind"], each["while_zombie"])
        for each in seen
    ]
    stated = [(each["from"], each["to"], each["kind"], each["while_zombie"]) for each in true]
    yield from _same("reparents (from, to, kind, while_zombie)", reported, stated)
    for one, other in zip(seen, true):
        late = other["kind"] == "thread" or other.get("may_be_late", False)
        if not late:
            yield from _same("reparenting exact", one["exact"], True)
        bracket = other["ns"] if one["exact"] else [other["ns"][0], None]
        yield from _bracketed("reparenting", one["ns"], bracket)
    orphaned = any(each["kind"] != "thread" for each in true)
    yield from _same("orphaned", process["orphaned"], orphaned)
