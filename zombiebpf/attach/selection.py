# SPDX-License-Identifier: Apache-2.0
"""Find the processes and cgroups that the user selects to attach to."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from zombiebpf.attach.cgroups import Cgroup, find_cgroups
from zombiebpf.attach.containers import find_container
from zombiebpf.attach.processes import Stat, all_pids, names_of, read_stat, thread_group
from zombiebpf.errors import UsageError
from zombiebpf.kernel.attach_scan import Selection

_COMM_LENGTH = 15  # TASK_COMM_LEN less its null byte (include/linux/sched.h)


@dataclass(frozen=True)
class SelectionRequest:
    """What the command line selects: the union of all that is given."""

    pids: Sequence[int] = ()
    names: Sequence[str] = ()
    cgroups: Sequence[str] = ()
    containers: Sequence[str] = ()
    everything: bool = False


class ResolvedSelection(NamedTuple):
    """The processes and cgroups that a request selects now."""

    selection: Selection
    start_ticks: Mapping[int, int]  # requested PID -> its start time in clock ticks
    directories: Sequence[Path]  # of the cgroups: processes may join while one of them exists


def select(request: SelectionRequest, root: Path = Path("/")) -> ResolvedSelection:
    """Resolve a request. Raise UsageError, with the part of it that selects nothing."""
    if not any(vars(request).values()):
        raise UsageError("attach to what?", "give PIDs, --name, --cgroup, --container or --all")
    proc = root / "proc"
    start_ticks = {pid: _require_process(pid, proc).start_ticks for pid in request.pids}
    pids = set(start_ticks)
    for name in request.names:
        pids |= _pids_by_name(name, proc)
    cgroups: list[Cgroup] = []
    for path in request.cgroups:
        cgroups += find_cgroups(path, root)
    for container in request.containers:
        cgroups += find_container(container, root)
    for cgroup in cgroups:
        pids |= cgroup.pids
    ids = {each.id for each in cgroups if each.id is not None}
    directories = [each.directory for each in cgroups if each.id is not None]
    selection = Selection(pids - {os.getpid()}, ids, request.everything)
    return ResolvedSelection(selection, start_ticks, directories)


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


def _pids_by_name(pattern: str, proc: Path) -> set[int]:
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
    """Return whether a shell pattern matches one of the names.

    A name that is longer than a comm also matches the comm, which the kernel truncates.
    """
    if any(fnmatch.fnmatchcase(name, pattern) for name in names):
        return True
    if len(pattern) <= _COMM_LENGTH or set(pattern) & set("*?["):
        return False
    return pattern.encode()[:_COMM_LENGTH] in map(os.fsencode, names)
