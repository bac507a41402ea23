# SPDX-License-Identifier: Apache-2.0
"""Start a workload, adopt its orphans and reap everything, so that nothing is left behind.

    python workload_reaper.py [--init] [--delay S] [--limit S] [--output FILE] -- CMD...

Become a subreaper (not with --init: then orphans go to the machine's init), start CMD,
wait with blocking waits until no child is left, and exit as CMD did (128+N if signal N
killed it). With --delay, wait S seconds after CMD's end before reaping adopted children.
After --limit, and at SIGINT or SIGTERM, kill what still runs. Scenario files call this
process `keeper`. Runs by itself on Python 3.7 and later, with the standard library only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
FAILED = 70


class Ended(Exception):
    """The time limit was reached, or a signal asked to stop."""


def log(kind: str, **fields: object) -> None:
    """Append an entry to the workload's log (zombiebpf/scenario/workload_log.py)."""
    path = os.environ.get("ZOMBIEBPF_MARKS")
    if not path:
        return
    fields.update(kind=kind, ns=time.monotonic_ns(), pid=os.getpid())
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, (json.dumps(fields, sort_keys=True) + "\n").encode("ascii"))
    os.close(descriptor)


def become_subreaper() -> None:
    """Adopt all orphaned descendants. Raise OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def open_standard_streams() -> None:
    """Open descriptors 0 to 2 if they are closed, so that no other file gets these numbers."""
    while os.open(os.devnull, os.O_RDWR) <= 2:
        pass


def start(command: list[str], output: str | None) -> int:
    """Fork and exec, with an empty standard input and the output in a file. Return the PID."""
    pid = os.fork()
    if pid:
        return pid
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        if output:
            descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def reap_all(pid: int, delay: float) -> int:
    """Reap until no child is left. Return the wait status of `pid`."""
    if delay:
        status = os.waitpid(pid, 0)[1]
        time.sleep(delay)
    else:
        dead, status = os.wait()
        while dead != pid:
            dead, status = os.wait()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return status


def kill_all() -> None:
    """Kill and reap all children, and the orphans that are adopted meanwhile."""
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            for pid in file.read().split():
                os.kill(int(pid), signal.SIGKILL)  # not reaped yet, so it is there
        try:
            os.wait()
        except ChildProcessError:
            return


def end(number: int, frame: object) -> None:
    """Handle a signal: log the reason and raise Ended."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(each, signal.SIG_IGN)
    log("out_of_time" if number == signal.SIGALRM else "interrupted")
    raise Ended


def main() -> int:
    """Run the command line. Return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--init", action="store_true")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--limit", type=float, default=0.0)
    parser.add_argument("--output")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    open_standard_streams()
    try:
        if not given.init:
            become_subreaper()
        log("keeper")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, end)
        signal.setitimer(signal.ITIMER_REAL, given.limit)
        pid = start(given.command, given.output)
        log("started", child=pid, role="parent")
        status = reap_all(pid, given.delay)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Ended:
        kill_all()
        return FAILED
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


if __name__ == "__main__":
    sys.exit(main())
