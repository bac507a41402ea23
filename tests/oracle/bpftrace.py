# SPDX-License-Identifier: Apache-2.0
"""A second oracle: bpftrace reads from the dying task what ftrace's events do not carry."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

# wait_task_zombie() chooses between the same two codes; 4 is SIGNAL_GROUP_EXIT.
SCRIPT = """
BEGIN { printf("ready\\n"); }
tracepoint:sched:sched_process_exit
{
    $p = (struct task_struct *)curtask;
    if ($p->signal->live.counter == 0) {
        $code = $p->group_leader->exit_code;
        if ($p->signal->flags & 4) {
            $code = $p->signal->group_exit_code;
        }
        printf("x %llu %d %d %d\\n", nsecs, $p->tgid,
               $p->group_leader->real_parent->tgid, $code);
    }
}
"""


# Who got which child from wait4(2), whichever of the C library's functions called it.
WAITS = """
tracepoint:syscalls:sys_exit_wait4
/args->ret > 0/
{
    printf("w %llu %d %d %d\\n", nsecs, pid, tid, args->ret);
}
"""


def _with_btf() -> list[str]:
    """The option by which old ones read the kernel's types though the script has tracepoints."""
    done = subprocess.run(["bpftrace", "--help"], capture_output=True, text=True, check=False)
    return ["-b"] if re.search(r"^ +-b .*BTF", done.stdout + done.stderr, re.MULTILINE) else []


class Death(NamedTuple):
    """The last thread of `pid` exited at `ns` (CLOCK_MONOTONIC, within microseconds)."""

    ns: int
    pid: int
    parent: int  # real_parent's PID at that instant
    status: int  # the wait(2) word


class Waited(NamedTuple):
    """wait4(2) has returned `child` to `pid`'s thread `tid` at `ns`."""

    ns: int
    pid: int
    tid: int
    child: int


class Watch:
    """A context: bpftrace runs in it. RuntimeError if it does not start or loses events.

    With `waits`, what wait4(2) has returned is in `waited` after stop().
    """

    def __init__(self, waits: bool = False) -> None:
        self._script = SCRIPT + WAITS if waits else SCRIPT
        self.waited: list[Waited] = []

    def __enter__(self) -> Watch:
        self._directory = tempfile.TemporaryDirectory()
        self._output = Path(self._directory.name) / "output"
        self._errors = Path(self._directory.name) / "errors"
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                ["bpftrace", *_with_btf(), "-B", "line", "-e", self._script],
                stdout=output,
                stderr=errors,
                env={**os.environ, "BPFTRACE_PERF_RB_PAGES": "256"},
            )
        deadline = time.monotonic() + 60
        while "ready" not in self._output.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._stop()
                raise RuntimeError(f"bpftrace does not start: {self._errors.read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._directory.cleanup()

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def stop(self) -> list[Death]:
        """Stop; all deaths of the machine meanwhile."""
        self._stop()
        both = self._output.read_text() + self._errors.read_text()
        if "Lost " in both:
            raise RuntimeError("bpftrace lost events: " + self._errors.read_text())
        # bpftrace's nsecs is CLOCK_BOOTTIME where the kernel has it; they differ by suspends only.
        offset = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
        deaths = []
        for line in self._output.read_text().splitlines():
            if line.startswith("x "):
                ns, pid, parent, status = map(int, line.split()[1:])
                deaths.append(Death(ns - offset, pid, parent, status))
            elif line.startswith("w "):
                ns, pid, tid, child = map(int, line.split()[1:])
                self.waited.append(Waited(ns - offset, pid, tid, child))
        return deaths
