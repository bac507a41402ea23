# SPDX-License-Identifier: Apache-2.0
"""The tools that are compared: how each is started, and what its output says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

from bench import bcc_headers, processes
from bench.processes import Process, ProcessFailed, ended
from bench.workloads import Programs, Stage

ZOMBIEBPF = str(Path(sys.executable).with_name("zombiebpf"))
FINISH_S = 300.0  # for what a tool does at its end: a report, say
EVENTS = ",".join(
    f"sched:sched_process_{name}" for name in ("fork", "exec", "exit", "wait", "free")
)
COUNT = "tracepoint:sched:sched_process_exit /pid == tid/ { @[comm] = count(); }"
PRINT = """
tracepoint:sched:sched_process_fork
{ printf("fork %llu %d %d\\n", nsecs, args->parent_pid, args->child_pid); }
tracepoint:sched:sched_process_exit /pid == tid/
{ printf("exit %llu %d %s\\n", nsecs, pid, comm); }
tracepoint:syscalls:sys_exit_wait4 /args->ret > 0/
{ printf("wait %llu %d %d\\n", nsecs, pid, args->ret); }
"""
CALLS = "clone,clone3,fork,vfork,execve,wait4,waitid,exit_group"

# Where a thread sleeps that waits for events: epoll_wait(2), poll(2), recv(2) of a netlink socket.
_WAITING = ("do_epoll_wait", "ep_poll", "poll_schedule_timeout", "__skb_wait_for_more_packets")
DESCENDANTS, MACHINE = "the command's descendants", "the machine"


class Reported(NamedTuple):
    """What a tool's output says about one zombie; None: nothing."""

    reaper: Optional[int] = None
    zombie_ns: Optional[float] = None
    line: Optional[int] = None


class Place(NamedTuple):
    """What a tool's command is made from."""

    stage: list[str]  # the command to observe
    pid: int  # of a stage that runs already; 0: none does
    output: str  # the file to write


@dataclass(frozen=True)
class Tool:
    """One tool with its best options. `output` in the functions is the file that it wrote."""

    key: str
    name: str
    command: Callable[[Place], list[str]]
    starts_stage: bool  # it starts what it observes; else it gets a PID, or sees the machine
    count: Callable[[Path, str], int]  # dead processes of this name
    reported: Callable[[Path, int], Reported] = lambda output, child: Reported()
    sees: str = MACHINE
    writes: bool = True  # its command names the output; else its standard output is it
    version: tuple[str, ...] = ()
    cheap: bool = False  # part of a quick run


class Observation(NamedTuple):
    """A tool that observes."""

    stage: Stage
    process: Process  # the tool's
    ready_s: float  # from its start
    output: Path

    def own(self) -> list[int]:
        """Return the tool's processes, without what it observes."""
        return processes.tree(self.process.pid, without=self.stage.pid)


@contextmanager
def observing(tool: Tool, programs: Programs, directory: Path) -> Iterator[Observation]:
    """Yield a tool that observes a stage; afterwards its output is complete.

    ProcessFailed with the tool's own error if it does not run here.
    """
    output, errors = directory / "output", directory / "errors"
    output.unlink(missing_ok=True)
    with ExitStack() as stack:
        pid, stage, observed = 0, None, None
        if not tool.starts_stage:
            observed = Process(programs.stage, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.enter_context(ended(observed))
            stage = Stage(observed)
            pid = stage.pid
        command = tool.command(Place(programs.stage, pid, str(output)))
        if shutil.which(command[0], path=_path()) is None:
            raise ProcessFailed(f"{command[0]} is not installed")
        with ExitStack() as opened:
            stdout = subprocess.PIPE
            if not tool.starts_stage:
                name = os.devnull if tool.writes else str(output)
                stdout = opened.enter_context(open(name, "wb")).fileno()
            stdin = subprocess.PIPE if tool.starts_stage else subprocess.DEVNULL
            process = Process(command, stdin, stdout, errors)
        stack.enter_context(ended(process))
        if stage is None:
            stage = Stage(process)
        else:
            process.wait_until(lambda: _is_ready(tool, process), "ready")
        ready_s = (time.monotonic_ns() - process.started_ns) / 1e9
        yield Observation(stage, process, ready_s, output)
        if observed is not None:
            observed.finish(FINISH_S)
        ends_itself = tool.starts_stage or tool.key.startswith("zombiebpf")
        code = process.finish(FINISH_S, None if ends_itself else signal.SIGINT)
        if code not in (0, -signal.SIGINT, 128 + signal.SIGINT):
            raise ProcessFailed(process.problem(f"ended with {code}"))


def _is_ready(tool: Tool, process: Process) -> bool:
    if tool.key.startswith("zombiebpf"):
        return "attached" in process.errors()
    try:
        return Path(f"/proc/{process.pid}/wchan").read_text(encoding="ascii").startswith(_WAITING)
    except OSError:
        return False


def _path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def environment() -> None:
    """Set what the tools read from the environment."""
    os.environ["PATH"] = _path()
    os.environ.pop("ZOMBIEBPF_CACHE", None)  # a user's own starts find the programs compiled
    os.environ["BPFTRACE_PERF_RB_PAGES"] = "1024"  # pages a CPU; with 64 it loses in a storm


# --- what an output says ----------------------------------------------------------------


def _zombiebpf_run(place: Place) -> list[str]:
    return [ZOMBIEBPF, "run", "--format", "jsonl", "--report", place.output, "--", *place.stage]


def _zombiebpf_attach(place: Place) -> list[str]:
    return [ZOMBIEBPF, "attach", str(place.pid), "--format", "jsonl", "--report", place.output]


def _zombiebpf_trace(place: Place) -> list[str]:
    return [ZOMBIEBPF, "attach", str(place.pid), "--force", "-o", place.output]


def count_jsonl(output: Path, name: str) -> int:
    """Count processes with every stage of their lives."""
    stages = ("fork_ns", "exit_ns", "zombie_ns", "reap_ns")
    count = 0
    with output.open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            count += entry.get("comm") == name and all(entry[each] for each in stages)
    return count


def reported_jsonl(output: Path, child: int) -> Reported:
    """Read zombiebpf's report of lines."""
    for line in output.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry.get("pid") == child:
            site, reaper = entry["fork_site"], entry["reaper"]
            return Reported(
                reaper and reaper["pid"], entry["zombie_interval_ns"], site and site["line"]
            )
    return Reported()


def count_trace(output: Path, name: str) -> int:
    """Count processes with every stage of their lives."""
    query = (
        "SELECT count(*) FROM life WHERE comm = ? AND fork_ns IS NOT NULL"
        " AND exit_ns IS NOT NULL AND zombie_ns IS NOT NULL AND reap_ns IS NOT NULL"
    )
    with closing(sqlite3.connect(f"file:{output}?mode=ro", uri=True)) as db:
        return int(db.execute(query, (name,)).fetchone()[0])


def _reported_trace(output: Path, child: int) -> Reported:
    lines = output.with_suffix(".jsonl")
    command = [ZOMBIEBPF, "report", "--format", "jsonl", "--report", str(lines), str(output)]
    subprocess.run(command, check=True)
    return reported_jsonl(lines, child)


def lines_with(pattern: str) -> Callable[[Path, str], int]:
    """Return a function that counts the lines of a pattern; NAME in it is the name counted."""

    def count(output: Path, name: str) -> int:
        wanted = re.compile(pattern.replace("NAME", name).encode())
        with output.open("rb") as lines:
            return sum(1 for line in lines if wanted.search(line))

    return count


def _count_perf(output: Path, name: str) -> int:
    script = output.with_suffix(".script")
    with script.open("wb") as out:
        command = ["perf", "script", "-i", str(output), "-F", "comm,event"]
        subprocess.run(command, check=True, stdout=out, stderr=subprocess.DEVNULL)
    return lines_with(r"NAME.*sched_process_exit")(script, name)


def count_map(output: Path, name: str) -> int:
    """Read the number that bpftrace prints of its map at its end."""
    found = re.search(rf"^@\[{name}\]: (\d+)", output.read_text(encoding="utf-8"), re.M)
    return int(found[1]) if found else 0


def reported_printed(output: Path, child: int) -> Reported:
    """Read the lines that bpftrace prints."""
    exited = None
    for line in output.read_text(encoding="utf-8").splitlines():
        kind, _, rest = line.partition(" ")
        words = rest.split()
        if kind == "exit" and words[1] == str(child):
            exited = int(words[0])
        if kind == "wait" and words[2] == str(child) and exited is not None:
            return Reported(int(words[1]), int(words[0]) - exited)
    return Reported()


def count_strace(output: Path, name: str) -> int:
    """Count processes that called exit_group(2), of whatever name, except the first: the stage."""
    with output.open("rb") as lines:
        stage = lines.readline().split()[0]
        return sum(1 for line in lines if b" exit_group(" in line and line.split()[0] != stage)


def reported_strace(output: Path, child: int) -> Reported:
    """Read `strace -f -ttt`."""
    exited = None
    for line in output.read_text(encoding="utf-8", errors="replace").splitlines():
        pid, when, rest = line.split(None, 2)
        if pid == str(child) and rest.startswith("exit_group("):
            exited = float(when)
        if exited is not None and re.search(rf"wait4.* = {child}\b", rest):
            return Reported(int(pid), (float(when) - exited) * 1e9)
    return Reported()


def reported_perf_trace(output: Path, child: int) -> Reported:
    """Read `perf trace`: milliseconds, how long the call took, COMM/TID, the call."""
    exited = None
    pattern = re.compile(r"^\s*([\d.]+) \(\s*([\d.]*)(?: ms)?\s*\): .*?/(\d+)\s+(.*)$")
    for line in output.read_text(encoding="utf-8", errors="replace").splitlines():
        found = pattern.match(line)
        if found is None:
            continue
        when, took, tid, rest = found.groups()
        if tid == str(child) and rest.startswith("exit_group("):
            exited = float(when)
        if exited is not None and re.search(rf"wait4\(.* = {child}\b", rest):
            return Reported(int(tid), (float(when) + float(took or 0) - exited) * 1e6)
    return Reported()


def _bpftrace(script: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        shell = " ".join(place.stage)
        return ["bpftrace", "-q", "-B", "full", "-o", place.output, "-c", shell, "-e", script]

    return command


_PERF_RECORD = ["perf", "record", "-q", "-a", "-N", "-B", "--no-bpf-event", "-e",
                EVENTS]  # fmt: skip
_PERF_TRACE = ["perf", "trace", "-m", "1024", "-e", CALLS]
_STRACE = ["strace", "-f", "--seccomp-bpf", "-qq", "-ttt", "-e", f"trace={CALLS}", "-e",
           "signal=none"]  # fmt: skip

TOOLS = (
    Tool(
        "zombiebpf-run", "zombiebpf run", _zombiebpf_run, True, count_jsonl, reported_jsonl,
        DESCENDANTS, version=(ZOMBIEBPF, "--version"), cheap=True,
    ),
    Tool(
        "zombiebpf-attach", "zombiebpf attach", _zombiebpf_attach, False, count_jsonl,
        reported_jsonl, DESCENDANTS, version=(ZOMBIEBPF, "--version"),
    ),
    Tool(
        "zombiebpf-attach-o", "zombiebpf attach -o", _zombiebpf_trace, False, count_trace,
        _reported_trace, DESCENDANTS, version=(ZOMBIEBPF, "--version"), cheap=True,
    ),
    Tool(
        "perf-record", "perf record",
        lambda place: [*_PERF_RECORD, "-o", place.output, "--", *place.stage], True, _count_perf,
        version=("perf", "--version"), cheap=True,
    ),
    Tool(
        "bpftrace-count", "bpftrace, count exits", _bpftrace(COUNT), True, count_map,
        version=("bpftrace", "--version"),
    ),
    Tool(
        "bpftrace-print", "bpftrace, print fork, exit, wait", _bpftrace(PRINT), True,
        lines_with(r"^exit \d+ \d+ NAME$"), reported_printed,
        version=("bpftrace", "--version"), cheap=True,
    ),
    Tool(
        "exitsnoop-bcc", "exitsnoop (bcc)", lambda place: bcc_headers.exitsnoop(place.output),
        False, lines_with(r"^NAME "), writes=False,
        version=("dpkg-query", "-W", "bpfcc-tools"),
    ),
    Tool(
        "exitsnoop-libbpf", "exitsnoop (libbpf-tools)", lambda place: ["exitsnoop"], False,
        lines_with(r"^NAME "), writes=False,
        version=("dpkg-query", "-W", "libbpf-tools"),
    ),
    Tool(
        "forkstat", "forkstat",
        lambda place: ["forkstat", "-c", "-e", "fork,exec,exit"], False,
        lines_with(r" exit .*(NAME|<unknown>)\s*$"), writes=False,
        version=("dpkg-query", "-W", "forkstat"),
    ),
    Tool(
        "strace", "strace -f",
        lambda place: [*_STRACE, "-o", place.output, "--", *place.stage], True,
        count_strace, reported_strace, DESCENDANTS, version=("strace", "--version"),
        cheap=True,
    ),
    Tool(
        "perf-trace", "perf trace",
        lambda place: [*_PERF_TRACE, "-o", place.output, "--", *place.stage], True,
        lines_with(r"NAME/\d+ exit_group\("), reported_perf_trace, DESCENDANTS,
        version=("perf", "--version"),
    ),
)  # fmt: skip
BY_KEY = {tool.key: tool for tool in TOOLS}


def version_of(tool: Tool) -> str:
    """Return the tool's version, or an empty string if it is not here."""
    try:
        done = subprocess.run(tool.version, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, check=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    return found[0] if found else ""
