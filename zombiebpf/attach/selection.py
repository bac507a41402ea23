# SPDX-License-Identifier: Apache-2.0
"""What the user asked for -> the processes and cgroups that are meant."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from zombiebpf.attach.cgroups import Group, find_groups
from zombiebpf.attach.containers import find_container
from zombiebpf.attach.processes import Stat, all_pids, names_of, read_stat, thread_group
from zombiebpf.errors import UsageError
from zombiebpf.kernel.takeover import Selection

_COMM = 15  # of a name, that the kernel keeps


class Request(NamedTuple):
    """As the command line has it; several are taken together."""

    pids: Sequence[int] = ()
    names: Sequence[str] = ()
    cgroups: Sequence[str] = ()
    containers: Sequence[str] = ()
    everything: bool = False


class Selected(NamedTuple):
    """What the request means just now."""

    selection: Selection
    starts: Mapping[int, int]  # of PIDs that were asked for: their start in clock ticks
    places: Sequence[Path]  # the cgroups' directories: more may come as long as one is there


def select(request: Request, root: Path = Path("/")) -> Selected:
    """UsageError says which part of the request meets nothing, in one line."""
    if not any(request):
        raise UsageError("attach to what?", "give PIDs, --name, --cgroup, --container or --all")
    proc = root / "proc"
    starts = {pid: _require_process(pid, proc).start_ticks for pid in request.pids}
    pids = set(starts)
    for name in request.names:
        pids |= _called(name, proc)
    groups: list[Group] = []
    for path in request.cgroups:
        groups += find_groups(path, root)
    for container in request.containers:
        groups += find_container(container, root)
    for group in groups:
        pids |= group.pids
    numbers = {group.number for group in groups if group.number is not None}
    places = [group.place for group in groups if group.number is not None]
    return Selected(Selection(pids - {os.getpid()}, numbers, request.everything), starts, places)


def _require_process(pid: int, proc: Path) -> Stat:
    stat = read_stat(pid, proc)
    if stat is None:
        raise UsageError(f"no process has the PID {pid}", "`ps -e` lists those there are")
    if stat.kernel_thread:
        raise UsageError(f"PID {pid} ({stat.comm}) is a kernel thread, not a process")
    group = thread_group(pid, proc)
    if group is not None and group != pid:
        raise UsageError(f"{pid} is a thread of the process {group}", f"attach to {group}")
    if pid == os.getpid():
        raise UsageError("zombiebpf does not observe itself", "give another PID")
    return stat


def _called(pattern: str, proc: Path) -> set[int]:
    found = {
        pid
        for pid in all_pids(proc)
        if pid != os.getpid() and matches(pattern, names_of(pid, proc))
    }
    if not found:
        raise UsageError(
            f"no process is called {pattern!r}",
            "`ps -eo pid,comm,args` lists them; a pattern is quoted: --name 'celery*'",
        )
    return found


def matches(pattern: str, names: set[str]) -> bool:
    """`gunicorn` or `gunicorn*`; a comm, cut by the kernel, by the beginning of a plain name."""
    if any(fnmatch.fnmatchcase(name, pattern) for name in names):
        return True
    plain = not set(pattern) & set("*?[")
    return (
        plain
        and len(pattern) > _COMM
        and pattern.encode()[:_COMM] in {os.fsencode(name) for name in names}
    )
