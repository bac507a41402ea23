# SPDX-License-Identifier: Apache-2.0
"""Keeps a workload: adopts its orphans, reaps everything, leaves nothing behind.

    python keeper.py [--init] [--delay S] [--limit S] [--output FILE] -- CMD...

Makes itself a subreaper (with --init it does not: orphans go to the machine's
init), starts CMD, waits for all there is with blocking waits until no child is
left, and exits as CMD did (128+N if signal N killed it). With --delay it waits that
long, from CMD's end, before it reaps what it has adopted. After --limit it kills
what still runs, and so it does at SIGINT and SIGTERM. Stands alone: any Python from
3.7 on, nothing but the standard library.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
FAILED = 70


class Ended(Exception):
    """The time is over, or the user has had enough."""


def mark(kind: str, **fields: object) -> None:
    path = os.environ.get("ZOMBIEBPF_MARKS")
    if not path:
        return
    fields.update(kind=kind, ns=time.monotonic_ns(), pid=os.getpid())
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, (json.dumps(fields, sort_keys=True) + "\n").encode("ascii"))
    os.close(descriptor)


def become_subreaper() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def open_standard_streams() -> None:
    """What is not there must not be taken by the next thing opened."""
    while os.open(os.devnull, os.O_RDWR) <= 2:
        pass


def start(command: list[str], output: str | None) -> int:
    """Fork and exec, with nothing to read, and what it prints in a file."""
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


def keep(pid: int, delay: float) -> int:
    """Reap until nothing is left; the wait status of `pid`."""
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
    """Children, then those that become ours by that, until none is left."""
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            for pid in file.read().split():
                os.kill(int(pid), signal.SIGKILL)  # not reaped yet, so it is there
        try:
            os.wait()
        except ChildProcessError:
            return


def end(number: int, frame: object) -> NoReturn:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(each, signal.SIG_IGN)
    mark("out_of_time" if number == signal.SIGALRM else "interrupted")
    raise Ended


def main() -> int:
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
        mark("keeper")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, end)
        signal.setitimer(signal.ITIMER_REAL, given.limit)
        pid = start(given.command, given.output)
        mark("started", child=pid, role="parent")
        status = keep(pid, given.delay)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Ended:
        kill_all()
        return FAILED
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


if __name__ == "__main__":
    sys.exit(main())
