# SPDX-License-Identifier: Apache-2.0
"""The machine-readable contract "zombiebpf/1" as one JSON document.

Described in docs/json.md, held by docs/zombiebpf-1.schema.json. Unknown is
null, never 0; `unseen` says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Optional, TextIO

from zombiebpf.analysis import SCHEMA, Analysis, Join, Meta
from zombiebpf.life import Actor, Life, ReapCall, Reparenting
from zombiebpf.reports.terminal import TextOptions

# Fields of the contract that this version leaves null or empty for every process;
# joins only where nothing told of them.
NOT_COLLECTED = ("fork_stack", "joins", "reap_call.kind", "reap_call.stack")

_SURROGATE = re.compile(r"[\ud800-\udfff]")


def write(analysis: Analysis, out: TextIO, options: TextOptions) -> None:
    """Write the document, a process a line. It is ASCII, whatever `out` encodes to."""
    del options
    out.write(f'{{"schema": {encode(SCHEMA)},\n')
    out.write(f' "meta": {encode(meta_of(analysis))},\n')
    out.write(' "processes": [')
    separator = "\n  "
    for life in analysis.lives:  # never all of them in memory as text
        out.write(separator + encode(process_object(life)))
        separator = ",\n  "
    out.write('],\n "joins": [')
    out.write(",".join("\n  " + encode(join_object(join)) for join in analysis.joins or ()))
    out.write("]}\n")


def document(analysis: Analysis) -> dict[str, Any]:
    """The whole document as one value."""
    return {
        "schema": SCHEMA,
        "meta": meta_of(analysis),
        "processes": [process_object(life) for life in analysis.lives],
        "joins": [join_object(join) for join in analysis.joins or ()],
    }


def encode(value: object) -> str:
    """One line of ASCII JSON."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def portable(text: str) -> str:
    r"""`text` without lone surrogates, which most JSON parsers refuse.

    A byte of the observed program that was not UTF-8 (held as U+DC80..U+DCFF by
    "surrogateescape") becomes the four characters `\xNN`. Backslashes that were
    there already stay as they were.
    """
    return text if text.isascii() else _SURROGATE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def meta_object(meta: Meta) -> dict[str, Any]:
    """How it was observed; `complete` is the verdict on the whole."""
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
        "complete": meta.lost_events == 0,
        "not_collected": list(NOT_COLLECTED),
    }


def meta_of(analysis: Analysis) -> dict[str, Any]:
    """The same, of an analysis that may have joins."""
    meta = meta_object(analysis.meta)
    if analysis.joins is not None:
        meta["not_collected"].remove("joins")
    return meta


def process_object(life: Life) -> dict[str, Any]:
    """One process of the contract."""
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
        "fork_stack": None,
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
        "state": life.state.value,
        "unseen": _texts(life.unseen),
    }


def join_object(join: Join) -> dict[str, Any]:
    """One join of the contract."""
    return {
        "pid": _pid(join.pid),
        "tid": _pid(join.tid),
        "child_pid": _pid(join.child_pid),
        "timeout_s": join.timeout_s,
        "began_ns": join.began_ns,
        "ended_ns": join.ended_ns,
        "returned": join.returned,
        "stack": None,
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
        "kind": None,
        "syscall": call.syscall,
        "options": call.options,
        "blocked_ns": call.blocked_ns,
        "stack": None,
    }


def _thread(actor: Optional[Actor]) -> Optional[dict[str, Any]]:
    if actor is None:
        return None
    return {"pid": _pid(actor.pid), "tid": _pid(actor.tid), "comm": _text(actor.comm)}


def _process(actor: Actor) -> dict[str, Any]:
    return {"pid": _pid(actor.pid), "comm": _text(actor.comm)}


def _pid(pid: Optional[int]) -> Optional[int]:
    """0 is a process that the observer's PID namespace cannot see: unknown, so null."""
    return pid or None


def _text(text: Optional[str]) -> Optional[str]:
    return None if text is None else portable(text)


def _texts(texts: Mapping[str, str]) -> dict[str, str]:
    return {portable(key): portable(value) for key, value in texts.items()}
