# SPDX-License-Identifier: Apache-2.0
"""The JSON report: the contract "zombiebpf/1" as one document.

docs/json.md describes it, docs/zombiebpf-1.schema.json is its schema. An unknown value
is null, never 0; `unseen` gives the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional, TextIO

from zombiebpf.diagnosis.finding import Finding
from zombiebpf.diagnosis.findings import findings
from zombiebpf.model.analysis import SCHEMA, Meta
from zombiebpf.model.join import Join
from zombiebpf.model.life import Activity, Actor, Life, ReapCall, Reparenting
from zombiebpf.model.observation import Observation, SiteSummary
from zombiebpf.model.stack import Frame, Stack

_SURROGATE = re.compile(r"[\ud800-\udfff]")


def write(observation: Observation, out: TextIO) -> None:
    """Write the document in ASCII, a process a line."""
    out.write(f'{{"schema": {encode(SCHEMA)},\n "meta": {encode(meta_of(observation))}')
    for name, objects in _sections(observation):
        out.write(f',\n "{name}": [')
        separator = "\n  "
        for each in objects:  # their text is never in memory as a whole
            out.write(separator + encode(each))
            separator = ",\n  "
        out.write("]")
    out.write("}\n")


def document(observation: Observation) -> dict[str, Any]:
    """Return the whole document as one value."""
    sections = {name: list(objects) for name, objects in _sections(observation)}
    return {"schema": SCHEMA, "meta": meta_of(observation), **sections}


def _sections(observation: Observation) -> Iterator[tuple[str, Iterable[dict[str, Any]]]]:
    yield "processes", map(process_object, observation.lives())
    yield "joins", map(join_object, observation.joins())
    yield "fork_sites", map(site_object, observation.fork_sites())
    yield "findings", (finding_object(each, observation) for each in findings(observation))


def encode(value: object) -> str:
    """Return one line of ASCII JSON."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def portable(text: str) -> str:
    r"""Return `text` without lone surrogates, which most JSON parsers refuse.

    A byte of the observed program that was not UTF-8 (held as U+DC80..U+DCFF by
    "surrogateescape") becomes the four characters `\xNN`. Other backslashes stay.
    """
    return text if text.isascii() else _SURROGATE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def meta_object(meta: Meta) -> dict[str, Any]:
    """Return the `meta` object; `complete` is False if records were lost or it was cut."""
    return {
        "version": meta.version,
        "kernel": meta.kernel,
        "hooks": _texts(meta.hooks),
        "precision": _texts(meta.precision),
        "clock": meta.clock,
        "started_ns": meta.started_ns,
        "ended_ns": meta.ended_ns,
        "command": [portable(each) for each in meta.command],
        "lost_events": meta.lost_events,
        "lost_by": dict(meta.lost_by),
        "complete": meta.lost_events == 0 and meta.cut is None,
        "cut": _text(meta.cut),
        "not_collected": list(meta.not_collected),
    }


def meta_of(observation: Observation) -> dict[str, Any]:
    """Return the `meta` object; `not_collected` says when joins were not collected."""
    meta = meta_object(observation.meta)
    if not observation.has_joins and "joins" not in meta["not_collected"]:
        meta["not_collected"].append("joins")
    return meta


def process_object(life: Life) -> dict[str, Any]:
    """Return a process of the contract."""
    pidns = life.pidns
    return {
        "pid": _pid(life.pid),
        "start_ns": life.start_ns,
        "comm": _text(life.comm),
        "argv": None if life.argv is None else [portable(each) for each in life.argv],
        "argv_cut": life.argv_cut,
        "pidns": None if pidns is None else {"inum": pidns.inum, "pid": _pid(pidns.pid)},
        "cgroup": _text(life.cgroup),
        "forker": _thread(life.forker),
        "fork_ns": life.fork_ns,
        "parent": _thread(life.parent),
        "fork_stack": stack_object(life.fork_stack),
        "fork_stack_problem": _problem(life.fork_stack),
        "fork_site": _frame(life.fork_site),
        "exec": [{"ns": each.ns, "filename": _text(each.filename)} for each in life.execs],
        "exit_ns": life.exit_ns,
        "zombie_ns": life.zombie_ns,
        "zombie_exact": None if life.zombie_ns is None else life.zombie_exact,
        "reap_ns": life.reap_ns,
        "reap_exact": None if life.reap_ns is None else life.reap_exact,
        "exit_status": life.exit_status,
        "signal": life.signal,
        "core_dumped": life.core_dumped,
        "zombie_interval_ns": life.zombie_interval_ns,
        "reap_latency_ns": life.reap_latency_ns,
        "orphaned": life.orphaned,
        "reparents": [_reparenting(each) for each in life.reparents],
        "reaper": _thread(life.reaper),
        "reaped_by": None if life.reaped_by is None else life.reaped_by.value,
        "reap_call": _reap_call(life.reap_call),
        "meanwhile": _activity(life.meanwhile),
        "state": life.state.value,
        "unseen": _texts(life.unseen),
    }


def join_object(join: Join) -> dict[str, Any]:
    """Return a join of the contract."""
    return {
        "pid": _pid(join.pid),
        "tid": _pid(join.tid),
        "child_pid": _pid(join.child_pid),
        "timeout_s": join.timeout_s,
        "began_ns": join.began_ns,
        "ended_ns": join.ended_ns,
        "returned": join.returned,
        "kind": _text(join.kind),
        "children": [{"pid": _pid(each.pid), "start_ns": each.start_ns} for each in join.children],
        "blocked_ns": join.blocked_ns,
        "by": _thread(join.by),
        "stack": stack_object(join.stack),
        "stack_problem": _problem(join.stack),
        "site": _frame(join.site),
    }


def site_object(site: SiteSummary) -> dict[str, Any]:
    """Return what one line of the user's code forked."""
    times = site.intervals
    p50, p99, most = (times.p50_ns, times.p99_ns, times.max_ns) if times else (None, None, None)
    return {
        "site": _frame(site.site),
        "children": site.children,
        "reaped_by": {portable(kind): count for kind, count in site.reaped_by.items()},
        "zombie_interval_ns": {"p50": p50, "p99": p99, "max": most},
        "late": site.late,
        "still_zombies": site.still_zombies,
        "running": site.running,
    }


def finding_object(each: Finding, observation: Observation) -> dict[str, Any]:
    """Return a finding of the contract, with the keys of its processes and joins."""
    return {
        "kind": each.kind,
        "severity": each.severity,
        "title": portable(each.title),
        "evidence": [portable(sentence) for sentence in each.evidence],
        "cure": portable(each.fix),
        "site": _frame(each.site),
        "processes": [
            {"pid": _pid(pid), "start_ns": start_ns}
            for pid, start_ns in observation.keys(each.processes)
        ],
        "joins": [
            {"pid": _pid(join.pid), "tid": _pid(join.tid), "began_ns": join.began_ns}
            for join in observation.some_joins(each.joins)
        ],
        "incomplete": each.incomplete,
    }


def stack_object(stack: Optional[Stack]) -> Optional[list[dict[str, Any]]]:
    """Return the frames, innermost first."""
    return None if stack is None else [frame_object(frame) for frame in stack.frames]


def frame_object(frame: Frame) -> dict[str, Any]:
    """Return a frame of the contract."""
    return {
        "function": portable(frame.function),
        "file": portable(frame.file),
        "line": frame.line,
    }


def _problem(stack: Optional[Stack]) -> Optional[str]:
    return None if stack is None else _text(stack.problem)


def _frame(frame: Optional[Frame]) -> Optional[dict[str, Any]]:
    return None if frame is None else frame_object(frame)


def _activity(doing: Optional[Activity]) -> Optional[dict[str, Any]]:
    if doing is None:
        return None
    return {
        "ns": doing.ns,
        "thread": _thread(doing.thread),
        "blocked_since_ns": doing.blocked_since_ns,
        "syscall": _text(doing.syscall),
        "stack": stack_object(doing.stack),
        "stack_problem": _problem(doing.stack),
        "site": _frame(doing.site),
    }


def _reparenting(each: Reparenting) -> dict[str, Any]:
    return {
        "ns": each.ns,
        "exact": each.exact,
        "from": _process(each.from_),
        "to": _process(each.to),
        "kind": each.kind.value,
        "while_zombie": each.while_zombie,
    }


def _reap_call(call: Optional[ReapCall]) -> Optional[dict[str, Any]]:
    if call is None:
        return None
    return {
        "kind": _text(call.kind),
        "syscall": _text(call.syscall),
        "options": call.options,
        "blocked_ns": call.blocked_ns,
        "stack": stack_object(call.stack),
        "stack_problem": _problem(call.stack),
        "site": _frame(call.site),
    }


def _thread(actor: Optional[Actor]) -> Optional[dict[str, Any]]:
    if actor is None:
        return None
    return {"pid": _pid(actor.pid), "tid": _pid(actor.tid), "comm": _text(actor.comm)}


def _process(actor: Actor) -> dict[str, Any]:
    return {"pid": _pid(actor.pid), "comm": _text(actor.comm)}


def _pid(pid: Optional[int]) -> Optional[int]:
    """Return null for 0, a process that the observer's PID namespace cannot see."""
    return pid or None


def _text(text: Optional[str]) -> Optional[str]:
    return None if text is None else portable(text)


def _texts(texts: Mapping[str, str]) -> dict[str, str]:
    return {portable(key): portable(value) for key, value in texts.items()}
