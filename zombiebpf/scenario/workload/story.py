# SPDX-License-Identifier: Apache-2.0
"""What the workload of a scenario imports, to say what it does.

    import story
    knobs = story.knobs(parent=1.0, child=0.4, start_method="fork")

The scenario engine sets the knobs by the environment and reads what is told here
from a file. Run by hand (python3 NAME.py) a workload does the same with the
values in its own call of knobs(), and nothing is told.

Any Python from 3.7 on, nothing but the standard library, and nothing printed. No
function here waits for a child, and none makes a system call between a mark and
what it marks.
"""

from __future__ import annotations

import json
import os
import time

TYPE_CHECKING = False  # for what only a type checker reads: importing typing takes a while
if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

MARKS = "ZOMBIEBPF_MARKS"  # the file that marks are appended to
KNOBS = "ZOMBIEBPF_KNOBS"  # a JSON object

now_ns = time.monotonic_ns  # CLOCK_MONOTONIC, as the kernel's stamps


def get_native_id() -> int | None:
    """The thread's id in the kernel."""
    import threading

    if hasattr(threading, "get_native_id"):  # Python 3.8
        return threading.get_native_id()
    if threading.current_thread() is threading.main_thread():
        return os.getpid()
    import ctypes
    import platform

    gettid = {"x86_64": 186, "aarch64": 178}.get(platform.machine())
    return int(ctypes.CDLL(None).syscall(gettid)) if gettid else None


class Knobs:
    """The knobs' values as attributes."""

    def __init__(self, values: dict[str, object]) -> None:
        self.__dict__.update(values)

    def __repr__(self) -> str:
        each = ("{}={!r}".format(*item) for item in sorted(self.__dict__.items()))
        return "knobs({})".format(", ".join(each))


def knobs(**defaults: object) -> Knobs:
    """The run's knobs. `start_method` becomes multiprocessing's, unless it is None.

    ValueError if the engine sets a knob that the workload does not have: its
    defaults and those of its YAML file must be the same.
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
    return Knobs(values)


def started(process: BaseProcess | int, role: str = "child") -> None:
    """Say that `process` (a Process or Popen that was started, or a PID) plays `role`."""
    pid = process if isinstance(process, int) else process.pid
    _mark(now_ns(), "started", child=pid, role=role)


def join(process: BaseProcess, timeout: float | None = None) -> None:
    """process.join(timeout), with its begin, its end and what it found."""
    tid = get_native_id()
    began_ns = now_ns()
    process.join(timeout)
    ended_ns = now_ns()
    _mark(
        ended_ns,
        "join",
        tid=tid,
        child=process.pid,
        timeout_s=timeout,
        began_ns=began_ns,
        status=_known_status(process),
    )


def _known_status(process: BaseProcess) -> int | None:
    """What `process` knows of its end; its property exitcode would ask the kernel, and reap."""
    popen = getattr(process, "_popen", None)
    return process.exitcode if popen is None else popen.returncode


def fact(name: str, value: object = None) -> None:
    """Tell what the workload saw itself, as a JSON value, or only that it came here."""
    _mark(now_ns(), "fact", name=name, value=value)


def live(seconds: float) -> None:
    """Live for so long: the article's loop of one-second sleeps, scaled."""
    end = time.monotonic() + seconds
    for left in range(5, 0, -1):
        time.sleep(max(0.0, end - time.monotonic()) / left)


def _mark(ns: int, kind: str, **fields: object) -> None:
    path = os.environ.get(MARKS)
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
