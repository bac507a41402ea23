# SPDX-License-Identifier: Apache-2.0
"""The machine's cgroup hierarchies as directories: the unified one, and those of version 1."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Optional

from zombiebpf.errors import UsageError


class Hierarchy(NamedTuple):
    root: Path
    unified: bool  # version 2: processes that come in later are seen


class Group(NamedTuple):
    """A cgroup with all below it."""

    number: Optional[int]  # its id in the unified hierarchy; None: version 1
    pids: frozenset[int]  # of version 1, which the probes do not know: who is in it now
    place: Path


def hierarchies(root: Path = Path("/")) -> list[Hierarchy]:
    """The unified one first."""
    found = []
    with suppress(OSError):
        for line in (root / "proc/self/mounts").read_text().splitlines():
            _, where, kind, *_ = [*line.split(), "", "", ""]
            if kind in ("cgroup", "cgroup2"):
                found.append(Hierarchy(root / where.lstrip("/"), kind == "cgroup2"))
    return sorted(found, key=lambda each: not each.unified)


def find_groups(name: str, root: Path = Path("/")) -> list[Group]:
    """By the path of a directory, or from the hierarchy's root on: /system.slice/x.service.

    UsageError where there is none, or where no process is in those of version 1.
    """
    known = hierarchies(root)
    if not known:
        raise UsageError("no cgroup hierarchy is mounted here", "attach by PID or --name instead")
    places = []
    for hierarchy in known:
        place = hierarchy.root / name.strip("/")
        with suppress(ValueError):
            inside = (root / name.lstrip("/")).relative_to(hierarchy.root)
            place = hierarchy.root / inside
        if place.is_dir() and ".." not in place.parts:
            places.append((hierarchy, place))
    if not places:
        raise UsageError(
            f"no cgroup {name!r}",
            f"give its path below {known[0].root}, as `systemd-cgls` or /proc/PID/cgroup show it",
        )
    return groups_at(places, name)


def groups_at(places: list[tuple[Hierarchy, Path]], name: str) -> list[Group]:
    """What the directories of one thing, in several hierarchies, select together.

    UsageError if it is in hierarchies of version 1 only, and nobody is in it.
    """
    found = [
        Group(os.stat(place).st_ino, frozenset(), place)
        for hierarchy, place in places
        if hierarchy.unified
    ]
    pids: set[int] = set()
    for hierarchy, place in places:
        if not hierarchy.unified:
            pids |= members(place)
    if pids:
        found.append(Group(None, frozenset(pids), places[-1][1]))
    if not found:
        raise UsageError(f"no process is in the cgroup {name!r}")
    return found


def members(place: Path) -> set[int]:
    """The PIDs in a cgroup and in all below it; 0 is one that our namespace cannot see."""
    pids = set()
    for directory, _, _ in os.walk(place):
        with suppress(OSError):
            pids |= {int(each) for each in Path(directory, "cgroup.procs").read_text().split()}
    return pids - {0}


def directories(hierarchy: Hierarchy) -> Iterator[Path]:
    for directory, _, _ in os.walk(hierarchy.root):
        yield Path(directory)
