# SPDX-License-Identifier: Apache-2.0
"""The module that the workloads of scenarios import, to get knobs and to log what they do.

    import story
    knobs = story.knobs(parent=1.0, child=0.4, start_method="fork")

The scenario runner passes the knobs in the environment and reads the log from a file.
Run by hand (python3 NAME.py), a workload uses the values in its own call of knobs(), and
logs nothing.

Runs on Python 3.7 and later, uses the standard library only, and prints nothing. Only
join() waits for a child, and no function makes a system call between an event and the
instant that it logs for it.
"""

from __future__ import annotations

import json
import os
import time
from types import SimpleNamespace

TYPE_CHECKING = False  # for what only a type checker reads: importing typing takes a while
if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

LOG = "ZOMBIEBPF_MARKS"  # the file that log entries are appended to
KNOBS = "ZOMBIEBPF_KNOBS"  # a JSON object

now_ns = time.monotonic_ns  # CLOCK_MONOTONIC, as the kernel's stamps


def get_native_id() -> int | None:
    """Return the kernel's ID of this thread; None: unknown, before Python 3.8."""
    import threading

    if hasattr(threading, "get_native_id"):  # Python 3.8
        return threading.get_native_id()
    if threading.current_thread() is threading.main_thread():
        return os.getpid()
    import ctypes
    import platform

    gettid = {"x86_64": 186, "aarch64": 178}.get(platform.machine())
    return int(ctypes.CDLL(None).syscall(gettid)) if gettid else None


def knobs(**defaults: object) -> SimpleNamespace:
    """Return the knobs of the run, and set the start method of multiprocessing if there is one.

    Raise ValueError if the runner passes a knob that the workload does not have: its
    defaults and those of its YAML file must have the same names.
    """
    values = dict(defaults)
    values.setdefault("start_method", None)
    given = json.loads(os.environ.get(KNOBS, "{}"))
    unknown = sorted(set(given) - set(values))
    if unknown:
        raise ValueError("story.knobs() lacks {}".format(", ".join(unknown)))
    values.update(given)
    if values["start_method"] is not None:
        import multiprocessing

        # a spawned child, which imports the workload anew, has its method already
        if multiprocessing.get_start_method(allow_none=True) is None:
            multiprocessing.set_start_method(str(values["start_method"]))
    return SimpleNamespace(**values)


def started(process: BaseProcess | int, role: str = "child") -> None:
    """Log that `process` (a started Process or Popen, or a PID) plays `role`."""
    pid = process if isinstance(process, int) else process.pid
    _log(now_ns(), "started", child=pid, role=role)


def join(process: BaseProcess, timeout: float | None = None) -> None:
    """Call process.join(timeout), and log when it began and ended and the status it found."""
    tid = get_native_id()
    began_ns = now_ns()
    process.join(timeout)
    ended_ns = now_ns()
    _log(
        ended_ns,
        "join",
        tid=tid,
        child=process.pid,
        timeout_s=timeout,
        began_ns=began_ns,
        status=_known_status(process),
    )


def _known_status(process: BaseProcess) -> int | None:
    """Return the exit status that is known; the property exitcode would call wait() and reap."""
    popen = getattr(process, "_popen", None)
    return process.exitcode if popen is None else popen.returncode


def fact(name: str, value: object = None) -> None:
    """Log a fact that the workload saw itself, as a JSON value, or only that it got here."""
    _log(now_ns(), "fact", name=name, value=value)


def live(seconds: float) -> None:
    """Sleep for that long, in five parts: the article's loop of one-second sleeps, scaled."""
    end = time.monotonic() + seconds
    for left in range(5, 0, -1):
        time.sleep(max(0.0, end - time.monotonic()) / left)


def _log(ns: int, kind: str, **fields: object) -> None:
    path = os.environ.get(LOG)
    if not path:
        return
    fields.setdefault("tid", get_native_id())
    fields.update(kind=kind, ns=ns, pid=os.getpid())
    line = json.dumps(fields, sort_keys=True) + "\n"
    # one write of one line: the kernel keeps those of several processes apart
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, line.encode("ascii"))
    finally:
        os.close(descriptor)
