# SPDX-License-Identifier: Apache-2.0
"""Compare each captured stack with that of `traceback` on the same line."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional

Facts = Mapping[str, Any]
LIMIT = 64  # frames that are captured
MOST_LINES = 12  # of a difference that are shown

_SURROGATE = re.compile("[\ud800-\udfff]")


class Verdict(NamedTuple):
    """On one capture."""

    label: str
    kind: str  # fork | reap
    difference: Optional[str]  # None: it is right
    incomplete: bool  # it says that something is missing
    declared: bool  # and something had to be missing


class Captured(NamedTuple):
    """A stack of the report."""

    frames: Sequence[Facts]
    problem: Optional[str]


def compare(records: Sequence[Facts], processes: Sequence[Facts]) -> list[Verdict]:
    """A verdict on each fork and each reap that a workload has recorded."""
    lives: dict[int, list[Facts]] = {}
    for process in processes:
        lives.setdefault(process["pid"], []).append(process)
    verdicts = [
        _judge(record, _life(lives.get(record["child"], ()), record["ns"]))
        for record in records
        if record["kind"] in ("fork", "reap")
    ]
    foretold = [record for record in records if record["kind"].startswith("will ")]
    return verdicts + list(_came_true(foretold, lives, processes))


def _came_true(
    foretold: Sequence[Facts], lives: Mapping[int, Sequence[Facts]], processes: Sequence[Facts]
) -> Iterator[Verdict]:
    """On what was said before it was done, by processes that were killed meanwhile."""
    if not foretold:
        return
    children: dict[int, list[Facts]] = {each["by"]: [] for each in foretold}
    for process in processes:  # by their forks
        if process["forker"] is not None and process["forker"]["pid"] in children:
            children[process["forker"]["pid"]].append(process)
    for record in foretold:
        victim = _life(lives.get(record["by"], ()), record["ns"])
        if victim is None:
            yield Verdict(
                record["label"], record["kind"][5:], "it is not in the report", False, False
            )
            continue
        # others may have had its number before and after
        ends = victim["exit_ns"] or math.inf
        own = [
            each for each in children[record["by"]] if victim["fork_ns"] < each["fork_ns"] <= ends
        ]
        if record["number"] >= len(own):
            continue  # killed before it came to it
        life, kind = own[record["number"]], record["kind"][5:]
        if kind == "fork" or (life["reaper"] or {}).get("pid") == record["by"]:
            yield _judge({**record, "kind": kind, "child": life["pid"]}, life)


def _life(lives: Sequence[Facts], ns: int) -> Optional[Facts]:
    """Whose PID it was then."""
    born = [each for each in lives if each["fork_ns"] is not None and each["fork_ns"] < ns]
    return max(born, key=lambda each: int(each["fork_ns"]), default=None)


def _judge(record: Facts, life: Optional[Facts]) -> Verdict:
    declared = bool(record["flags"])
    captured: Optional[Captured] = None
    if life is None:
        difference: Optional[str] = f"PID {record['child']} is not in the report"
    else:
        captured = of_fork(life) if record["kind"] == "fork" else of_reap(life)
        if captured is None:
            difference = f"PID {record['child']} has no stack: {life.get('unseen')}"
        else:
            difference = _difference(record, captured)
    incomplete = captured is not None and captured.problem is not None
    return Verdict(record["label"], record["kind"], difference, incomplete, declared)


def of_fork(life: Facts) -> Optional[Captured]:
    if life["fork_stack"] is None:
        return None
    return Captured(life["fork_stack"], life["fork_stack_problem"])


def of_reap(life: Facts) -> Optional[Captured]:
    call = life["reap_call"]
    if call is None or call["stack"] is None:
        return None
    return Captured(call["stack"], call["stack_problem"])


def _difference(record: Facts, captured: Captured) -> Optional[str]:
    truth, flags = record["stack"], record["flags"]
    if "deep" in flags and len(truth) > LIMIT:
        if captured.problem is None:
            return f"{len(truth)} frames, {len(captured.frames)} captured, not marked as cut"
        truth = truth[:LIMIT]
    elif "broken" in flags and captured.problem is not None:
        if len(captured.frames) < flags[1]:
            return f"{len(captured.frames)} frames captured, {flags[1]} were whole"
        truth = truth[: len(captured.frames)]
    elif captured.problem is not None and not flags:
        return f"marked incomplete without cause: {captured.problem}"
    wrong = [
        position
        for position, (true, seen) in enumerate(itertools.zip_longest(truth, captured.frames))
        if true is None or seen is None or not _same(true, seen, flags)
    ]
    if not wrong:
        return None
    shown = [f"{len(truth)} frames, {len(captured.frames)} captured, {len(wrong)} differ:"]
    for position in wrong[:MOST_LINES]:
        true = truth[position] if position < len(truth) else None
        seen = captured.frames[position] if position < len(captured.frames) else None
        shown.append(f"  frame {position}: true {_true(true)}; captured {_seen(seen)}")
    return "\n".join(shown)


def _same(true: Sequence[Any], seen: Facts, flags: Sequence[str]) -> bool:
    name, qualified, file, line = true
    if "table" in flags and seen["line"] is None:
        line = None
    if qualified is None:  # before CPython 3.11 a frame has no qualified name
        function, expected = seen["function"].rpartition(".")[2], name
    else:
        function, expected = seen["function"], qualified
    if "cut names" in flags:
        return (
            _begins(portable(expected), function)
            and _begins(portable(file), seen["file"])
            and seen["line"] == line
        )
    return (function, seen["file"], seen["line"]) == (portable(expected), portable(file), line)


def _begins(whole: str, part: str) -> bool:
    """`part` is `whole`, or its beginning with a mark that it is cut."""
    return part == whole or (len(part) > 100 and whole.startswith(part.rstrip(".…")))


def portable(text: str) -> str:
    """As reports write what is not UTF-8."""
    return _SURROGATE.sub(lambda match: f"\\x{ord(match.group()) - 0xDC00:02x}", text)


def _true(frame: Optional[Sequence[Any]]) -> str:
    return "-" if frame is None else f"{frame[1] or frame[0]} {frame[2]}:{frame[3]}"


def _seen(frame: Optional[Facts]) -> str:
    return "-" if frame is None else f"{frame['function']} {frame['file']}:{frame['line']}"
