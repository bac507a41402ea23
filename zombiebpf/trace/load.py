# SPDX-License-Identifier: Apache-2.0
"""Load an observation from a file: a trace, or a report of `--format json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Optional

from zombiebpf.errors import UsageError
from zombiebpf.model.analysis import SCHEMA, Analysis, Meta
from zombiebpf.model.life import UNSEEN_BEFORE, Actor, Life, ReapCall, ReapedBy
from zombiebpf.model.stack import Frame
from zombiebpf.trace import read_trace


def load_analysis(path: str) -> Analysis:
    """Return the observation in a trace or a JSON report. Raise UsageError if it is neither.

    From a JSON report come the times, source lines and calls of its processes, but neither
    joins nor stacks.
    """
    try:
        with open(path, "rb") as file:
            begin = file.read(16)
            if begin.lstrip()[:1] != b"{":
                return read_trace(path)
            return _from_document(json.loads(begin + file.read()))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(
            f"{path}: is neither a trace nor a JSON report", "save one by `zombiebpf run -o FILE`"
        ) from None


def _from_document(document: Mapping[str, Any]) -> Analysis:
    """Return the analysis. Raise KeyError, TypeError or ValueError if the document is invalid."""
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema {document['schema']!r}")
    meta = document["meta"]
    return Analysis(
        Meta(
            version=str(meta["version"]),
            kernel=str(meta["kernel"]),
            hooks=dict(meta["hooks"]),
            precision=dict(meta["precision"]),
            started_ns=int(meta["started_ns"]),
            ended_ns=int(meta["ended_ns"]),
            command=[str(each) for each in meta["command"]],
            lost_events=int(meta["lost_events"]),
        ),
        [_life(each) for each in document["processes"]],
    )


def _life(each: Mapping[str, Any]) -> Life:
    by = each["reaped_by"]
    argv = each["argv"]
    return Life(
        pid=each["pid"] or 0,
        start_ns=int(each["start_ns"]),
        comm=each["comm"],
        argv=None if argv is None else tuple(argv),
        forker=_actor(each["forker"]),
        parent=_actor(each.get("parent")),
        was_zombie=each["zombie_ns"] is None and each["unseen"].get("zombie_ns") == UNSEEN_BEFORE,
        fork_ns=_ns(each["fork_ns"]),
        fork_site=_frame(each.get("fork_site")),
        exit_ns=_ns(each["exit_ns"]),
        zombie_ns=_ns(each["zombie_ns"]),
        zombie_exact=each["zombie_exact"] is not False,
        reap_ns=_ns(each["reap_ns"]),
        reap_exact=each["reap_exact"] is not False,
        reaper=_actor(each["reaper"]),
        reaped_by=None if by is None else ReapedBy(by),
        reap_call=_call(each["reap_call"]),
    )


def _ns(value: object) -> Optional[int]:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise TypeError("nanoseconds are a number")


def _actor(value: Optional[Mapping[str, Any]]) -> Optional[Actor]:
    return None if value is None else Actor(value["pid"] or 0, value["tid"], value["comm"])


def _frame(value: Optional[Mapping[str, Any]]) -> Optional[Frame]:
    return None if value is None else Frame(value["function"], value["file"], value["line"])


def _call(value: Optional[Mapping[str, Any]]) -> Optional[ReapCall]:
    if value is None:
        return None
    return ReapCall(
        syscall=value["syscall"],
        options=value["options"],
        began_ns=None,
        blocked_ns=value["blocked_ns"],
        kind=value["kind"],
        site=_frame(value.get("site")),
    )
