# SPDX-License-Identifier: Apache-2.0
"""Lines of Python, and calls, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional, Union

from zombiebpf.attribution.sites import Line, kind_of
from zombiebpf.life import Life
from zombiebpf.reports.wording import WNOHANG
from zombiebpf.stack import Frame


def by_kind(lives: Iterable[Life]) -> list[tuple[str, list[Life]]]:
    """Reaped lives by their call, the commonest first."""
    kinds: dict[str, list[Life]] = {}
    for life in lives:
        kind = kind_of(life)
        if kind is not None:
            kinds.setdefault(kind, []).append(life)
    return sorted(kinds.items(), key=lambda item: -len(item[1]))


def call_words(life: Life) -> Optional[str]:
    """The system call the reaper stood in: `wait4 WNOHANG`; None: not seen, or none."""
    call = life.reap_call
    if call is None or call.syscall is None:
        return None
    return call.syscall + (" WNOHANG" if (call.options or 0) & WNOHANG else "")


def where(place: Union[Frame, Line]) -> str:
    """`app.py:42`: as much of the path as people say."""
    name = place.file.rsplit("/", 1)[-1] or place.file
    return name if place.line is None else f"{name}:{place.line}"


def where_in_full(place: Union[Frame, Line]) -> str:
    """`/srv/app.py:42`."""
    return place.file if place.line is None else f"{place.file}:{place.line}"
