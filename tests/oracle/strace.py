# SPDX-License-Identifier: Apache-2.0
"""What `strace -f` saw of a run: which process made which, how each ended, which wait returned it.

Tracees behave differently (every death is first the tracer's to see), so nothing is timed here.
"""

from __future__ import annotations

import re
import signal
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from tests.oracle.compare import Comparison

_FORKS = ("clone", "clone3", "fork", "vfork")
_CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\d+)")
_WAIT4_STATUS = re.compile(
    r"\[\{WIF(?P<how>EXITED|SIGNALED)\(s\) && W(?:EXITSTATUS|TERMSIG)\(s\) == (?P<what>\w+)"
)
_WAITID_STATUS = re.compile(
    r"si_code=CLD_(?P<how>EXITED|KILLED|DUMPED), si_pid=(?P<pid>\d+).*si_status=(?P<what>\w+)"
)
_END = re.compile(r"\+\+\+ (?P<how>exited with|killed by) (?P<what>\w+)")
_CUT = re.compile(r"<(unfinished|pid changed to \d+) \.\.\.>$")
_SUPERSEDED = re.compile(r"\+\+\+ superseded by execve in pid (?P<by>\d+)")
End = tuple[Optional[int], Optional[int]]  # exit status, signal


@dataclass
class Traced:
    """One process in strace's eyes."""

    pid: int
    forker_tid: Optional[int]  # None: strace itself made it
    execs: int = 0
    end: Optional[End] = None
    waiter_tid: Optional[int] = None
    waited: Optional[End] = None


def command(output: Path) -> list[str]:
    """What to put before the command to trace."""
    return ["strace", "-f", "-e", "trace=process", "-o", str(output)]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """(tid, whole call): the two halves of an interrupted line joined."""
    begun: dict[int, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(" ")
        tid, rest = int(number), rest.strip()
        cut = _CUT.search(rest)
        if cut is not None:
            begun[tid] = rest[: cut.start()]
            continue
        superseded = _SUPERSEDED.match(rest)
        if superseded is not None:  # the exec ends under the leader's PID
            begun[tid] = begun.pop(int(superseded["by"]), "")
        if rest.startswith("<..."):
            rest = begun.pop(tid, "") + rest.split("resumed>", 1)[1]
        yield tid, rest


def _ended(how: str, what: str) -> End:
    if how in ("EXITED", "exited with"):
        return int(what), None
    if what.isdigit():
        return None, int(what)
    return None, int(getattr(signal, what))


def parse(text: str) -> list[Traced]:
    """The lives, the traced command first. ValueError if a PID was used twice."""
    calls = list(_lines(text))
    process_of, lives = _lives(calls)
    for tid, call in calls:
        end, match = _END.match(call), _CALL.match(call)
        if end is not None and tid in lives:  # else of a thread that is not the leader
            lives[tid].end = _ended(end["how"], end["what"])
        if match is None:
            continue
        name, arguments, result = match["name"], match["arguments"], int(match["result"])
        if name == "execve" and result == 0:
            lives[process_of[tid]].execs += 1
        elif name == "wait4" and result > 0:
            status = _WAIT4_STATUS.search(arguments)
            if status is not None:
                _waited(lives[result], tid, _ended(status["how"], status["what"]))
        elif name == "waitid" and result == 0 and "WNOWAIT" not in arguments:
            status = _WAITID_STATUS.search(arguments)
            if status is not None:
                _waited(lives[int(status["pid"])], tid, _ended(status["how"], status["what"]))
    return list(lives.values())


def _lives(calls: list[tuple[int, str]]) -> tuple[dict[int, int], dict[int, Traced]]:
    """Thread -> its process, and process -> its life. A child's lines may precede its maker's."""
    root = calls[0][0]
    lives = {root: Traced(root, None)}
    process_of, makers = {root: root}, {}  # a thread's process is that of its maker
    for tid, call in calls:
        match = _CALL.match(call)
        if match is None or match["name"] not in _FORKS or int(match["result"]) <= 0:
            continue
        child = int(match["result"])
        if child in process_of or child in makers:
            raise ValueError(f"PID {child} was used twice under strace: run it again")
        if "CLONE_THREAD" in match["arguments"]:
            makers[child] = tid
        else:
            process_of[child] = child
            lives[child] = Traced(child, tid)
    for thread in makers:
        maker = thread
        while maker in makers:
            maker = makers[maker]
        process_of[thread] = process_of[maker]
    return process_of, lives


def _waited(life: Traced, tid: int, end: End) -> None:
    life.waiter_tid = tid
    life.waited = end


def compare(document: dict[str, Any], lives: list[Traced], book: dict[str, Any]) -> Comparison:
    """zombiebpf's document against strace's lives: pairs, ends and waits, not times."""
    result = Comparison()
    lost = document["meta"]["lost_events"]
    if lost:
        result.unexplained.append(f"zombiebpf lost {lost} events")
    if len(lives) != len(book["forks"]) + 1:
        result.unexplained.append(f"{len(book['forks'])} forks, {len(lives)} lives in strace")
    ours = _below(document["processes"], book["root"])
    workload = {life.pid for life in lives}
    for life in lives:
        if not ours[life.pid]:
            result.unexplained.append(f"pid {life.pid}: zombiebpf has not seen {life}")
            continue
        process = ours[life.pid].pop(0)
        result.agreed["life"] += 1
        end = process["exit_status"], process["signal"]
        result.same("exit status", life, end, life.end)
        result.same("execs", life, len(process["exec"]), life.execs)
        if life.forker_tid is not None:
            forker = process["forker"] or {}
            result.same("forker", life, forker.get("tid"), life.forker_tid)
        reaper = process["reaper"] or {}
        if life.waiter_tid is not None:
            result.same("reaper", life, reaper.get("tid"), life.waiter_tid)
            result.same("waited status", life, end, life.waited)
        else:  # by init or, for the kernel, in the context of strace or of the process itself
            outside = reaper.get("pid") not in workload or process["reaped_by"] == "kernel"
            result.same("reaped by no wait", life, outside, True)
    for rest in ours.values():
        for process in rest:
            result.unexplained.append(f"only zombiebpf has {process}")
    return result


def _below(processes: list[dict[str, Any]], root: int) -> dict[int, list[dict[str, Any]]]:
    """The document's processes from `root` down, by PID, in the order of their forks."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for process in sorted(processes, key=lambda each: each["fork_ns"] or 0):
        if process["pid"] == root or (process["forker"] or {}).get("pid") in found:
            found[process["pid"]].append(process)
    return found
