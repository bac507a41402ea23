# SPDX-License-Identifier: Apache-2.0
"""Find cgroups and their processes, in the unified hierarchy and in those of version 1."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Optional

from zombiebpf.errors import UsageError


class CgroupHierarchy(NamedTuple):
    """A mounted cgroup hierarchy."""

    root: Path  # its mount point
    unified: bool  # version 2: the probes see processes that join later


class Cgroup(NamedTuple):
    """A cgroup with all cgroups below it."""

    id: Optional[int]  # in the unified hierarchy (the inode number); None: version 1
    pids: frozenset[int]  # version 1, which the probes do not know: its processes now
    directory: Path


def hierarchies(root: Path = Path("/")) -> list[CgroupHierarchy]:
    """Return the mounted cgroup hierarchies, the unified one first."""
    found = []
    with suppress(OSError):
        for line in (root / "proc/self/mounts").read_text().splitlines():
            _, where, kind, *_ = [*line.split(), "", "", ""]
            if kind in ("cgroup", "cgroup2"):
                found.append(CgroupHierarchy(root / where.lstrip("/"), kind == "cgroup2"))
    return sorted(found, key=lambda each: not each.unified)


def find_cgroups(name: str, root: Path = Path("/")) -> list[Cgroup]:
    """Return the cgroups with this path: of the directory, or below a hierarchy's root.

    Raise UsageError if there is none, or if it exists in version 1 only and is empty.
    """
    known = hierarchies(root)
    if not known:
        raise UsageError("no cgroup hierarchy is mounted here", "attach by PID or --name instead")
    directories = []
    for hierarchy in known:
        directory = hierarchy.root / name.strip("/")
        with suppress(ValueError):
            inside = (root / name.lstrip("/")).relative_to(hierarchy.root)
            directory = hierarchy.root / inside
        if directory.is_dir() and ".." not in directory.parts:
            directories.append((hierarchy, directory))
    if not directories:
        raise UsageError(
            f"no cgroup {name!r}",
            f"give its path below {known[0].root}, as `systemd-cgls` or /proc/PID/cgroup show it",
        )
    return cgroups_in(directories, name)


def cgroups_in(directories: list[tuple[CgroupHierarchy, Path]], name: str) -> list[Cgroup]:
    """Return the cgroups of one unit or container, given its directory in each hierarchy.

    Raise UsageError if it exists in version 1 only and is empty.
    """
    found = []
    pids: set[int] = set()
    for hierarchy, directory in directories:
        if hierarchy.unified:
            found.append(Cgroup(os.stat(directory).st_ino, frozenset(), directory))
        else:
            pids |= pids_below(directory)
    if pids:
        found.append(Cgroup(None, frozenset(pids), directories[-1][1]))
    if not found:
        raise UsageError(f"no process is in the cgroup {name!r}")
    return found


def pids_below(cgroup: Path) -> set[int]:
    """Return the PIDs in a cgroup and below, without 0: a process that this PID namespace hides."""
    pids = set()
    for directory, _, _ in os.walk(cgroup):
        with suppress(OSError):
            pids |= {int(each) for each in Path(directory, "cgroup.procs").read_text().split()}
    return pids - {0}


def all_directories(hierarchy: CgroupHierarchy) -> Iterator[Path]:
    """Yield the directory of every cgroup, parents before their children."""
    for directory, _, _ in os.walk(hierarchy.root):
        yield Path(directory)
